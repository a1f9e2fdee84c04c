//! Values of settings before they are checked.

use super::error::Origin;
use super::{Setting, Settings};
use crate::text::{quote, truncate};

/// Value of a setting as its source wrote it.
#[derive(Debug)]
pub(super) struct RawValue {
    pub(super) setting: &'static Setting,
    pub(super) origin: Origin,
    /// Elements of a list, or the only word of any other value. `None` if the value has the wrong
    /// TOML type.
    pub(super) words: Option<Vec<String>>,
    /// The value as the source spells it, for messages.
    pub(super) spelling: String,
}

impl RawValue {
    pub(super) fn new(setting: &'static Setting, origin: Origin, words: Vec<String>) -> Self {
        RawValue {
            setting,
            origin,
            spelling: truncate(&quote(&words.join(","))),
            words: Some(words),
        }
    }

    /// Stores the value in the settings.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), String> {
        let value = (self.setting.field)(settings);
        let words = self.words.as_deref();
        if words.is_some_and(|words| value.set(words).is_some()) {
            return Ok(());
        }

        if self.setting.is_list() {
            let mut words = words.unwrap_or_default().iter();
            if let Some(word) = words.find(|word| value.set(std::slice::from_ref(word)).is_none()) {
                return Err(self.invalid(&truncate(&quote(word)), &value.allowed_word()));
            }
        }
        Err(self.invalid(&self.spelling, &value.allowed()))
    }

    fn invalid(&self, found: &str, expected: &str) -> String {
        self.origin.invalid(self.setting, found, expected)
    }
}
