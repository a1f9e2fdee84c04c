//! Settings in TOML files.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::fstatvfs;
use rustix::process::geteuid;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::definitions::nearest;
use super::error::{Origin, SettingsError, in_file};
use super::raw_value::RawValue;
use super::value::TomlType;
use super::{SETTINGS, Setting, syntax};
use crate::root::{Root, is_read_only};
use crate::text::truncate;

/// Maximum size of a file in bytes, because a device or a wrong file may have no end.
const SIZE_MAX: usize = 1024 * 1024;

/// Values and mistakes of a file, each with its line.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) values: Vec<(usize, RawValue)>,
    pub(super) mistakes: Vec<(usize, String)>,
}

/// Returns the files of a directory in reading order: `config.toml` first, then `conf.d/*.toml` by
/// name. Names that begin with a dot are ignored, because editors use them for their own files.
pub(super) fn in_directory(directory: &Path) -> Result<Vec<PathBuf>, SettingsError> {
    let main = directory.join("config.toml");
    let mut files = Vec::new();
    check_directory(directory, false)?;
    if exists("settings file", &main)? {
        files.push(main);
    }

    let fragments = directory.join("conf.d");
    check_directory(&fragments, false)?;
    let list = || {
        fs::read_dir(&fragments)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<BTreeSet<_>>>()
    };
    let names = if exists("directory", &fragments)? {
        list().map_err(|error| SettingsError::cannot_read("directory", &fragments, &error))?
    } else {
        BTreeSet::new()
    };
    let is_fragment = |name: &&OsString| {
        let name = name.to_string_lossy();
        name.ends_with(".toml") && !name.starts_with('.')
    };
    let paths = names
        .iter()
        .filter(is_fragment)
        .map(|name| fragments.join(name));
    files.extend(paths);
    Ok(files)
}

/// Whether the path exists. A dangling link counts, because its file is meant to be read.
fn exists(what: &str, path: &Path) -> Result<bool, SettingsError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(SettingsError::cannot_read(what, path, &error)),
    }
}

/// Checks that only root and the owner may change the entries of a directory. A missing directory
/// passes. In a sticky directory, others may add files, but not replace them.
pub(super) fn check_directory(path: &Path, may_be_sticky: bool) -> Result<(), SettingsError> {
    // The path of a file may have no directory.
    let here = Path::new(".");
    let path = if path == Path::new("") { here } else { path };
    let Ok(metadata) = path.metadata() else {
        return Ok(());
    };
    let is_sticky = metadata.mode() & 0o1000 != 0;
    if is_sticky && may_be_sticky {
        return Ok(());
    }
    let reason = reason_to_refuse(path, &metadata, started_as_root());
    match reason.filter(|_| !is_read_only(rustix::fs::statvfs(path))) {
        Some(reason) => Err(SettingsError::refusing("directory", path, &reason)),
        None => Ok(()),
    }
}

/// Whether the process was root when it read settings for the first time. The confined agent keeps
/// the rules of its start, because only a file that obeys them lets it start again.
fn started_as_root() -> bool {
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| geteuid().is_root())
}

/// Returns the reason to refuse a file or directory that others than root and the owner may write.
/// The group matters only to a process of root, because files of other users often belong to a
/// group of that user alone.
pub(super) fn reason_to_refuse(path: &Path, metadata: &Metadata, is_root: bool) -> Option<String> {
    let (mode, group, path) = (metadata.mode(), metadata.gid(), path.display());
    if mode & 0o002 != 0 {
        return Some(format!("writable by every user; run: chmod o-w {path}"));
    }
    (is_root && mode & 0o020 != 0 && group != 0)
        .then(|| format!("writable by group {group}; run: chmod g-w {path}"))
}

/// Whether the path is a link to `/dev/null`, which means an empty file as for systemd.
fn is_masked(path: &Path) -> bool {
    fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
}

/// Reads a file. It must be a regular one, so that the agent never waits for the writer of a FIFO.
pub(super) fn read(path: &Path) -> Result<Contents, SettingsError> {
    if is_masked(path) {
        return Ok(Contents::default());
    }
    let absolute = std::path::absolute(path)
        .map_err(|error| SettingsError::cannot_read("settings file", path, &error))?;
    let failed = |error: io::Error| {
        // The error may name the file, which this message does already.
        let (reason, name) = (error.to_string(), format!("{}: ", absolute.display()));
        let reason = reason.strip_prefix(&name).unwrap_or(&reason);
        SettingsError::cannot_read("settings file", path, &reason)
    };

    let file = Root::default().open(&absolute).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let reason = reason_to_refuse(path, &metadata, started_as_root());
    if let Some(reason) = reason.filter(|_| !is_read_only(fstatvfs(&file))) {
        return Err(SettingsError::refusing("settings file", path, &reason));
    }
    let bytes = crate::root::read_all(file, SIZE_MAX).map_err(failed)?;

    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let start = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let message = format!("{}: not UTF-8", in_file(path, line_after(start)));
        SettingsError::new(vec![message])
    })?;
    Ok(parse(path, text))
}

/// Returns the number of the line in which a text ends.
fn line_after(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'\n').count()
}

