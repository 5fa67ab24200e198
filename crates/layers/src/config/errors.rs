//! Checks that collect the errors of a config struct.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use super::{ConfigError, Validate, duration};

/// The statuses that a policy may name, except in
/// [`ClassifyConfig`](crate::classify::ClassifyConfig).
pub(crate) const STATUSES: RangeInclusive<u16> = 200..=599;

/// A number or a duration, which error messages show as it is written in a file.
///
/// The module is private, so no other crate can implement this trait.
pub trait Value: Copy + PartialOrd {
    fn written(self) -> String;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Value for $number {
            fn written(self) -> String {
                format!("{self:?}")
            }
        }
    )*};
}
numbers!(u8, u16, u32, u64, usize, f64);

impl Value for Duration {
    fn written(self) -> String {
        duration::written(self).to_string()
    }
}

/// The errors of a config struct, in the order of the checks that found them.
///
/// Each check takes a value or an `Option`, of which `None` is valid. A value is a `u8`, `u16`, `u32`,
/// `u64`, `usize`, `f64` or [`Duration`].
///
/// ```
/// use tower_fanout_layers::config::ConfigErrors;
///
/// let errors = ConfigErrors::default()
///     .within("max_attempts", 7_u8, 1..=6)
///     .within("max_hedges", None::<u8>, 1..=3)
///     .into_vec();
/// assert_eq!(errors[0].to_string(), "max_attempts: must be within 1 to 6, got 7");
/// assert_eq!(errors.len(), 1);
/// ```
#[derive(Debug, Default)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Requires that the value is within `range`.
    #[must_use]
    pub fn within<T: Value>(
        self,
        field: &'static str,
        value: impl Into<Option<T>>,
        range: RangeInclusive<T>,
    ) -> Self {
        let [low, high] = [*range.start(), *range.end()].map(Value::written);
        self.require(
            field,
            value,
            |value| range.contains(&value),
            format_args!("within {low} to {high}"),
        )
    }

    /// Requires that the value is at least `low`.
    #[must_use]
    pub fn at_least<T: Value>(
        self,
        field: &'static str,
        value: impl Into<Option<T>>,
        low: T,
    ) -> Self {
        self.require(
            field,
            value,
            |value| low <= value,
            format_args!(">= {}", low.written()),
        )
    }

    /// Requires that the value does not exceed the value of another field.
    #[must_use]
    pub fn not_above<T: Value>(
        self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self {
        self.require(
            field,
            value,
            |value| value <= limit,
            format_args!("<= {limit_name} ({})", limit.written()),
        )
    }

    /// Requires that the value is not below the value of another field.
    #[must_use]
    pub fn not_below<T: Value>(
        self,
        field: &'static str,
        value: impl Into<Option<T>>,
        limit_name: &str,
        limit: T,
    ) -> Self {
        self.require(
            field,
            value,
            |value| limit <= value,
            format_args!(">= {limit_name} ({})", limit.written()),
        )
    }

    /// Requires a duration above zero.
    pub(crate) fn positive(self, field: &'static str, value: impl Into<Option<Duration>>) -> Self {
        self.require(field, value, |value| value > Duration::ZERO, "> 0")
    }

    /// Requires a share of calls: above 0, at most 1.
    pub(crate) fn share(self, field: &'static str, value: f64) -> Self {
        let is_share = |value| value > 0.0 && value <= 1.0;
        self.require(field, value, is_share, "> 0 and <= 1")
    }

    /// Requires a growth factor: a finite number of at least 1.
    pub(crate) fn factor(self, field: &'static str, value: f64) -> Self {
        let is_factor = |value| (1.0..=f64::MAX).contains(&value);
        self.require(field, value, is_factor, "a finite number >= 1")
    }

    /// Requires that all statuses may be named by a policy.
    pub(crate) fn statuses(self, field: &'static str, statuses: &[u16]) -> Self {
        let within = |errors: Self, status: &u16| errors.within(field, *status, STATUSES);
        statuses.iter().fold(self, within)
    }

    /// Adds the errors of the config struct in `field`.
    #[must_use]
    pub fn nested(mut self, field: &str, config: &impl Validate) -> Self {
        let errors = config.errors().into_iter();
        self.0.extend(errors.map(|error| error.under(field)));
        self
    }

    /// Adds an error of `field` with `message` unless `is_valid`.
    #[must_use]
    pub fn unless(
        mut self,
        is_valid: bool,
        field: &'static str,
        message: impl Into<String>,
    ) -> Self {
        if !is_valid {
            self.0.push(ConfigError::new(field, message));
        }
        self
    }

    /// Returns all errors.
    #[must_use]
    pub fn into_vec(self) -> Vec<ConfigError> {
        self.0
    }

    /// Adds an error if there is a value for which `is_valid` returns `false`, as it must for a NaN.
    fn require<T: Value>(
        self,
        field: &'static str,
        value: impl Into<Option<T>>,
        is_valid: impl FnOnce(T) -> bool,
        rule: impl Display,
    ) -> Self {
        match value.into() {
            Some(value) if !is_valid(value) => {
                let message = format!("must be {rule}, got {}", value.written());
                self.unless(false, field, message)
            }
            _ => self,
        }
    }
}

/// Checks the validation of a config struct.
///
/// An edit in `in_range` must cause no error. An edit in `out_of_range` must cause one error, at
/// the field that is listed with it.
#[cfg(test)]
pub(crate) fn check_ranges<T: Validate + Default>(
    in_range: &[Edit<T>],
    out_of_range: &[(&str, Edit<T>)],
) {
    let check = |edit: &Edit<T>, index: usize, expected: &[&str]| {
        let mut config = T::default();
        edit(&mut config);
        let errors = config.errors();
        let fields: Vec<_> = errors.iter().map(ConfigError::field).collect();
        assert_eq!(fields, expected, "edit {index}: {errors:?}");
    };
    assert_eq!(T::default().errors(), []);
    for (index, edit) in in_range.iter().enumerate() {
        check(edit, index, &[]);
    }
    for (index, (field, edit)) in out_of_range.iter().enumerate() {
        check(edit, index, &[field]);
    }
}

#[cfg(test)]
type Edit<T> = fn(&mut T);
