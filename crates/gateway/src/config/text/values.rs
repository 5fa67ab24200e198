//! The values that the file has as text.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::de::IntoDeserializer;
use serde_json::Value;
use tower_fanout::layers::config::duration;
use tower_fanout_http::jwt::Algorithm;
use tracing_subscriber::EnvFilter;

use super::{
    super::{
        KeyTemplate, rules,
        value::{did_you_mean, known_names},
    },
    Fault, Format, Shape, Size, Text, Url, check_limits,
};

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
    Format::of::<VisibleText>(),
    Format::of::<ClaimPath>(),
    Format::of::<BaggageKey>(),
    Format::of::<KeyTemplate>(),
    Format::of::<WarningRule>(),
];

impl Text for Duration {
    const FORMAT: &'static str = "duration";
    const EXPECTED: &'static str = "a duration such as \"300ms\"";
    // The next-line character is a space for the parser, and not for a regular expression.
    const SHAPE: Shape = Shape::Pattern(concat!(
        r"^(0|[\s\x85]*([0-9][0-9\s\x85]*(\.[\s\x85]*[0-9][0-9\s\x85]*)?(",
        "nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|",
        r"days?|d|weeks?|wks?|w)[\s\x85]*)+)$"
    ));

    fn parse(text: &str) -> Result<Self, Fault> {
        let text_value: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            text.into_deserializer();
        duration::deserialize(text_value).map_err(|_| Fault {
            help: (text.starts_with(|first: char| first.is_ascii_digit())).then(|| {
                match text.contains(',') {
                    true => format!("write {}", text.replace(',', ".")),
                    false => "the units are ns, us, ms, s, m, h, d and w".to_owned(),
                }
            }),
            ..Fault::unexpected::<Self>(text)
        })
    }

    fn written(&self) -> impl Display {
        duration::written(*self)
    }

    fn check_limits(&self, schema: &Value) -> Result<(), String> {
        check_limits(self, schema)
    }
}

