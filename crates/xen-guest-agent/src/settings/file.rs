//! Settings in TOML files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definitions::nearest;
use super::value::Form;
use super::{Given, Origin, SETTINGS, Wrong, cannot_read};
use crate::root::Root;
use crate::text::truncate;

/// The most bytes that a file has.
const SIZE_MAX: usize = 1024 * 1024;

/// The files of a directory in the order in which they are read: `config.toml` first, then `conf.d/*.toml` by name. None
/// has to be there. Names that begin with a dot are left out: editors keep their own files under such.
pub(super) fn in_directory(directory: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let main = directory.join("config.toml");
    let mut files = Vec::new();
    if is_there(&main)? {
        files.push(main);
    }
    let fragments = directory.join("conf.d");
    let list = || {
        fs::read_dir(&fragments)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<BTreeSet<_>>>()
    };
    let names = if is_there(&fragments)? {
        list().map_err(|error| cannot_read(&fragments, &error))?
    } else {
        BTreeSet::new()
    };
    let is_fragment = |name: &&OsString| {
        let name = name.to_string_lossy();
        name.ends_with(".toml") && !name.starts_with('.')
    };
    files.extend(
        names
            .iter()
            .filter(is_fragment)
            .map(|name| fragments.join(name)),
    );
    Ok(files)
}

/// Whether anything stands there, be it a link to nothing: that was meant to be read.
fn is_there(path: &Path) -> Result<bool, Wrong> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(cannot_read(path, &error)),
    }
}

/// What a file sets, in the order of its lines. It is a regular file, and small: the agent waits for no writer to a FIFO,
/// and has no memory for what has no end.
pub(super) fn read(path: &Path) -> Result<Vec<Given>, Wrong> {
    let absolute = std::path::absolute(path).map_err(|error| cannot_read(path, &error))?;
    let Some(name) = absolute.to_str() else {
        return Err(Wrong::new(&format!(
            "{}: the path is not UTF-8",
            path.display()
        )));
    };
    // Its errors name the file.
    let bytes = Root::default()
        .read(name, SIZE_MAX)
        .map_err(|error| Wrong::new(&error.to_string()))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let start = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Wrong::new(&format!("{}: not UTF-8", line_after(path, start)))
    })?;
    parse(path, text)
}

/// The line that is behind `start` in a file.
fn line_after(path: &Path, start: &[u8]) -> Origin {
    Origin::File(path.to_owned(), start.split(|byte| *byte == b'\n').count())
}

/// The same of its text; `path` is for messages.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Given>, Wrong> {
    let origin =
        |offset: usize| line_after(path, text.as_bytes().get(..offset).unwrap_or_default());
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(text.len()..text.len());
        let (origin, message) = (origin(span.start), error.message());
        let key = if message == "duplicate key" {
            text.get(span).unwrap_or_default()
        } else {
            ""
        };
        Wrong::new(format!("{origin}: {message} {}", truncate(key)).trim_end())
    })?;
    let mut leaves = Vec::new();
    flatten("", table.get_ref(), &mut leaves);
    leaves.sort_by_key(|leaf| leaf.offset);
    let mut given = Vec::new();
    for Leaf { key, offset, value } in leaves {
        let origin = origin(offset);
        let found = found(text, value);
        if SETTINGS.iter().any(|setting| setting.table() == key) {
            return Err(Wrong::new(&format!(
                "{origin}: {key} is {found}; allowed: a table"
            )));
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let nearest = nearest(&key)
                .map_or_else(String::new, |nearest| format!("; the nearest is {nearest}"));
            return Err(Wrong::new(&format!(
                "{origin}: there is no setting {}{nearest}",
                truncate(&key)
            )));
        };
        let elements = if setting.is_list() {
            value.get_ref().as_array()
        } else {
            None
        };
        if let Some(element) = elements
            .into_iter()
            .flatten()
            .find(|element| !element.get_ref().is_str())
        {
            return Err(setting.has_wrong(&origin, &self::found(text, element)));
        }
        let (form, words) =
            words(value.get_ref()).map_or((None, Vec::new()), |(form, words)| (Some(form), words));
        given.push(Given {
            setting,
            origin,
            form,
            words,
            found,
        });
    }
    Ok(given)
}

/// A key with its value.
struct Leaf<'a> {
    /// With the tables that it is in before it.
    key: String,
    /// Where the key stands.
    offset: usize,
    value: &'a Spanned<DeValue<'a>>,
}

/// All keys with values, through all tables. A table is a value where a setting should stand, or nothing is in it.
fn flatten<'a>(table: &str, entries: &'a DeTable<'a>, leaves: &mut Vec<Leaf<'a>>) {
    for (name, value) in entries {
        let key = if table.is_empty() {
            name.get_ref().to_string()
        } else {
            format!("{table}.{}", name.get_ref())
        };
        let is_table = SETTINGS.iter().any(|setting| setting.table() == key);
        let is_setting = SETTINGS.iter().any(|setting| setting.key == key);
        match value.get_ref() {
            DeValue::Table(entries) if is_table || !(is_setting || entries.is_empty()) => {
                flatten(&key, entries, leaves);
            }
            _ => leaves.push(Leaf {
                key,
                offset: name.span().start,
                value,
            }),
        }
    }
}

/// How TOML writes a value, and the words of it; none for a value that no setting has.
fn words(value: &DeValue<'_>) -> Option<(Form, Vec<String>)> {
    match value {
        DeValue::Boolean(is_on) => Some((Form::Switch, vec![is_on.to_string()])),
        DeValue::Integer(number) if number.radix() == 10 => {
            Some((Form::Number, vec![number.as_str().to_owned()]))
        }
        DeValue::Float(number) => Some((Form::Number, vec![number.as_str().to_owned()])),
        DeValue::String(text) => Some((Form::Text, vec![text.to_string()])),
        DeValue::Array(values) => {
            let words = values
                .iter()
                .map(|value| value.get_ref().as_str().map(str::to_owned))
                .collect::<Option<_>>();
            words.map(|words| (Form::List, words))
        }
        DeValue::Integer(_) | DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

/// A value as it stands in the file, as far as it fits into a line.
fn found(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    if value.get_ref().is_table() {
        return "a table".to_owned();
    }
    truncate(text.get(value.span()).unwrap_or_default())
}
