//! Settings that were checked once, so that layers built from them never fail.
//!
//! A layer takes a *policy*, which is a [`Valid`] wrapper around plain settings:
//!
//! ```
//! use tower_fanout_layers::RetryPolicy;
//!
//! let policy = RetryPolicy::build(|settings| settings.max_attempts = 5).unwrap();
//! assert_eq!(policy.max_attempts, 5);
//! let error = RetryPolicy::build(|settings| settings.max_attempts = 7).unwrap_err();
//! assert_eq!(error.to_string(), "max_attempts: 7 is not within 1 to 6");
//! ```
//!
//! Each setting has a setter of its name, which can be chained:
//!
//! ```
//! use std::time::Duration;
//! use tower_fanout_layers::{BreakerPolicy, breaker::BreakerSettings};
//!
//! let settings = BreakerSettings::default()
//!     .slow_call(Duration::from_millis(500))
//!     .slow_rate(0.8)
//!     .consecutive_failures(None);
//! let policy = BreakerPolicy::new(settings).unwrap();
//! assert_eq!(policy.slow_call, Some(Duration::from_millis(500)));
//! ```
//!
//! With feature `serde` a policy is read from a file, and read back from what it writes: what is left
//! out is as by default, durations have a [unit](duration), and what can be turned off is so by the
//! word `off` or by null.

pub mod duration;
#[cfg(feature = "serde")]
pub mod option;
mod problems;

use std::{borrow::Cow, error::Error, fmt, ops::Deref};

pub(crate) use self::problems::Problems;
#[cfg(feature = "serde")]
pub(crate) use self::problems::STATUSES;
#[cfg(test)]
pub(crate) use self::problems::check_ranges;

/// A value that a policy cannot have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPolicy {
    field: Cow<'static, str>,
    message: String,
}

impl InvalidPolicy {
    /// Says what is wrong with `field`.
    #[must_use]
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            message: message.into(),
        }
    }

    /// The same, seen from settings that hold these as their field `parent`.
    #[must_use]
    pub fn under(self, parent: &str) -> Self {
        Self {
            field: format!("{parent}.{}", self.field).into(),
            ..self
        }
    }

    /// The setting; nested ones are joined by dots.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What is wrong with it.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for InvalidPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Error for InvalidPolicy {}

/// Plain settings that know which of their values make no sense. Their defaults do.
pub trait Settings: Default {
    /// Everything that is wrong with these settings.
    fn problems(&self) -> Vec<InvalidPolicy>;
}

/// Settings without a problem.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Valid<T>(T);

impl<T: Settings> Valid<T> {
    /// Accepts `settings`.
    ///
    /// # Errors
    /// The first problem they have.
    pub fn new(settings: T) -> Result<Self, InvalidPolicy> {
        match settings.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(Self(settings)),
        }
    }

    /// The default settings, changed by `edit`.
    ///
    /// # Errors
    /// The first problem they have then.
    pub fn build(edit: impl FnOnce(&mut T)) -> Result<Self, InvalidPolicy> {
        Self::default().with(edit)
    }

    /// These settings, changed by `edit`.
    ///
    /// # Errors
    /// The first problem they have then.
    pub fn with(self, edit: impl FnOnce(&mut T)) -> Result<Self, InvalidPolicy> {
        let mut settings = self.0;
        edit(&mut settings);
        Self::new(settings)
    }
}

impl<T> Deref for Valid<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(feature = "serde")]
impl<'de, T> serde::Deserialize<'de> for Valid<T>
where
    T: Settings + serde::Deserialize<'de>,
{
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(T::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Gives settings a setter for each of these fields, by its name.
#[doc(hidden)]
#[macro_export]
macro_rules! setters {
    ($settings:ident { $($field:ident: $type:ty),* $(,)? }) => {
        impl $settings {$(
            #[doc = concat!("Sets [`", stringify!($field), "`](field@Self::", stringify!($field), ").")]
            #[must_use]
            pub fn $field(mut self, $field: impl Into<$type>) -> Self {
                self.$field = $field.into();
                self
            }
        )*}
    };
}
