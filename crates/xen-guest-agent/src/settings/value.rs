//! Types of values: how each is parsed from words and written as TOML.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use glob::Pattern;
use ipnet::IpNet;

use super::Endpoint;
use crate::collect::network;
use crate::confine;
use crate::logging::LogFilter;
use crate::schema;
use crate::text::quote;

/// Valid periods in seconds. A poll itself takes some milliseconds. No user needs more than a day.
const PERIODS: RangeInclusive<f64> = 0.01..=86_400.0;

/// Valid node budgets. Fewer nodes would not hold the essential facts. No store has more.
const NODE_BUDGETS: RangeInclusive<usize> = 50..=1_000_000;

/// Type of a value in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TomlType {
    /// A boolean.
    Boolean,
    /// An integer or a float.
    Number,
    /// A string.
    String,
    /// An array of strings.
    Array,
}

impl Display for TomlType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TomlType::Boolean => "boolean",
            TomlType::Number => "number",
            TomlType::String => "string",
            TomlType::Array => "array of strings",
        })
    }
}

/// Value of a setting.
pub(crate) trait Value {
    /// Returns the TOML type of the value.
    fn toml_type(&self) -> TomlType;

    /// Describes the values that a file may contain, for messages.
    fn allowed(&self) -> String;

    /// Describes one word of the value, for help and messages.
    fn allowed_word(&self) -> String {
        self.allowed()
    }

    /// Returns the words that completion offers.
    fn completions(&self) -> Vec<String> {
        Vec::new()
    }

    /// Sets the value. Returns `None` if the words are invalid.
    fn set(&mut self, words: &[String]) -> Option<()>;

    /// Returns the value as words that [`set`](Self::set) accepts.
    fn words(&self) -> Vec<String>;
}

/// Returns a value as TOML.
pub(super) fn to_toml(value: &dyn Value) -> String {
    let words = value.words();
    match value.toml_type() {
        TomlType::Boolean | TomlType::Number => words.concat(),
        TomlType::String => quote(&words.concat()),
        TomlType::Array => {
            let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
            format!("[{}]", words.join(", "))
        }
    }
}

/// Returns the word of a value that is not a list.
fn single(words: &[String]) -> Option<&str> {
    match words {
        [word] => Some(word),
        _ => None,
    }
}

/// Value of one word that parses and prints itself.
trait Scalar: FromStr + Display {
    const TOML_TYPE: TomlType;
    const ALLOWED: &str;
    const COMPLETIONS: &[&str];
}

impl<T: Scalar> Value for T {
    fn toml_type(&self) -> TomlType {
        Self::TOML_TYPE
    }

    fn allowed(&self) -> String {
        Self::ALLOWED.to_owned()
    }

    fn completions(&self) -> Vec<String> {
        Self::COMPLETIONS.iter().map(ToString::to_string).collect()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        *self = single(words)?.parse().ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl Scalar for bool {
    const TOML_TYPE: TomlType = TomlType::Boolean;
    const ALLOWED: &str = "true or false";
    const COMPLETIONS: &[&str] = &["true", "false"];
}

impl Scalar for Endpoint {
    const TOML_TYPE: TomlType = TomlType::String;
    const ALLOWED: &str = "auto, device, socket or socket=/PATH";
    const COMPLETIONS: &[&str] = &["auto", "device", "socket", "socket=/"];
}

impl Scalar for LogFilter {
    const TOML_TYPE: TomlType = TomlType::String;
    const ALLOWED: &str =
        "off, error, warn, info, debug or trace, or a list such as warn,xenstore=debug";
    const COMPLETIONS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
}

impl Value for Duration {
    fn toml_type(&self) -> TomlType {
        TomlType::Number
    }

    fn allowed(&self) -> String {
        let (min, max) = (PERIODS.start(), PERIODS.end());
        format!("a number of seconds from {min} to {max}")
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        let seconds = single(words)?.parse().ok();
        let seconds = seconds.filter(|seconds| PERIODS.contains(seconds))?;
        *self = Duration::try_from_secs_f64(seconds).ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.as_secs_f64().to_string()]
    }
}

impl Value for usize {
    fn toml_type(&self) -> TomlType {
        TomlType::Number
    }

    fn allowed(&self) -> String {
        let (min, max) = (NODE_BUDGETS.start(), NODE_BUDGETS.end());
        format!("an integer from {min} to {max}")
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        let nodes = single(words)?.parse().ok();
        *self = nodes.filter(|nodes| NODE_BUDGETS.contains(nodes))?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl Value for PathBuf {
    fn toml_type(&self) -> TomlType {
        TomlType::String
    }

    fn allowed(&self) -> String {
        "the absolute path of a directory".to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        // The working directory of a daemon means nothing, and no path contains a NUL.
        let path = single(words).filter(|path| path.starts_with('/') && !path.contains('\0'))?;
        *self = path.into();
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.display().to_string()]
    }
}

/// Implements `Value` for types with a fixed set of names.
macro_rules! choices {
    ($($choice:ty),*) => {$(
        impl Value for $choice {
            fn toml_type(&self) -> TomlType {
                TomlType::String
            }

            fn allowed(&self) -> String {
                let names = self.completions();
                names.split_last().map_or_else(String::new, |(last, others)| {
                    format!("{} or {last}", others.join(", "))
                })
            }

            fn completions(&self) -> Vec<String> {
                Self::value_variants().iter().map(name).collect()
            }

            fn set(&mut self, words: &[String]) -> Option<()> {
                *self = ValueEnum::from_str(single(words)?, false).ok()?;
                Some(())
            }

            fn words(&self) -> Vec<String> {
                vec![name(self)]
            }
        }
    )*};
}

choices!(schema::Name, network::Mode, confine::Mode);

/// Returns the name of a choice.
pub(crate) fn name(choice: &impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

impl Value for Vec<Pattern> {
    fn toml_type(&self) -> TomlType {
        TomlType::Array
    }

    fn allowed(&self) -> String {
        "a list of names or patterns such as [\"docker*\"]".to_owned()
    }

    fn allowed_word(&self) -> String {
        "a name or pattern such as docker*".to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        let patterns = words.iter().map(|word| Pattern::new(word));
        *self = patterns.collect::<Result<_, _>>().ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(Pattern::to_string).collect()
    }
}

impl Value for Vec<IpNet> {
    fn toml_type(&self) -> TomlType {
        TomlType::Array
    }

    fn allowed(&self) -> String {
        "a list of addresses or networks such as [\"169.254.0.0/16\"]".to_owned()
    }

    fn allowed_word(&self) -> String {
        "an address or network such as 169.254.0.0/16".to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        let network = |word: &String| match word.parse::<IpNet>() {
            Ok(network) => Ok(network.trunc()),
            Err(_) => word.parse::<IpAddr>().map(IpNet::from),
        };
        *self = words.iter().map(network).collect::<Result<_, _>>().ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(IpNet::to_string).collect()
    }
}
