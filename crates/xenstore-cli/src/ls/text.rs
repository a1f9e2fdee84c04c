//! A tree as text, byte for byte that of Xen's `xenstore-ls`, but for the colours.

use std::io::{self, Write};

use xenstore::Permission;
use xenstore::walk::Node;

use crate::escape::escape;

/// The width where there is no terminal.
const WIDTH: usize = 80;

/// Columns that are kept for ` = "` and `..."`.
const KEPT: usize = 8;

/// The column where permissions stand, where the line is wide enough.
const PERMISSIONS: usize = 60;

#[derive(Debug)]
pub(crate) struct Text {
    /// Whole paths instead of indented names.
    flat: bool,
    /// None for no limit.
    width: Option<usize>,
    colours: bool,
}

impl Text {
    /// `columns` are those of the terminal, where there is one.
    pub(crate) fn new(flat: bool, columns: Option<usize>, colours: bool) -> Self {
        // A terminal that does not know its size, as on a serial line, says 0. Xen's tools cut nothing off then.
        let elsewhere = if flat { None } else { Some(WIDTH) };
        let width = columns.map_or(elsewhere, |columns| columns.checked_sub(2));
        Text {
            flat,
            width,
            colours,
        }
    }

    pub(crate) fn print(&self, node: &Node, out: &mut dyn Write) -> io::Result<()> {
        // In Xen's tools a path takes no room from its value, not even where the line is cut off at the terminal's edge.
        let (name, mut column) = if self.flat {
            (node.path.as_str(), 0)
        } else {
            let indent = node.depth.saturating_sub(1);
            write!(out, "{:indent$}", "")?;
            let name = self.cut(node.path.name(), indent);
            (name, indent + name.len())
        };
        let has_children = node.children.as_ref().is_ok_and(|names| !names.is_empty());
        self.coloured(if has_children { "1;34" } else { "" }, name, out)?;
        let Ok(value) = &node.value else {
            return out.write_all(b":\n\n");
        };
        let text = escape(value);
        // It is the value's own length that decides, even where the text with escapes is longer.
        let is_cut = self
            .width
            .is_some_and(|width| width < column + value.len() + KEPT);
        out.write_all(b" = ")?;
        if is_cut {
            self.coloured("32", &format!("\"{}\\...\"", self.cut(&text, column)), out)?;
        } else {
            self.coloured("32", &format!("\"{text}\""), out)?;
            column += text.len() + " = \"\"".len();
        }
        if let Some(Ok(permissions)) = &node.permissions {
            let permissions: Vec<_> = permissions.iter().map(Permission::to_string).collect();
            let dots = if is_cut {
                String::new()
            } else {
                self.dots(column)
            };
            self.coloured("2", &format!("{dots}  ({})", permissions.join(",")), out)?;
        }
        out.write_all(b"\n")
    }

    /// What has room of a text that starts at `column`. Where the line is full already, Xen's tools print all of it.
    fn cut<'t>(&self, text: &'t str, column: usize) -> &'t str {
        let room = self
            .width
            .and_then(|width| width.checked_sub(KEPT + column));
        room.and_then(|room| text.get(..room)).unwrap_or(text)
    }

    fn dots(&self, column: usize) -> String {
        let end = if self.flat {
            0
        } else {
            self.width.unwrap_or(0).min(PERMISSIONS)
        };
        let dots = (column + 1..end).map(|column| if column % 2 == 1 { '.' } else { ' ' });
        [' '].into_iter().chain(dots).collect()
    }

    fn coloured(&self, colour: &str, text: &str, out: &mut dyn Write) -> io::Result<()> {
        if self.colours && !colour.is_empty() {
            write!(out, "\x1b[{colour}m{text}\x1b[m")
        } else {
            write!(out, "{text}")
        }
    }
}

#[cfg(test)]
mod tests {
    use xenstore::Error;

    use super::*;

    fn line(text: &Text, node: &Node) -> String {
        let mut out = Vec::new();
        text.print(node, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn node(path: &str, depth: usize, value: &str) -> Node {
        let children = if depth == 1 {
            vec!["below".to_owned()]
        } else {
            Vec::new()
        };
        let permissions = ["n0", "r5"].map(|text| Permission::parse(text.as_bytes()).unwrap());
        Node {
            path: path.parse().unwrap(),
            depth,
            value: Ok(value.into()),
            children: Ok(children),
            permissions: Some(Ok(permissions.into())),
        }
    }

    #[test]
    fn colours_are_around_what_is_printed_without() {
        let plain = line(
            &Text::new(false, Some(100), false),
            &node("/a/b", 1, "value"),
        );
        let coloured = line(
            &Text::new(false, Some(100), true),
            &node("/a/b", 1, "value"),
        );
        assert!(
            coloured.starts_with("\x1b[1;34mb\x1b[m = \x1b[32m\"value\"\x1b[m"),
            "{coloured:?}"
        );
        let mut without = coloured;
        for code in ["\x1b[1;34m", "\x1b[32m", "\x1b[2m", "\x1b[m"] {
            without = without.replace(code, "");
        }
        assert_eq!(without, plain);
    }

    #[test]
    fn narrow_and_wide() {
        let long = "v".repeat(100);
        let start = |columns| {
            let line = line(
                &Text::new(false, columns, false),
                &node("/a/name", 2, &long),
            );
            (
                line.matches('v').count(),
                line.contains("\\...\"  (n0,r5)\n"),
            )
        };
        assert_eq!(start(None), (80 - 8 - 5, true));
        assert_eq!(start(Some(40)), (38 - 8 - 5, true));
        assert_eq!(start(Some(200)), (100, false));
        assert_eq!(start(Some(0)), (100, false));
        // No room at all: not cut.
        assert_eq!(start(Some(10)), (100, true));
    }

    #[test]
    fn what_may_not_be_read() {
        let hidden = Node {
            value: Err(Error::Protocol(String::new())),
            ..node("/a/b", 2, "")
        };
        assert_eq!(line(&Text::new(false, None, false), &hidden), " b:\n\n");
        assert_eq!(
            line(&Text::new(true, None, false), &hidden),
            " /a/b:\n\n".trim_start_matches(' ')
        );
    }
}
