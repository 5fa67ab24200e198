//! Range checks that collect the errors of a config struct.

use std::{ops::RangeInclusive, time::Duration};

use super::{ConfigError, Validate, duration};

/// The statuses that a policy may name, except in
/// [`ClassifyConfig`](crate::classify::ClassifyConfig).
pub(crate) const STATUSES: RangeInclusive<u16> = 200..=599;

/// A value that error messages show as it is written in a file.
pub(crate) trait Value: Copy + PartialOrd {
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
numbers!(u8, u16, u32, usize, f64);

impl Value for Duration {
    fn written(self) -> String {
        duration::written(self).to_string()
    }
}

/// Collects the errors of a config struct.
#[derive(Default)]
pub(crate) struct Errors(Vec<ConfigError>);

impl Errors {
    pub(crate) fn within<T: Value>(self, field: &'static str, value: T, low: T, high: T) -> Self {
        self.unless(low <= value && value <= high, field, || {
            let [value, low, high] = [value, low, high].map(Value::written);
            format!("must be within {low} to {high}, got {value}")
        })
    }

    pub(crate) fn at_least<T: Value>(self, field: &'static str, value: T, low: T) -> Self {
        self.unless(low <= value, field, || {
            format!("must be >= {}, got {}", low.written(), value.written())
        })
    }

    /// Checks that a value does not exceed the value of another field.
    pub(crate) fn not_above<T: Value>(
        self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self {
        self.unless(value <= limit, field, || {
            let [value, limit] = [value, limit].map(Value::written);
            format!("must be <= {limit_name} ({limit}), got {value}")
        })
    }

    /// Checks that a value is not below the value of another field.
    pub(crate) fn not_below<T: Value>(
        self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self {
        self.unless(limit <= value, field, || {
            let [value, limit] = [value, limit].map(Value::written);
            format!("must be >= {limit_name} ({limit}), got {value}")
        })
    }

    pub(crate) fn positive(self, field: &'static str, value: impl Into<Option<Duration>>) -> Self {
        self.unless(value.into() != Some(Duration::ZERO), field, || {
            "must be > 0, got 0s".into()
        })
    }

    /// Checks a share of calls: above 0, at most 1.
    pub(crate) fn share(self, field: &'static str, value: f64) -> Self {
        self.unless(value > 0.0 && value <= 1.0, field, || {
            format!("must be > 0 and <= 1, got {value}")
        })
    }

    /// Checks a growth factor: a finite number of at least 1.
    pub(crate) fn factor(self, field: &'static str, value: f64) -> Self {
        self.unless((1.0..=f64::MAX).contains(&value), field, || {
            format!("must be a finite number >= 1, got {value}")
        })
    }

    /// Checks a list of HTTP statuses.
    pub(crate) fn statuses(self, field: &'static str, statuses: &[u16]) -> Self {
        let (low, high) = STATUSES.into_inner();
        let within = |errors: Self, status: &u16| errors.within(field, *status, low, high);
        statuses.iter().fold(self, within)
    }

    /// Adds the errors of the config struct in `field`.
    pub(crate) fn nested(mut self, field: &'static str, config: &impl Validate) -> Self {
        let errors = config.errors().into_iter();
        self.0.extend(errors.map(|error| error.under(field)));
        self
    }

    /// Adds an error unless `is_valid`, which must be `false` for a NaN.
    fn unless(
        mut self,
        is_valid: bool,
        field: &'static str,
        message: impl FnOnce() -> String,
    ) -> Self {
        if !is_valid {
            self.0.push(ConfigError::new(field, message()));
        }
        self
    }

    pub(crate) fn into_vec(self) -> Vec<ConfigError> {
        self.0
    }

    #[cfg(feature = "http")]
    pub(crate) fn into_result(self) -> Result<(), ConfigError> {
        self.0.into_iter().next().map_or(Ok(()), Err)
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
