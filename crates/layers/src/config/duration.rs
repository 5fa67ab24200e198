//! Durations as text with units: `"300ms"`, `"1m 30s"`. A number without a unit is rejected, except the
//! text `"0"`.
//!
//! The units are `ns`, `us`, `ms`, `s`, `m`, `h`, `d` and `w`, and other names of them that
//! [humantime](https://docs.rs/humantime/2/humantime/fn.parse_duration.html) accepts, such as `min`. Months and years,
//! which have no fixed length, are rejected: `1M` is a mistake for `1m`.

use std::{fmt, time::Duration};

#[cfg(feature = "serde")]
pub use self::text_format::{deserialize, option, serialize};

/// Returns a value that displays `duration` as it is written in a file, such as `1m 30s`.
#[must_use]
pub fn written(duration: Duration) -> impl fmt::Display {
    Written(duration)
}

/// Seconds of a day.
const DAY: u64 = 86_400;

struct Written(Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let (secs, nanos) = (self.0.as_secs(), u64::from(self.0.subsec_nanos()));
        // A day is shown as `24h`, as most limits of about a day are.
        if secs > DAY && secs % DAY == 0 && nanos == 0 {
            return write!(f, "{}d", secs / DAY);
        }
        let parts = [
            (secs / 3600, "h"),
            (secs / 60 % 60, "m"),
            (secs % 60, "s"),
            (nanos / 1_000_000, "ms"),
            (nanos / 1000 % 1000, "us"),
            (nanos % 1000, "ns"),
        ];
        let mut space = "";
        for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, "{space}{count}{unit}")?;
            space = " ";
        }
        Ok(())
    }
}

#[cfg(feature = "serde")]
mod text_format {
    use std::{fmt, time::Duration};

    use serde::{
        Deserializer, Serializer,
        de::{Error, Unexpected, Visitor},
    };

    /// Deserializes a duration from text.
    ///
    /// # Errors
    /// Returns an error if the value is not text, or not a duration with a unit.
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
            let duration = humantime::parse_duration(text).ok();
            let duration = duration.filter(|_| !has_calendar_unit(text));
            duration.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
        }
    }

    /// Returns `true` if the text has a month or a year.
    fn has_calendar_unit(text: &str) -> bool {
        let calendar = ["M", "month", "months", "y", "yr", "yrs", "year", "years"];
        let mut words = text.split(|one: char| !one.is_alphabetic());
        words.any(|word| calendar.contains(&word))
    }

    /// Serializes a duration as text.
    ///
    /// # Errors
    /// Returns the errors of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::written(*duration))
    }

    /// Serialization of `Option<Duration>`: a duration with a unit, or [`off`](crate::config::option).
    ///
    /// [`config::option`](crate::config::option) is for optional values of other types.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        struct Span(#[serde(with = "crate::config::duration")] Duration);

        /// Deserializes a duration. `off` and null are `None`.
        ///
        /// # Errors
        /// Returns an error if the value is neither a duration with a unit, nor `off`, nor null.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            let span = crate::config::option::deserialize(deserializer)?;
            Ok(span.map(|Span(duration)| duration))
        }

        /// Serializes a duration. `None` is `off`.
        ///
        /// # Errors
        /// Returns the errors of the serializer.
        pub fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            crate::config::option::serialize(&duration.map(Span), serializer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_a_duration_as_in_a_file() {
        let day = Duration::from_secs(86_400);
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_nanos(1), "1ns"),
            (Duration::from_millis(1500), "1s 500ms"),
            (Duration::from_secs(90), "1m 30s"),
            (Duration::from_secs(3600), "1h"),
            (day, "24h"),
            (7 * day, "7d"),
            (day + Duration::from_nanos(5_006_007), "24h 5ms 6us 7ns"),
            (Duration::MAX, "5124095576030431h 15s 999ms 999us 999ns"),
        ] {
            assert_eq!(written(duration).to_string(), text);
            #[cfg(feature = "serde")]
            assert_eq!(humantime::parse_duration(text), Ok(duration));
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn rejects_months_and_years() {
        let read = |text: &'static str| {
            let text = serde::de::value::BorrowedStrDeserializer::new(text);
            deserialize::<serde::de::value::BorrowedStrDeserializer<'_, serde::de::value::Error>>(
                text,
            )
        };
        for text in [
            "1M", "1month", "2months", "1y", "1yr", "2yrs", "1year", "2years", "1h 1M",
        ] {
            assert!(humantime::parse_duration(text).is_ok(), "{text}");
            assert!(read(text).is_err(), "{text}");
        }
        for text in [
            "1m", "1min", "2minutes", "3d", "3days", "1w", "1week", "5ms", "5millis",
        ] {
            assert!(read(text).is_ok(), "{text}");
        }
    }
}
