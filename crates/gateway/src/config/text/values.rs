//! The values that the file has as text.

use std::{fmt::Display, net::SocketAddr, time::Duration};

use http::{HeaderName, Method, Uri};
use ipnet::IpNet;
use serde::de::IntoDeserializer;
use serde_json::Value;
use tower_fanout::layers::config::duration;
use tower_fanout_http::jwt::Algorithm;
use tower_fanout_json::template::encode_path;
use tracing_subscriber::EnvFilter;

use super::{super::value::did_you_mean, Fault, Format, Text, check_limits};

/// All formats.
pub(super) const FORMATS: &[Format] = &[
    Format::of::<Duration>(),
    Format::of::<Size>(),
    Format::of::<SocketAddr>(),
    Format::of::<IpNet>(),
    Format::of::<HeaderName>(),
    Format::of::<Method>(),
    Format::of::<LogFilter>(),
    Format::of::<Url>(),
    Format::of::<Algorithm>(),
    Format::of::<TokenType>(),
    Format::of::<Scope>(),
];

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
pub(in super::super) struct Size(pub(in super::super) usize);

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

/// Implements [`Text`] for types that implement `FromStr` and `Display`.
macro_rules! from_str {
    ($($type:ty: $format:literal, $expected:literal;)*) => {$(
        impl Text for $type {
            const FORMAT: &'static str = $format;
            const EXPECTED: &'static str = $expected;

            fn parse(text: &str) -> Result<Self, Fault> {
                text.parse().map_err(|_| Fault::unexpected::<Self>(text))
            }

            fn written(&self) -> impl Display {
                self
            }
        }
    )*};
}

from_str! {
    SocketAddr: "address", "an address such as \"0.0.0.0:8080\"";
    IpNet: "network", "a network such as \"10.0.0.0/8\"";
    HeaderName: "header-name", "a header name";
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
pub(in super::super) struct LogFilter(pub(in super::super) String);

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

/// A URL. Its path is percent-encoded.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Url(pub(in super::super) Uri);

impl Text for Url {
    const FORMAT: &'static str = "url";
    const EXPECTED: &'static str = "a URL such as \"http://users:8080\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        // The parser drops a fragment, which is never sent.
        if text.contains('#') {
            return Err(bad_url(text, "must not have a fragment"));
        }
        let encoded = with_encoded_path(text).map_err(|message| bad_url(text, &message))?;
        let parsed = encoded.parse().map(Self);
        // The text is not quoted, because it may contain credentials.
        parsed.map_err(|_| Fault::new("invalid", format!("expected {}", Self::EXPECTED)))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}

/// Returns the error of a URL, and quotes the URL unless it may contain credentials.
pub(in super::super) fn bad_url(text: &str, message: &str) -> Fault {
    if text.contains('@') {
        Fault::new("invalid", message)
    } else {
        Fault::new("invalid", format!("{message}, got \"{text}\""))
    }
}

/// Percent-encodes the path of a URL.
///
/// # Errors
/// Returns a message if text of the path has more than one meaning.
fn with_encoded_path(url: &str) -> Result<String, String> {
    let start = url.find("://").map_or(0, |scheme| scheme + "://".len());
    let start = url[start..]
        .find(['/', '?'])
        .map_or(url.len(), |path| start + path);
    let end = url[start..]
        .find('?')
        .map_or(url.len(), |query| start + query);
    let path = &url[start..end];
    // The user may mean a placeholder.
    if path.contains(['{', '}']) {
        return Err("must not have braces, as a URL has no placeholders".to_owned());
    }
    let path = encode_path(path).map_err(|error| error.to_string())?;
    Ok([&url[..start], &path, &url[end..]].concat())
}

impl Text for Algorithm {
    const FORMAT: &'static str = "jwt-algorithm";
    const EXPECTED: &'static str = "a signature algorithm such as \"ES256\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        Self::parse(text).ok_or_else(|| {
            let known = Self::ALL.iter().map(|algorithm| algorithm.as_str());
            Fault {
                help: did_you_mean(text, known),
                ..Fault::new("unknown_algorithm", format!("unknown algorithm \"{text}\""))
            }
        })
    }

    fn written(&self) -> impl Display {
        self.as_str()
    }
}

/// A type of tokens (header `typ`).
#[derive(Clone, Debug)]
pub(in super::super) struct TokenType(pub(in super::super) String);

impl Text for TokenType {
    const FORMAT: &'static str = "token-type";
    const EXPECTED: &'static str = "a token type such as \"at+jwt\"";

    fn parse(text: &str) -> Result<Self, Fault> {
        let is_valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_valid
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}

/// A scope ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
#[derive(Clone, Debug)]
pub(in super::super) struct Scope(pub(in super::super) String);

impl Text for Scope {
    const FORMAT: &'static str = "scope";
    const EXPECTED: &'static str =
        "printable ASCII characters except spaces, quotes and backslashes";

    fn parse(text: &str) -> Result<Self, Fault> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if text.is_empty() || !text.bytes().all(fits) {
            return Err(Fault::new(
                "invalid",
                format!("must consist of {}", Self::EXPECTED),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}
