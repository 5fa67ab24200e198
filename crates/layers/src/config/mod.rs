//! Configuration of layers: plain values with defaults, checked when a layer is built.
//!
//! Most layers take a config struct with a setter per field. The constructor of the layer returns a
//! [`ConfigError`] if a value is out of range. The [exceptions](#exceptions) are below.
//!
//! ```
//! use tower_fanout_layers::{ClassifyResult, RetryConfig, RetryLayer};
//!
//! let config = RetryConfig::new().max_attempts(5);
//! assert!(RetryLayer::new(config, ClassifyResult).is_ok());
//! let config = RetryConfig::new().max_attempts(7);
//! let error = RetryLayer::new(config, ClassifyResult).unwrap_err();
//! assert_eq!(error.to_string(), "RetryConfig.max_attempts: must be within 1 to 6, got 7");
//! ```
//!
//! The setter of an optional field takes the value itself or `None`:
//!
//! ```
//! use std::time::Duration;
//! use tower_fanout_layers::{BreakerConfig, BreakerLayer, ClassifyResult};
//!
//! let config = BreakerConfig::new()
//!     .slow_call(Duration::from_millis(500))
//!     .slow_rate(0.8)
//!     .consecutive_failures(None);
//! let layer = BreakerLayer::new("users", config, ClassifyResult).unwrap();
//! ```
//!
//! To turn a layer off, use [`tower::util::option_layer`].
//!
//! With the feature `serde`, a config is deserialized from a map whose keys are the names of the
//! fields. A missing key has its default, and an unknown key is an error. Durations have a
//! [unit](duration). An optional value is turned off by the word `off` or by null. With the feature `schemars`,
//! a config has a JSON Schema, with the defaults and the limits of its fields.
//!
//! # Exceptions
//!
//! - [`FallbackLayer`](crate::FallbackLayer), [`CallErrorLayer`](crate::CallErrorLayer) and `UploadLayer`
//!   (feature `http`) have no config struct, and their constructors return no error. `BodyTimeoutLayer`
//!   (feature `http`) takes a duration.
//! - [`TimeoutLayer`](crate::TimeoutLayer) and [`DeadlineLayer`](crate::DeadlineLayer) also take a
//!   duration. [`TimeoutConfig`](crate::timeout::TimeoutConfig) has no default for `timeout`: the key is
//!   required in a file, and `new` takes the value.
//! - [`RetryOn`](crate::retry::RetryOn) and [`OutcomeSet`](crate::fallback::OutcomeSet) are a list of
//!   words and statuses in a file. A list replaces the default as a whole.
//! - [`Window`](crate::breaker::Window) is a duration or a number, and
//!   [`HedgeDelay`](crate::hedge::HedgeDelay) a duration, a map or the word `never`.
//! - The other enums are words, which their documentation lists: [`Jitter`](crate::retry::Jitter),
//!   [`Order`](crate::concurrency::Order), [`Algorithm`](crate::concurrency::adaptive::Algorithm), and with
//!   the feature `chaos` `Injection` and `Latency`.
//! - The constructor of a layer checks the ranges, not the reader of the file. The reader checks only the
//!   statuses of `RetryOn` and `OutcomeSet`, and a [`Priority`](crate::Priority).
//!
//! [`tower::util::option_layer`]: https://docs.rs/tower/0.5/tower/util/fn.option_layer.html

#[macro_use]
mod declare;
pub mod duration;
mod errors;
#[cfg(feature = "serde")]
pub mod option;
#[cfg(feature = "schemars")]
pub mod schema;

use std::{any::type_name, borrow::Cow, error::Error, fmt};

pub use self::errors::ConfigErrors;
#[cfg(feature = "serde")]
pub(crate) use self::errors::STATUSES;
#[cfg(test)]
pub(crate) use self::errors::check_ranges;

/// An error about a configuration value that is out of range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The config struct, once the error leaves its validation.
    owner: Option<&'static str>,
    field: Cow<'static, str>,
    /// The field whose value is compared with that of `field`.
    other: Option<Cow<'static, str>>,
    message: String,
}

