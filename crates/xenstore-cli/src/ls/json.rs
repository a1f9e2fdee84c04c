//! A tree as one JSON object.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::walk::Node;

/// Prints the object member by member, so that a big tree is never held as a whole.
#[derive(Debug, Default)]
pub(crate) struct Json {
    has_begun: bool,
}

impl Json {
    pub(crate) fn print(&mut self, node: &Node<'_>, out: &mut dyn Write) -> io::Result<()> {
        let mut value = match &node.value {
            None => Value::Null,
            Some(value) => std::str::from_utf8(value).map_or_else(|_| json!(value), Value::from),
        };
        if let Some(permissions) = &node.permissions {
            value = json!({ "value": value, "permissions": permissions });
        }
        out.write_all(if self.has_begun { b",\n  " } else { b"{\n  " })?;
        self.has_begun = true;
        write!(out, "{}: {value}", Value::from(node.path))
    }

    pub(crate) fn end(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.has_begun { b"\n}\n" } else { b"{}\n" })
    }
}
