//! JSON output.

use serde_json::{Value, json};

/// Returns the value of a node: a string, or an array of bytes if it is not UTF-8.
pub(crate) fn value(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!(bytes), Value::from)
}

/// Returns JSON as text in which the values of guests cannot control the terminal of the host.
pub(crate) fn to_text(json: &Value) -> String {
    xenstore::escape(&json.to_string()).into_owned()
}
