//! Values that the file has as text, such as durations and addresses. Each has a name in the JSON Schema, as its
//! `format`.

use std::{borrow::Cow, fmt::Display, net::SocketAddr, time::Duration};

use http::{HeaderName, Method};
use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error, de::IntoDeserializer};
use serde_json::Value;
use tower_fanout::layers::config::duration;
use tracing_subscriber::EnvFilter;

use super::{schema::rule, value::did_you_mean};

/// A type whose values the file has as text.
pub(super) trait Text: Sized {
    /// Name of the format in the schema.
    const FORMAT: &'static str;
    /// Description of the values with an example, such as `an address such as "0.0.0.0:8080"`.
    const EXPECTED: &'static str;

    /// Parses the text.
    ///
    /// # Errors
    /// Returns the reason why the text is not valid.
    fn parse(text: &str) -> Result<Self, Fault>;

    /// Returns the text of the value, for the defaults in the schema.
    fn written(&self) -> impl Display;

    /// Checks the value against the limits of its key, which are `x-minimum`, `x-exclusiveMinimum` and
    /// `x-maximum` in the schema.
    ///
    /// # Errors
    /// Returns an error if the value is not within them.
    fn check_limits(&self, schema: &Value) -> Result<(), String> {
        let _ = schema;
        Ok(())
    }
}

/// The reason why a text is not valid.
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Fault {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            message,
            help: None,
        }
    }

    /// A text that is not what `T` expects.
    fn unexpected<T: Text>(text: &str) -> Self {
        Self::new(
            "invalid",
            format!("expected {}, got \"{text}\"", T::EXPECTED),
        )
    }
}

/// A text format, for the check of values that are not read yet.
pub(super) struct Format {
    name: &'static str,
    pub(super) expected: &'static str,
    pub(super) check: fn(&str, &Value) -> Result<(), Fault>,
}

impl Format {
    const fn of<T: Text>() -> Self {
        Self {
            name: T::FORMAT,
            expected: T::EXPECTED,
            check: |text, schema| {
                let value = T::parse(text)?;
                let limits = value.check_limits(schema);
                limits.map_err(|limits| Fault::new("range", format!("{limits}, got {text}")))
            },
        }
    }
}

/// Returns the text format that the schema calls `name`.
pub(super) fn format(name: &str) -> Option<Format> {
    let all = [
        Format::of::<Duration>(),
        Format::of::<Size>(),
        Format::of::<SocketAddr>(),
        Format::of::<IpNet>(),
        Format::of::<HeaderName>(),
        Format::of::<Method>(),
        Format::of::<LogFilter>(),
    ];
    all.into_iter().find(|format| format.name == name)
}

/// A value that the file has as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: Text> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let parsed = T::parse(&text);
        parsed
            .map(Self)
            .map_err(|fault| D::Error::custom(fault.message))
    }
}

impl<T: Text> Serialize for Parsed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.written())
    }
}

impl<T: Text> JsonSchema for Parsed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::FORMAT })
    }
}

/// Checks `value` against the limits that the schema has as text.
fn check_limits<T: Text + PartialOrd>(value: &T, schema: &Value) -> Result<(), String> {
    let limit = |key: &str| {
        let text = schema.get(key)?.as_str()?;
        Some((text, T::parse(text).ok()?))
    };
    let (low, high) = (limit("x-minimum"), limit("x-maximum"));
    let above = limit("x-exclusiveMinimum");
    let is_within = low.as_ref().is_none_or(|(_, low)| low <= value)
        && high.as_ref().is_none_or(|(_, high)| value <= high)
        && above.as_ref().is_none_or(|(_, above)| above < value);
    if is_within {
        return Ok(());
    }
    let written = |limit: Option<(_, T)>| limit.map(|(text, _): (&str, T)| text.to_owned());
    Err(rule(written(low), written(above), written(high)))
}

impl Text for Duration {
    const FORMAT: &'static str = "duration";
    const EXPECTED: &'static str = "a duration such as \"300ms\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let text_value: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            text.into_deserializer();
        duration::deserialize(text_value).map_err(|_| Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        duration::written(*self)
    }

    fn check_limits(&self, schema: &Value) -> Result<(), String> {
        check_limits(self, schema)
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Size(pub(super) usize);

/// Units of sizes. The longest suffix comes first, as every unit ends in `B`.
const UNITS: [(&str, usize); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl Text for Size {
    const FORMAT: &'static str = "size";
    const EXPECTED: &'static str = "a size such as \"64KiB\" or \"1MiB\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let parse = || {
            let mut units = UNITS.into_iter();
            let (number, unit) =
                units.find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)))?;
            let bytes = number.trim().parse::<usize>().ok()?.checked_mul(unit)?;
            (bytes > 0).then_some(Self(bytes))
        };
        parse().ok_or_else(|| Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        let mut units = UNITS.into_iter();
        let unit = units.find(|(_, bytes)| self.0.is_multiple_of(*bytes));
        let (unit, bytes) = unit.unwrap_or(("B", 1));
        format!("{}{unit}", self.0 / bytes)
    }

    fn check_limits(&self, schema: &Value) -> Result<(), String> {
        check_limits(self, schema)
    }
}

impl Text for SocketAddr {
    const FORMAT: &'static str = "address";
    const EXPECTED: &'static str = "an address such as \"0.0.0.0:8080\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        text.parse().map_err(|_| Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        self
    }
}

impl Text for IpNet {
    const FORMAT: &'static str = "network";
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        text.parse().map_err(|_| Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        self
    }
}

impl Text for HeaderName {
    const FORMAT: &'static str = "header-name";
    const EXPECTED: &'static str = "a header name";

    fn parse(text: &str) -> Result<Self, Fault> {
        text.parse().map_err(|_| Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        self
    }
}

impl Text for Method {
    const FORMAT: &'static str = "method";
    const EXPECTED: &'static str = "a method such as \"GET\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
        let method = known.contains(&text).then(|| text.parse().ok()).flatten();
        method.ok_or_else(|| Fault {
            help: did_you_mean(text, known),
            ..Fault::new("invalid", format!("unknown method \"{text}\""))
        })
    }

    fn written(&self) -> impl Display {
        self
    }
}

/// A level, or a filter with levels of targets, such as `info,tower_fanout=debug`.
#[derive(Clone, Debug)]
pub(super) struct LogFilter(pub(super) String);

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Text for LogFilter {
    const FORMAT: &'static str = "log-filter";
    const EXPECTED: &'static str = "a level or a filter such as \"info,tower_fanout=debug\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        if !text.contains(['=', ',']) && !LEVELS.contains(&text) {
            let levels = LEVELS.map(|level| format!("\"{level}\"")).join(", ");
            return Err(Fault {
                help: did_you_mean(text, LEVELS),
                ..Fault::new(
                    "invalid",
                    format!("expected one of {levels}, got \"{text}\""),
                )
            });
        }
        // `EnvFilter` takes a word that is no level as a target, for which it logs everything.
        let is_level = |item: &str| LEVELS.contains(&item.rsplit('=').next().unwrap_or(item));
        if text.split(',').all(is_level) && text.parse::<EnvFilter>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}