/// Regular expression of a token ([RFC 9110 §5.6.2](https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2)).
pub(in crate::config) const TOKEN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/// Implements [`Text`] for types that implement `FromStr` and `Display`.
macro_rules! from_str {
    ($($type:ty: $format:literal, $expected:literal, $pattern:expr;)*) => {$(
        impl Text for $type {
            const FORMAT: &'static str = $format;
            const EXPECTED: &'static str = $expected;
            const SHAPE: Shape = Shape::Pattern($pattern);

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
    SocketAddr: "address", "an IP address with a port, such as \"0.0.0.0:8080\"",
        r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$";
    HeaderName: "header-name", "a header name", TOKEN;
}

impl Text for IpNet {
    const FORMAT: &'static str = "network";
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\"";
    const SHAPE: Shape = Shape::Pattern("^[0-9A-Fa-f:.]+/[0-9]{1,3}$");

    fn parse(text: &str) -> Result<Self, Fault> {
        text.parse().map_err(|_| Fault {
            help: (text.parse::<IpAddr>().ok())
                .map(|address| format!("did you mean \"{}\"?", Self::from(address))),
            ..Fault::unexpected::<Self>(text)
        })
    }

    fn written(&self) -> impl Display {
        self
    }
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

impl Text for Method {
    const FORMAT: &'static str = "method";
    const EXPECTED: &'static str = "a method such as \"GET\"";
    const SHAPE: Shape = Shape::Words(|| METHODS.to_vec());

    fn parse(text: &str) -> Result<Self, Fault> {
        let method = METHODS.contains(&text).then(|| text.parse().ok()).flatten();
        method.ok_or_else(|| Fault {
            help: known_names(text, METHODS),
            ..Fault::quoting("invalid", "unknown method", text)
        })
    }

    fn written(&self) -> impl Display {
        self
    }
}

/// Returns the level of an item of a filter, such as `target=level`.
fn level(item: &str) -> &str {
    item.rsplit('=').next().unwrap_or(item)
}

/// A level, or a filter with levels of targets, such as `info,tower_fanout=debug`.
#[derive(Clone, Debug)]
pub(in super::super) struct LogFilter(pub(in super::super) String);

impl LogFilter {
    /// Returns the error of the item of `filter` whose level is not known.
    fn bad_item(item: &str, filter: &str) -> Fault {
        let (got, levels) = (level(item), LEVELS.map(|level| format!("\"{level}\"")));
        let message = format!("expected one of {}, got", levels.join(", "));
        let of_filter = match got == filter {
            true => String::new(),
            false => format!(" in \"{filter}\""),
        };
        let fault = Fault::quoting("invalid", message, got);
        // A target without a level.
        let is_target = item == got && got != filter;
        let target = || is_target.then(|| format!("write \"{item}=debug\" for a target"));
        Fault {
            help: did_you_mean(got, LEVELS).or_else(target),
            got: fault.got.clone() + &of_filter,
            ..fault
        }
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Text for LogFilter {
    const FORMAT: &'static str = "log-filter";
    const EXPECTED: &'static str = "a level or a filter such as \"info,tower_fanout=debug\"";
    const SHAPE: Shape = Shape::Pattern(concat!(
        "^([^,]*=)?(off|error|warn|info|debug|trace)",
        "(,([^,]*=)?(off|error|warn|info|debug|trace))*$"
    ));

    fn parse(text: &str) -> Result<Self, Fault> {
        // `EnvFilter` takes a word that is no level as a target, for which it logs everything.
        let is_level = |item: &&str| LEVELS.contains(&level(item));
        if let Some(item) = text.split(',').find(|item| !is_level(item)) {
            return Err(Self::bad_item(item, text));
        }
        if text.parse::<EnvFilter>().is_ok() {
            return Ok(Self(text.to_owned()));
        }
        Err(Fault::unexpected::<Self>(text))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}

impl Text for Algorithm {
    const FORMAT: &'static str = "jwt-algorithm";
    const EXPECTED: &'static str = "a signature algorithm such as \"ES256\"";
    const SHAPE: Shape = Shape::Words(|| {
        let names = Self::ALL.iter().map(|algorithm| algorithm.as_str());
        names.chain(["Ed25519"]).collect()
    });

    fn parse(text: &str) -> Result<Self, Fault> {
        Self::parse(text).ok_or_else(|| {
            let known = Self::ALL.iter().map(|algorithm| algorithm.as_str());
            Fault {
                help: known_names(text, known),
                ..Fault::quoting("unknown_algorithm", "unknown algorithm", text)
            }
        })
    }

    fn written(&self) -> impl Display {
        self.as_str()
    }
}

/// Declares texts that are valid if they fulfil a condition.
macro_rules! checked {
    ($($(#[$attr:meta])* $type:ident: $format:literal, $expected:literal, $pattern:expr, $is_valid:expr;)*) => {$(
        $(#[$attr])*
        #[derive(Clone, Debug, Default)]
        pub(in super::super) struct $type(pub(in super::super) String);

        impl Text for $type {
            const FORMAT: &'static str = $format;
            const EXPECTED: &'static str = $expected;
            const SHAPE: Shape = Shape::Pattern($pattern);

            fn parse(text: &str) -> Result<Self, Fault> {
                let is_valid: fn(&str) -> bool = $is_valid;
                is_valid(text)
                    .then(|| Self(text.to_owned()))
                    .ok_or_else(|| Fault::unexpected::<Self>(text))
            }

            fn written(&self) -> impl Display {
                &self.0
            }
        }
    )*};
}

checked! {
    /// A type of tokens (header `typ`).
    TokenType: "token-type", "a token type such as \"at+jwt\"", "^[!-~]+$",
        |text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    /// A name, or other text that labels, logs and people can show.
    VisibleText: "visible-text", "text with visible characters and without control characters",
        r"^[^\x00-\x1F\x7F-\x9F]*[^\x00-\x20\x7F-\x9F\s][^\x00-\x1F\x7F-\x9F]*$",
        |text| !text.trim().is_empty() && !text.contains(char::is_control);
    /// The path of a claim: names that are joined by dots, or a URI, which is one name.
    ClaimPath: "claim-path", "the path of a claim such as \"realm_access.roles\"",
        concat!(
            r"^(?!(.*\.)?\s*(\.|$))[^\x00-\x1F\x7F-\x9F]+$|",
            r"^[^\x00-\x1F\x7F-\x9F]*://[^\x00-\x1F\x7F-\x9F]*$"
        ),
        |text| {
            let mut steps = text.split('.');
            let is_path = text.contains("://") || steps.all(|step| !step.trim().is_empty());
            is_path && !text.contains(char::is_control)
        };
    /// A key of `baggage`, which is a token of RFC 9110, as the name of a header is.
    BaggageKey: "token", "a token such as \"tenant\"", TOKEN,
        |text| HeaderName::from_bytes(text.as_bytes()).is_ok();
}

/// A scope ([RFC 6749 §3.3](https://www.rfc-editor.org/rfc/rfc6749#section-3.3)).
#[derive(Clone, Debug)]
pub(in super::super) struct Scope(pub(in super::super) String);

impl Text for Scope {
    const FORMAT: &'static str = "scope";
    const EXPECTED: &'static str =
        "a scope of printable ASCII characters except spaces, quotes and backslashes";
    const SHAPE: Shape = Shape::Pattern(r"^[!#-\[\]-~]+$");

    fn parse(text: &str) -> Result<Self, Fault> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if text.is_empty() || !text.bytes().all(fits) {
            let words: Vec<_> = text.split_whitespace().collect();
            let is_list = words.len() > 1 && words.concat().bytes().all(fits);
            return Err(Fault {
                help: is_list
                    .then(|| format!("write {} items: [{}]", words.len(), words.join(", "))),
                ..Fault::unexpected::<Self>(text)
            });
        }
        Ok(Self(text.to_owned()))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}

/// The identifier of a rule whose diagnostics are warnings.
#[derive(Clone, Debug)]
pub(in super::super) struct WarningRule(pub(in super::super) String);

impl Text for WarningRule {
    const FORMAT: &'static str = "warning-rule";
    const EXPECTED: &'static str = "a rule such as \"no_auth\"";
    const SHAPE: Shape = Shape::Words(rules::warning_ids);

    fn parse(text: &str) -> Result<Self, Fault> {
        if rules::warning_ids().contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        if rules::all().any(|rule| rule.id == text) {
            let message = format!("\"{text}\" is an error; only warnings can be acknowledged");
            return Err(Fault::new("invalid", message));
        }
        Err(Fault {
            help: known_names(text, rules::warning_ids()),
            ..Fault::quoting("unknown_name", "unknown rule", text)
        })
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}
