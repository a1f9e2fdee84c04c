//! Output of a tree as text, equal to that of Xen's `xenstore-ls` except for the colours.

use std::io::{self, Write};

use xenstore::walk::Node;

use crate::escape::escape;

/// Width in columns without a terminal.
const WIDTH: usize = 80;

/// Columns reserved for ` = "` and `..."`.
const RESERVED: usize = 8;

/// Column of the permissions if the line is wide enough.
const PERMISSIONS: usize = 60;

#[derive(Debug)]
pub(crate) struct Text {
    /// Whether to print whole paths instead of indented names.
    flat: bool,
    /// Width in columns, or `None` for no limit.
    width: Option<usize>,
    colours: bool,
}

impl Text {
    /// Creates the format. `columns` is the width of the terminal if there is one.
    pub(crate) fn new(flat: bool, columns: Option<usize>, colours: bool) -> Self {
        let without_terminal = if flat { None } else { Some(WIDTH) };
        // A terminal of unknown size, such as a serial line, reports 0. Xen's tools then cut
        // nothing off.
        let width = columns.map_or(without_terminal, |columns| columns.checked_sub(2));
        Text {
            flat,
            width,
            colours,
        }
    }

    pub(crate) fn print(&self, node: &Node, out: &mut dyn Write) -> io::Result<()> {
        // In Xen's tools the length of a path does not count, not even if the line is cut at the
        // terminal's edge.
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
        // As in Xen's tools, the length of the value counts, even if its text with escapes is
        // longer.
        let is_cut = self
            .width
            .is_some_and(|width| width < column + value.len() + RESERVED);
        out.write_all(b" = ")?;
        if is_cut {
            self.coloured("32", &format!("\"{}\\...\"", self.cut(&text, column)), out)?;
        } else {
            self.coloured("32", &format!("\"{text}\""), out)?;
            column += text.len() + " = \"\"".len();
        }
        if let Some(Ok(permissions)) = &node.permissions {
            let permissions = permissions.to_string().replace(' ', ",");
            let dots = if is_cut {
                String::new()
            } else {
                self.dots(column)
            };
            self.coloured("2", &format!("{dots}  ({permissions})"), out)?;
        }
        out.write_all(b"\n")
    }

    /// Returns the part of `text` that fits from `column` on. If nothing fits, returns all of it,
    /// like Xen's tools.
    fn cut<'t>(&self, text: &'t str, column: usize) -> &'t str {
        let room = self
            .width
            .and_then(|width| width.checked_sub(RESERVED + column));
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
        let mut node = Node::new(path.parse().unwrap(), depth);
        node.value = Ok(value.into());
        node.children = Ok(children);
        node.permissions = Some(Ok("n0 r5".parse().unwrap()));
        node
    }

    #[test]
    fn colours_do_not_change_the_text() {
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
    fn values_are_cut_at_the_width() {
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
        // A value is not cut if there is no room at all.
        assert_eq!(start(Some(10)), (100, true));
    }

    #[test]
    fn unreadable_value_is_omitted() {
        let mut hidden = node("/a/b", 2, "");
        hidden.value = Err(Error::no_server(""));
        assert_eq!(line(&Text::new(false, None, false), &hidden), " b:\n\n");
        assert_eq!(
            line(&Text::new(true, None, false), &hidden),
            " /a/b:\n\n".trim_start_matches(' ')
        );
    }
}
