//! Output of a tree as a JSON object.

use std::io::{self, Write};

use serde_json::{Value, json};
use xenstore::Permissions;
use xenstore::walk::Node;

use crate::json::{to_text, value};

/// Prints the object member by member, so that a large tree is never held in memory.
#[derive(Debug, Default)]
pub(crate) struct Json {
    has_members: bool,
}

impl Json {
    pub(crate) fn print(&mut self, node: &Node, out: &mut dyn Write) -> io::Result<()> {
        let value = node.value.as_ref().map(|bytes| value(bytes));
        let mut member = value.unwrap_or(Value::Null);
        if let Some(permissions) = &node.permissions {
            let texts = |permissions: &Permissions| -> Vec<_> {
                permissions
                    .to_list()
                    .map(|entry| entry.to_string())
                    .collect()
            };
            let permissions = permissions.as_ref().ok().map(texts);
            member = json!({ "value": member, "permissions": permissions });
        }
        out.write_all(if self.has_members { b",\n  " } else { b"{\n  " })?;
        self.has_members = true;
        write!(
            out,
            "{}: {}",
            Value::from(node.path.as_str()),
            to_text(&member)
        )
    }

    pub(crate) fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.has_members { b"\n}\n" } else { b"{}\n" })
    }
}
