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

use std::{borrow::Cow, error::Error, fmt, ops::Deref, time::Duration};

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

/// Collects what is wrong with the fields of some settings.
#[derive(Default)]
pub(crate) struct Problems(Vec<InvalidPolicy>);

impl Problems {
    pub(crate) fn within<T>(mut self, field: &'static str, value: T, low: T, high: T) -> Self
    where
        T: PartialOrd + fmt::Debug,
    {
        if !(low <= value && value <= high) {
            self.add(
                field,
                format!("{value:?} is not within {low:?} to {high:?}"),
            );
        }
        self
    }

    pub(crate) fn at_least<T>(mut self, field: &'static str, value: T, low: T) -> Self
    where
        T: PartialOrd + fmt::Debug,
    {
        let enough = low <= value; // which a NaN never is
        if !enough {
            self.add(field, format!("{value:?} is less than {low:?}"));
        }
        self
    }

    /// One setting that must not exceed another.
    pub(crate) fn not_above<T>(
        mut self,
        field: &'static str,
        value: T,
        limit_name: &str,
        limit: T,
    ) -> Self
    where
        T: PartialOrd + fmt::Debug,
    {
        if value > limit {
            let message = format!("{field} {value:?} is more than {limit_name} {limit:?}");
            self.add(field, message);
        }
        self
    }

    pub(crate) fn positive(
        mut self,
        field: &'static str,
        value: impl Into<Option<Duration>>,
    ) -> Self {
        if value.into() == Some(Duration::ZERO) {
            self.add(field, "0s is no duration to wait".into());
        }
        self
    }

    /// A share of calls: above 0, at most 1.
    pub(crate) fn share(mut self, field: &'static str, value: f64) -> Self {
        if !(value > 0.0 && value <= 1.0) {
            self.add(field, format!("{value} is not above 0 and at most 1"));
        }
        self
    }

    /// Statuses of HTTP.
    pub(crate) fn statuses(self, field: &'static str, statuses: &[u16]) -> Self {
        let within = |problems: Self, status: &u16| problems.within(field, *status, 100, 599);
        statuses.iter().fold(self, within)
    }

    fn add(&mut self, field: &'static str, message: String) {
        self.0.push(InvalidPolicy::new(field, message));
    }

    /// What is wrong with settings that stand in `field`.
    pub(crate) fn nested(mut self, field: &'static str, settings: &impl Settings) -> Self {
        let problems = settings.problems().into_iter();
        self.0.extend(problems.map(|problem| problem.under(field)));
        self
    }

    pub(crate) fn into_vec(self) -> Vec<InvalidPolicy> {
        self.0
    }
}

/// Holds settings against their ranges: an edit that is in range leaves no problem, and one that is
/// not leaves that of the field that stands before it.
#[cfg(test)]
pub(crate) fn check_ranges<T: Settings>(in_range: &[Edit<T>], out_of_range: &[(&str, Edit<T>)]) {
    let check = |edit: &Edit<T>, place: usize, expected: &[&str]| {
        let mut settings = T::default();
        edit(&mut settings);
        let problems = settings.problems();
        let fields: Vec<_> = problems.iter().map(InvalidPolicy::field).collect();
        assert_eq!(fields, expected, "edit {place}: {problems:?}");
    };
    assert_eq!(T::default().problems(), []);
    for (place, edit) in in_range.iter().enumerate() {
        check(edit, place, &[]);
    }
    for (place, (field, edit)) in out_of_range.iter().enumerate() {
        check(edit, place, &[field]);
    }
}

#[cfg(test)]
type Edit<T> = fn(&mut T);

/// Durations as people write them: `"300ms"`, `"1m 30s"`. A number without a unit is refused.
#[cfg(feature = "serde")]
pub mod duration {
    use std::{fmt, time::Duration};

    use serde::{
        Deserializer, Serializer,
        de::{Error, Unexpected, Visitor},
    };

    /// Reads a duration.
    ///
    /// # Errors
    /// It is not a duration with a unit.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(Text)
    }

    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration with its unit, such as \"300ms\" or \"5s\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    /// Writes a duration.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// The same for durations that may be absent.
    pub mod option {
        use super::{Deserializer, Duration, Serializer};

        /// Reads a duration; leaving the field out is up to `#[serde(default)]`.
        ///
        /// # Errors
        /// It is not a duration with a unit.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }

        /// Writes a duration.
        ///
        /// # Errors
        /// Those of the serializer.
        pub fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }
    }
}