/// Parses the text of a file. The parser recovers from syntax errors, so that all mistakes of a
/// file are found at once.
pub(super) fn parse(path: &Path, text: &str) -> Contents {
    let line = |offset: usize| line_after(text.as_bytes().get(..offset).unwrap_or_default());
    let mut contents = Contents::default();
    let mut unquoted = Vec::new();
    // Keys after a broken table header would count as keys of another table.
    let mut end = text.len();

    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(text.len()..text.len());
        if error.message().starts_with(syntax::UNQUOTED) {
            unquoted.push(span);
            continue;
        }
        if error.message().contains(syntax::BROKEN_HEADER) {
            end = end.min(span.start);
        }
        let line = line(span.start);
        // The parser recovers at the next line, so later errors of the same line are not reliable.
        if contents.mistakes.iter().all(|(other, _)| *other != line) {
            let reason = syntax::explain(error.message(), text.get(span).unwrap_or_default());
            let message = format!("{}: {reason}", in_file(path, line));
            contents.mistakes.push((line, message));
        }
    }

    let mut leaves = Vec::new();
    flatten("", table.get_ref(), &mut leaves);
    leaves.retain(|leaf| leaf.offset < end);
    leaves.sort_by_key(|leaf| leaf.offset);
    for leaf in leaves {
        let line = line(leaf.offset);
        if contents.mistakes.iter().any(|(other, _)| *other == line) {
            continue;
        }
        let origin = Origin::File(path.to_owned(), line);
        let is_unquoted = unquoted.iter().any(|span| leaf.contains(span));
        match leaf.into_value(text, origin, is_unquoted) {
            Ok(value) => contents.values.push((line, value)),
            Err(message) => contents
                .mistakes
                .push((line, xenstore::escape(&message).into_owned())),
        }
    }
    contents
}

/// Key with its value.
struct Leaf<'a> {
    /// Key, with the names of its tables before it.
    key: String,
    /// Position of the key in bytes.
    offset: usize,
    value: &'a Spanned<DeValue<'a>>,
}

impl Leaf<'_> {
    fn contains(&self, span: &Range<usize>) -> bool {
        let value = self.value.span();
        value.start <= span.start && span.end <= value.end
    }

    /// Returns the value of the setting that the key names, or a message about what is wrong.
    fn into_value(self, text: &str, origin: Origin, is_unquoted: bool) -> Result<RawValue, String> {
        let Leaf { key, value, .. } = self;
        let spelling = spelling(text, value);
        if SETTINGS.iter().any(|setting| setting.table() == key) {
            return Err(format!(
                "{origin}: {key}: invalid value {spelling}; expected a table"
            ));
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let nearest = nearest(&key).map(|nearest| format!("; did you mean {nearest}?"));
            return Err(format!(
                "{origin}: there is no setting {}{}",
                truncate(&key),
                nearest.unwrap_or_default()
            ));
        };

        let words = words(setting, value.get_ref());
        if is_unquoted && spelling.is_empty() {
            return Err(format!("{origin}: {key}: the value is missing"));
        }
        if is_unquoted {
            let is_valid = words.as_ref().is_some_and(|words| setting.accepts(words));
            return Err(if is_valid {
                format!("{origin}: {key}: missing quotes around {spelling}")
            } else {
                origin.invalid(setting, &spelling, &setting.allowed())
            });
        }
        if let (true, Some(values)) = (setting.is_list(), value.get_ref().as_array()) {
            let mut values = values.iter();
            if let Some(other) = values.find(|value| !value.get_ref().is_str()) {
                let found = self::spelling(text, other);
                return Err(origin.invalid(setting, &found, &setting.allowed_word()));
            }
        }
        Ok(RawValue {
            setting,
            origin,
            words,
            spelling,
        })
    }
}

/// Collects all keys with values from all tables. A table counts as a value if it has the name of
/// a setting, or if it is unknown and empty.
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

/// Returns the words of a value, or `None` if its TOML type is not the setting's.
fn words(setting: &Setting, value: &DeValue<'_>) -> Option<Vec<String>> {
    let (toml_type, words) = match value {
        DeValue::Boolean(is_on) => (TomlType::Boolean, vec![is_on.to_string()]),
        DeValue::Integer(number) if number.radix() == 10 => {
            (TomlType::Number, vec![number.as_str().to_owned()])
        }
        DeValue::Float(number) => (TomlType::Number, vec![number.as_str().to_owned()]),
        DeValue::String(text) => (TomlType::String, vec![text.to_string()]),
        DeValue::Array(values) => {
            let words = values.iter().map(|value| value.get_ref().as_str());
            let words = words.map(|word| word.map(str::to_owned));
            (TomlType::Array, words.collect::<Option<_>>()?)
        }
        DeValue::Integer(_) | DeValue::Datetime(_) | DeValue::Table(_) => return None,
    };
    (toml_type == setting.toml_type()).then_some(words)
}

/// Returns a value as it is spelled in the file, shortened for a message.
fn spelling(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    if value.get_ref().is_table() {
        return "a table".to_owned();
    }
    truncate(text.get(value.span()).unwrap_or_default())
}
