//! Durations as numbers of milliseconds.

use std::{fmt, time::Duration};

use serde::{Serialize, Serializer};

/// A duration that is written as a number of milliseconds, with microsecond precision (feature `serde`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Millis(pub Duration);

impl Millis {
    fn micros(self) -> u64 {
        u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.micros() as f64 / 1000.0)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let micros = self.micros();
        // A whole number has no decimal point.
        if micros % 1000 == 0 {
            serializer.serialize_u64(micros / 1000)
        } else {
            serializer.serialize_f64(micros as f64 / 1000.0)
        }
    }
}
