//! Output of a tree as a JSON object.

use std::io::{self, Write};

use serde_json::{Value, json};
use xenstore::walk::Node;
use xenstore::{Permission, escape};

/// Prints the object member by member, so that a large tree is never held in memory.
#[derive(Debug, Default)]
pub(crate) struct Json {
    has_members: bool,
}

impl Json {
    pub(crate) fn print(&mut self, node: &Node, out: &mut dyn Write) -> io::Result<()> {
        let mut value = match &node.value {
            Err(_) => Value::Null,
            Ok(value) => std::str::from_utf8(value).map_or_else(|_| json!(value), Value::from),
        };
        if let Some(permissions) = &node.permissions {
            let texts = |permissions: &Vec<_>| {
                permissions
                    .iter()
                    .map(Permission::to_string)
                    .collect::<Vec<_>>()
            };
            let permissions = permissions.as_ref().ok().map(texts);
            value = json!({ "value": value, "permissions": permissions });
        }
        out.write_all(if self.has_members { b",\n  " } else { b"{\n  " })?;
        self.has_members = true;
        // The values of guests must not control the terminal of the host.
        let value = value.to_string();
        write!(
            out,
            "{}: {}",
            Value::from(node.path.as_str()),
            escape(&value)
        )
    }

    pub(crate) fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.has_members { b"\n}\n" } else { b"{}\n" })
    }
}
