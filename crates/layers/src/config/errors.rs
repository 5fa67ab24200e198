//! Range checks that collect the errors of a config struct.

use std::{ops::RangeInclusive, time::Duration};

use super::{ConfigError, Validate, duration};

/// The statuses that a result may have, as far as a policy may name them.
pub(crate) const STATUSES: RangeInclusive<u16> = 200..=599;

/// A value of a setting, which a message shows as a file writes it.
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
            format!("{value} is not within {low} to {high}")
        })
    }

    pub(crate) fn at_least<T: Value>(self, field: &'static str, value: T, low: T) -> Self {
        self.unless(low <= value, field, || {
            format!("{} is less than {}", value.written(), low.written())
        })
    }

    /// One setting that must not exceed another.
    pub(crate) fn not_above<T: Value>(
        self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self {
        self.unless(value <= limit, field, || {
            let [value, limit] = [value, limit].map(Value::written);
            format!("{} {value} is more than {limit_name} {limit}", name(field))
        })
    }

    /// One setting that another must not exceed.
    pub(crate) fn not_below<T: Value>(
        self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self {
        self.unless(limit <= value, field, || {
            let [value, limit] = [value, limit].map(Value::written);
            format!("{} {value} is less than {limit_name} {limit}", name(field))
        })
    }

    pub(crate) fn positive(self, field: &'static str, value: impl Into<Option<Duration>>) -> Self {
        self.unless(value.into() != Some(Duration::ZERO), field, || {
            "0s is no duration to wait".into()
        })
    }

    /// A share of calls: above 0, at most 1.
    pub(crate) fn share(self, field: &'static str, value: f64) -> Self {
        self.unless(value > 0.0 && value <= 1.0, field, || {
            format!("{value} is not above 0 and at most 1")
        })
    }

    /// By how much something grows each time.
    pub(crate) fn factor(self, field: &'static str, value: f64) -> Self {
        self.unless((1.0..=f64::MAX).contains(&value), field, || {
            format!("{value} is no finite number of at least 1")
        })
    }

    /// Statuses of HTTP.
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

    fn unless(
        mut self,
        sound: bool, // which a comparison with a NaN never is
        field: &'static str,
        message: impl FnOnce() -> String,
    ) -> Self {
        if !sound {
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

/// The last step of a dotted path.
fn name(field: &str) -> &str {
    field.rsplit('.').next().unwrap_or(field)
}

/// Checks the ranges of a config: an edit within range causes no error, and any other edit causes one
/// error, at the field that is listed with it.
#[cfg(test)]
pub(crate) fn check_ranges<T: Validate + Default>(
    in_range: &[Edit<T>],
    out_of_range: &[(&str, Edit<T>)],
) {
    let check = |edit: &Edit<T>, place: usize, expected: &[&str]| {
        let mut config = T::default();
        edit(&mut config);
        let errors = config.errors();
        let fields: Vec<_> = errors.iter().map(ConfigError::field).collect();
        assert_eq!(fields, expected, "edit {place}: {errors:?}");
    };
    assert_eq!(T::default().errors(), []);
    for (place, edit) in in_range.iter().enumerate() {
        check(edit, place, &[]);
    }
    for (place, (field, edit)) in out_of_range.iter().enumerate() {
        check(edit, place, &[field]);
    }
}

#[cfg(test)]
type Edit<T> = fn(&mut T);
