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

    /// Requires that the value does not exceed the value of another field, whose name is the last word of
    /// `limit_name`. Does nothing if one of the two is invalid on its own.
    #[must_use]
    pub fn not_above<T: Value>(
        self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self {
        let rule = format!("<= {limit_name} ({})", limit.written());
        self.compare(field, value, limit_name, |value| value <= limit, rule)
    }

    /// Requires that the value is not below the value of another field, whose name is the last word of `limit_name`,
    /// such as `poll_interval` of `twice poll_interval`. Does nothing if one of the two is invalid on its own.
    #[must_use]
    pub fn not_below<T: Value>(
        self,
        field: &'static str,
        value: impl Into<Option<T>>,
        limit_name: &str,
        limit: T,
    ) -> Self {
        let rule = format!(">= {limit_name} ({})", limit.written());
        self.compare(field, value, limit_name, |value| limit <= value, rule)
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

    /// Adds errors of rules that compare two fields ([`ConfigError::compared_with`]), except those about a field that
    /// is invalid on its own.
    #[must_use]
    pub fn comparisons(mut self, errors: impl IntoIterator<Item = ConfigError>) -> Self {
        for error in errors {
            let mut invalid = self.0.iter().filter(|one| one.other_field().is_none());
            if !invalid.any(|one| error.is_about(one.field())) {
                self.0.push(error);
            }
        }
        self
    }

    /// Returns all errors.
    #[must_use]
    pub fn into_vec(self) -> Vec<ConfigError> {
        self.0
    }

    /// Adds the error of a value for which `is_valid` returns `false`, because of the field `limit_name`.
    fn compare<T: Value>(
        self,
        field: &'static str,
        value: impl Into<Option<T>>,
        limit_name: &str,
        is_valid: impl FnOnce(T) -> bool,
        rule: String,
    ) -> Self {
        let name = limit_name.rsplit(' ').next().unwrap_or(limit_name);
        let other = match field.rsplit_once('.') {
            Some((parent, _)) => format!("{parent}.{name}"),
            None => name.to_owned(),
        };
        let errors = Self::default().require(field, value, is_valid, rule);
        let errors = errors.0.into_iter();
        self.comparisons(errors.map(|error| error.compared_with(other.clone())))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(errors: ConfigErrors) -> Vec<(String, Option<String>)> {
        let errors = errors.into_vec().into_iter();
        errors
            .map(|error| {
                let other = error.other_field().map(str::to_owned);
                (error.field().to_owned(), other)
            })
            .collect()
    }

    #[test]
    fn a_rule_about_two_values_says_nothing_if_one_is_invalid() {
        let own = |low: u8, high: u8| {
            ConfigErrors::default()
                .at_least("low", low, 1)
                .within("high", high, 1..=9)
        };
        let error = |field: &str, other: Option<&str>| (field.to_owned(), other.map(str::to_owned));
        let valid = own(5, 4)
            .not_above("low", 5_u8, "half of high", 2)
            .not_above("next", 6_u8, "low", 5);
        let expected = [error("low", Some("high")), error("next", Some("low"))];
        assert_eq!(fields(valid), expected);
        for (low, high, invalid) in [(0, 4, "low"), (5, 10, "high")] {
            let compared = own(low, high)
                .not_above("low", 5_u8, "high", 4)
                .not_below("high", 4_u8, "low", 5);
            assert_eq!(fields(compared), [error(invalid, None)]);
        }
    }

    #[test]
    fn fields_of_a_nested_struct_are_compared_by_their_paths() {
        let compared = ConfigErrors::default().not_below("inner.max", 1_u8, "min", 2);
        let error = compared.into_vec().remove(0).under("outer");
        assert_eq!(
            (error.field(), error.other_field()),
            ("outer.inner.max", Some("outer.inner.min"))
        );
        let inside = ConfigErrors::default().within("inner.max.value", 1_u8, 2..=3);
        let whole = || ConfigError::new("inner.max", "too large").compared_with("other");
        assert_eq!(inside.comparisons([whole()]).into_vec().len(), 1);
        let beside = ConfigErrors::default().within("inner.maximum", 1_u8, 2..=3);
        assert_eq!(beside.comparisons([whole()]).into_vec().len(), 2);
    }
}
