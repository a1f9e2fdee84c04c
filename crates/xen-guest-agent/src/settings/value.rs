//! What settings can be: each kind of value is read from words and written as TOML.

use std::fmt::Display;
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
use crate::logging::LogFilter;
use crate::schema;
use crate::text::quote;

/// Looking takes some time itself, and a day is as good as never.
const PERIODS: RangeInclusive<f64> = 0.01..=86_400.0;

/// How TOML writes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A boolean.
    Switch,
    /// An integer or a float.
    Number,
    /// A string.
    Text,
    /// An array of strings.
    List,
    /// It is not from TOML: any of these, as words.
    Words,
}

/// The value of a setting.
pub(crate) trait Value {
    /// How TOML writes it.
    fn form(&self) -> Form;

    /// What it can be in a file, for messages.
    fn allowed(&self) -> String;

    /// What one word of it can be, for help and messages.
    fn allowed_word(&self) -> String {
        self.allowed()
    }

    /// The names that it can be, where there are few.
    fn choices(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes another value, if it can be that.
    fn set(&mut self, words: &[String]) -> Option<()>;

    /// What [`set`](Self::set) would take.
    fn words(&self) -> Vec<String>;
}

/// A value as TOML.
pub(super) fn to_toml(value: &dyn Value) -> String {
    let words = value.words();
    match value.form() {
        Form::Switch | Form::Number => words.concat(),
        Form::Text | Form::Words => quote(&words.concat()),
        Form::List => format!(
            "[{}]",
            words
                .iter()
                .map(|word| quote(word))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    }
}

/// The one word that there must be.
fn one(words: &[String]) -> Option<&str> {
    match words {
        [word] => Some(word),
        _ => None,
    }
}

/// A value that is one word, and says itself how that is read and written.
trait Word: FromStr + Display {
    const FORM: Form;
    const ALLOWED: &str;
}

impl<T: Word> Value for T {
    fn form(&self) -> Form {
        Self::FORM
    }

    fn allowed(&self) -> String {
        Self::ALLOWED.to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        *self = one(words)?.parse().ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl Word for bool {
    const FORM: Form = Form::Switch;
    const ALLOWED: &str = "true or false";
}

impl Word for Endpoint {
    const FORM: Form = Form::Text;
    const ALLOWED: &str = "auto, device, socket or socket=PATH";
}

impl Word for LogFilter {
    const FORM: Form = Form::Text;
    const ALLOWED: &str = "off, error, warn, info, debug or trace; for some modules another, as in warn,xenstore=debug";
}

impl Value for Duration {
    fn form(&self) -> Form {
        Form::Number
    }

    fn allowed(&self) -> String {
        format!("a number from {} to {}", PERIODS.start(), PERIODS.end())
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        let seconds = one(words)?
            .parse()
            .ok()
            .filter(|seconds| PERIODS.contains(seconds))?;
        *self = Duration::try_from_secs_f64(seconds).ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.as_secs_f64().to_string()]
    }
}

/// Fewer than the first say nothing of a guest, and no store has more than the last.
const NODES: RangeInclusive<usize> = 50..=1_000_000;

impl Value for usize {
    fn form(&self) -> Form {
        Form::Number
    }

    fn allowed(&self) -> String {
        format!("an integer from {} to {}", NODES.start(), NODES.end())
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        *self = one(words)?
            .parse()
            .ok()
            .filter(|nodes| NODES.contains(nodes))?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl Value for PathBuf {
    fn form(&self) -> Form {
        Form::Text
    }

    fn allowed(&self) -> String {
        "the absolute path of a directory".to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        // A daemon's working directory is nobody's, and no path has a NUL.
        *self = one(words)
            .filter(|path| path.starts_with('/') && !path.contains('\0'))?
            .into();
        Some(())
    }

    fn words(&self) -> Vec<String> {
        vec![self.display().to_string()]
    }
}

/// Values that are one of a few names.
macro_rules! choices {
    ($($kind:ty),*) => {$(
        impl Value for $kind {
            fn form(&self) -> Form {
                Form::Text
            }

            fn allowed(&self) -> String {
                let names = self.choices();
                names.split_last().map_or_else(String::new, |(last, others)| format!("{} or {last}", others.join(", ")))
            }

            fn choices(&self) -> Vec<String> {
                Self::value_variants().iter().map(name).collect()
            }

            fn set(&mut self, words: &[String]) -> Option<()> {
                *self = ValueEnum::from_str(one(words)?, false).ok()?;
                Some(())
            }

            fn words(&self) -> Vec<String> {
                vec![name(self)]
            }
        }
    )*};
}

choices!(schema::Name, network::Mode);

/// The name by which a choice is set.
pub(crate) fn name(choice: &impl ValueEnum) -> String {
    choice
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

impl Value for Vec<Pattern> {
    fn form(&self) -> Form {
        Form::List
    }

    fn allowed(&self) -> String {
        "a list of names and patterns, as [\"docker*\"]".to_owned()
    }

    fn allowed_word(&self) -> String {
        "names and patterns, as docker*".to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        *self = words
            .iter()
            .map(|word| Pattern::new(word))
            .collect::<Result<_, _>>()
            .ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(Pattern::to_string).collect()
    }
}

impl Value for Vec<IpNet> {
    fn form(&self) -> Form {
        Form::List
    }

    fn allowed(&self) -> String {
        "a list of addresses and networks, as [\"169.254.0.0/16\"]".to_owned()
    }

    fn allowed_word(&self) -> String {
        "addresses and networks, as 169.254.0.0/16".to_owned()
    }

    fn set(&mut self, words: &[String]) -> Option<()> {
        let network = |word: &String| {
            word.parse()
                .or_else(|_| word.parse::<IpAddr>().map(IpNet::from))
        };
        *self = words.iter().map(network).collect::<Result<_, _>>().ok()?;
        Some(())
    }

    fn words(&self) -> Vec<String> {
        self.iter().map(IpNet::to_string).collect()
    }
}