impl ConfigError {
    /// Creates an error for `field`.
    #[must_use]
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            owner: None,
            field: field.into(),
            other: None,
            message: message.into(),
        }
    }

    /// Sets the path of another field, whose value or default forbids the value of this one.
    ///
    /// ```
    /// use tower_fanout_layers::{RetryConfig, config::Validate};
    /// # use std::time::Duration;
    ///
    /// let config = RetryConfig::new().base(Duration::from_secs(2)).cap(Duration::from_secs(1));
    /// let error = config.validate().unwrap_err();
    /// assert_eq!((error.field(), error.other_field()), ("base", Some("cap")));
    /// ```
    #[must_use]
    pub fn compared_with(self, other: impl Into<Cow<'static, str>>) -> Self {
        Self {
            other: Some(other.into()),
            ..self
        }
    }

    /// Sets the name of the type that has the field, which the displayed error begins with.
    ///
    /// [`Validate::validate`] does so for a config struct. Call this method for an error of another argument of a
    /// constructor.
    ///
    /// ```
    /// use tower_fanout_layers::ConfigError;
    ///
    /// let error = ConfigError::new("idle", "must be > 0, got 0s").of("BodyTimeoutLayer");
    /// assert_eq!(error.to_string(), "BodyTimeoutLayer.idle: must be > 0, got 0s");
    /// assert_eq!(error.field(), "idle");
    /// ```
    #[must_use]
    pub fn of(self, owner: &'static str) -> Self {
        Self {
            owner: Some(owner),
            ..self
        }
    }

    /// Prefixes the field with `parent`, the field that holds the config struct of this error.
    #[must_use]
    pub fn under(self, parent: &str) -> Self {
        Self {
            owner: None, // of the struct that has `parent`, which is not known here
            field: format!("{parent}.{}", self.field).into(),
            other: self.other.map(|other| format!("{parent}.{other}").into()),
            ..self
        }
    }

    /// Returns the path of the field, without the config struct. The names of nested fields are joined by dots.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// Returns the path of the other field, whose value or default forbids the value of this one. Returns `None` if
    /// the value is invalid on its own.
    #[must_use]
    pub fn other_field(&self) -> Option<&str> {
        self.other.as_deref()
    }

    /// Returns `true` if the error says something about the value of `field` or of the struct that has `field`.
    fn is_about(&self, field: &str) -> bool {
        [Some(&self.field), self.other.as_ref()]
            .into_iter()
            .flatten()
            .any(|own| {
                let rest = field.strip_prefix(&**own);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
    }

    /// Returns the description of the error, without the field.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(owner) = self.owner {
            write!(f, "{owner}.")?;
        }
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Error for ConfigError {}

/// A config struct that can be validated.
pub trait Validate {
    /// Returns all errors, in the order of the fields.
    fn errors(&self) -> Vec<ConfigError>;

    /// Checks all values.
    ///
    /// # Errors
    /// Returns the first error of [`errors`](Self::errors), with the name of this type.
    fn validate(&self) -> Result<(), ConfigError> {
        let first = self.errors().into_iter().next();
        first.map_or(Ok(()), |error| Err(error.of(name::<Self>())))
    }

    /// Returns `self` if all values are valid.
    ///
    /// # Errors
    /// Returns the first error of [`errors`](Self::errors), with the name of this type.
    fn validated(self) -> Result<Self, ConfigError>
    where
        Self: Sized,
    {
        self.validate().map(|()| self)
    }
}

/// `None` turns the part off, which is valid.
impl<T: Validate> Validate for Option<T> {
    fn errors(&self) -> Vec<ConfigError> {
        self.iter().flat_map(Validate::errors).collect()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.as_ref().map_or(Ok(()), Validate::validate)
    }
}

/// Returns the name of the type `T`, without its path and its arguments.
fn name<T: ?Sized>() -> &'static str {
    let path = type_name::<T>();
    let path = path.split('<').next().unwrap_or(path);
    path.rsplit("::").next().unwrap_or(path)
}
