//! The body of an orchestrate request, read field by field so that every mistake is reported at
//! once.

use std::{borrow::Cow, fmt, ops::RangeInclusive};

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tower_fanout::Strategy;
use tower_fanout_http::problem::FieldError;

/// What a caller may ask for; what is left out is none here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedOptions {
    /// Whether services are asked in parallel.
    pub(crate) parallel: Option<bool>,
    /// How many services are asked at once, 1 to 10.
    pub(crate) max_concurrency: Option<u8>,
    /// The deadline in milliseconds, 1,000 to 120,000.
    pub(crate) timeout: Option<u32>,
    /// Retries per service, 0 to 5.
    pub(crate) retry_attempts: Option<u8>,
    /// When the whole is a success.
    pub(crate) strategy: Option<Strategy>,
    /// The services that must answer, by their place in the plan.
    pub(crate) required: Option<Vec<usize>>,
    /// The services that may, by their place in the plan.
    pub(crate) optional: Option<Vec<usize>>,
    /// Whether fallbacks may answer.
    pub(crate) fallbacks: Option<bool>,
}

/// Why a body was refused.
#[derive(Clone, Debug)]
pub(crate) enum Refused {
    /// It is no JSON object, or names a member twice: line and column, from 1.
    Malformed {
        /// The line of the mistake.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// Fields are wrong: all of them.
    Invalid(Vec<FieldError>),
}

/// Reads the body; `place` finds a service of the plan by name.
///
/// # Errors
/// See [`Refused`].
pub(crate) fn read(
    body: &[u8],
    place: impl Fn(&str) -> Option<usize>,
) -> Result<RequestedOptions, Refused> {
    let members: Members<'_> =
        serde_json::from_slice(body).map_err(|error| Refused::Malformed {
            line: error.line(),
            column: error.column(),
        })?;
    let mut reader = Reader {
        place,
        errors: Vec::new(),
    };
    let mut requested = RequestedOptions::default();
    for (name, value) in members.0 {
        reader.field(&mut requested, &name, value.get());
    }
    reader.refuse_twice_named(&requested);
    if reader.errors.is_empty() {
        Ok(requested)
    } else {
        Err(Refused::Invalid(reader.errors))
    }
}

/// The members of an object, in order; a name that stands twice is an error.
struct Members<'b>(Vec<(String, &'b RawValue)>);

impl<'de: 'b, 'b> serde::Deserialize<'de> for Members<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, _>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a member stands twice"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

struct Reader<P> {
    place: P,
    errors: Vec<FieldError>,
}

impl<P: Fn(&str) -> Option<usize>> Reader<P> {
    fn field(&mut self, requested: &mut RequestedOptions, name: &str, value: &str) {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match name {
            "input" if value.starts_with('{') => {}
            "input" => self.refuse(pointer, "type", "must be an object"),
            "parallelExecution" => requested.parallel = self.boolean(pointer, value),
            "enableFallbacks" => requested.fallbacks = self.boolean(pointer, value),
            "maxConcurrency" => requested.max_concurrency = self.integer(pointer, value, 1..=10),
            "timeout" => requested.timeout = self.integer(pointer, value, 1_000..=120_000),
            "retryAttempts" => requested.retry_attempts = self.integer(pointer, value, 0..=5),
            "aggregationStrategy" => requested.strategy = self.strategy(pointer, value),
            "requiredServices" => requested.required = self.services(&pointer, value),
            "optionalServices" => requested.optional = self.services(&pointer, value),
            _ => self.refuse(pointer, "unknown_field", "there is no such field"),
        }
    }

    fn refuse(
        &mut self,
        pointer: String,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.errors.push(FieldError::new(pointer, code, detail));
    }

    fn boolean(&mut self, pointer: String, value: &str) -> Option<bool> {
        match value {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.refuse(pointer, "type", "must be true or false");
                None
            }
        }
    }

    /// Only a plain run of digits is an integer here: `1e1` and `-0` are not.
    fn integer<T: Copy + TryFrom<u64> + PartialOrd + fmt::Display>(
        &mut self,
        pointer: String,
        value: &str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let (low, high) = (range.start(), range.end());
        if value.bytes().any(|byte| !byte.is_ascii_digit()) {
            let negative = value
                .strip_prefix('-')
                .is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
            let code = if negative { "range" } else { "type" };
            self.refuse(
                pointer,
                code,
                format!("must be an integer from {low} to {high}"),
            );
            return None;
        }
        let number = value
            .parse::<u64>()
            .ok()
            .and_then(|number| T::try_from(number).ok());
        let within = number.filter(|number| range.contains(number));
        if within.is_none() {
            self.refuse(pointer, "range", format!("must be from {low} to {high}"));
        }
        within
    }

    fn strategy(&mut self, pointer: String, value: &str) -> Option<Strategy> {
        let strategy = serde_json::from_str(value).ok();
        if strategy.is_none() {
            let code = if value.starts_with('"') {
                "range"
            } else {
                "type"
            };
            self.refuse(
                pointer,
                code,
                "must be \"all\", \"partial\" or \"best_effort\"",
            );
        }
        strategy
    }

    fn services(&mut self, pointer: &str, value: &str) -> Option<Vec<usize>> {
        let Ok(names) = serde_json::from_str::<Vec<&RawValue>>(value) else {
            self.refuse(
                pointer.to_owned(),
                "type",
                "must be a list of service names",
            );
            return None;
        };
        let mut places = Vec::with_capacity(names.len());
        for (item, name) in names.into_iter().enumerate() {
            let pointer = format!("{pointer}/{item}");
            match serde_json::from_str::<String>(name.get()).map(|name| (self.place)(&name)) {
                Err(_) => self.refuse(pointer, "type", "must be the name of a service"),
                Ok(None) => self.refuse(pointer, "unknown_service", "there is no such service"),
                Ok(Some(place)) if places.contains(&place) => {
                    self.refuse(pointer, "duplicate", "the service is named twice");
                }
                Ok(Some(place)) => places.push(place),
            }
        }
        Some(places)
    }

    fn refuse_twice_named(&mut self, requested: &RequestedOptions) {
        let (Some(required), Some(optional)) = (&requested.required, &requested.optional) else {
            return;
        };
        for (item, place) in optional.iter().enumerate() {
            if required.contains(place) {
                let pointer = format!("/optionalServices/{item}");
                self.refuse(pointer, "duplicate", "the service is required already");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Option<usize> {
        ["onchain", "team"].iter().position(|known| *known == name)
    }

    fn errors(body: &str) -> Vec<(String, String)> {
        match read(body.as_bytes(), place) {
            Err(Refused::Invalid(errors)) => errors
                .into_iter()
                .map(|error| (error.pointer().to_owned(), error.code().to_owned()))
                .collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    fn error(body: &str) -> (String, String) {
        let errors = errors(body);
        assert_eq!(errors.len(), 1, "{body}: {errors:?}");
        errors.into_iter().next().unwrap()
    }

    #[test]
    fn every_field_is_read() {
        let body = r#"{"input": {"symbol": "BTC"}, "parallelExecution": false, "maxConcurrency": 10,
            "timeout": 1000, "retryAttempts": 0, "aggregationStrategy": "best_effort",
            "requiredServices": ["team"], "optionalServices": ["onchain"], "enableFallbacks": false}"#;
        let requested = read(body.as_bytes(), place).unwrap();
        let expected = RequestedOptions {
            parallel: Some(false),
            max_concurrency: Some(10),
            timeout: Some(1000),
            retry_attempts: Some(0),
            strategy: Some(Strategy::BestEffort),
            required: Some(vec![1]),
            optional: Some(vec![0]),
            fallbacks: Some(false),
        };
        assert_eq!(requested, expected);
        assert_eq!(read(b"{}", place).unwrap(), RequestedOptions::default());
    }

    #[test]
    fn fault_e1_what_is_not_a_json_object_is_malformed() {
        for body in [
            "",
            " ",
            "{",
            "{} x",
            "[]",
            "1",
            "\u{feff}{}",
            "{\"timeout\": }",
            "{'a': 1}",
            "null",
        ] {
            assert!(
                matches!(read(body.as_bytes(), place), Err(Refused::Malformed { .. })),
                "{body:?}"
            );
        }
    }

    #[test]
    fn fault_e3_all_mistakes_are_reported_at_once() {
        let found = errors(
            r#"{"maxConcurrency": 11, "timeout": "5", "a/b": 1, "requiredServices": [3, "x"]}"#,
        );
        let expected = [
            ("/maxConcurrency", "range"),
            ("/timeout", "type"),
            ("/a~1b", "unknown_field"),
            ("/requiredServices/0", "type"),
            ("/requiredServices/1", "unknown_service"),
        ];
        assert_eq!(
            found,
            expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned()))
        );
    }

    #[test]
    fn fault_e4_an_unknown_field_is_refused() {
        assert_eq!(error(r#"{"Timeout": 5000}"#).1, "unknown_field");
    }

    #[test]
    fn fault_e5_a_member_that_stands_twice_is_malformed() {
        let body = br#"{"timeout": 5000, "timeout": 6000}"#;
        assert!(matches!(
            read(body, place),
            Err(Refused::Malformed { line: 1, .. })
        ));
    }

    #[test]
    fn fault_e6_e7_e8_integers_are_plain_and_within_their_range() {
        let cases = [
            (
                "maxConcurrency",
                &["0", "11", "-1", "99999999999999999999999"][..],
                "range",
            ),
            (
                "maxConcurrency",
                &["1.5", "\"3\"", "1e1", "null", "[3]", "true"],
                "type",
            ),
            ("timeout", &["999", "120001", "-0"], "range"),
            ("timeout", &["1e999", "5000.0", "{}"], "type"),
            ("retryAttempts", &["6", "-1", "256"], "range"),
        ];
        for (field, values, code) in cases {
            for value in values {
                let found = error(&format!("{{\"{field}\": {value}}}"));
                assert_eq!(found, (format!("/{field}"), code.to_owned()), "{value}");
            }
        }
    }

    #[test]
    fn fault_e9_services_are_known_and_named_once() {
        let cases = [
            (
                r#"{"requiredServices": ["team", "team"]}"#,
                "/requiredServices/1",
                "duplicate",
            ),
            (
                r#"{"requiredServices": ["team"], "optionalServices": ["team"]}"#,
                "/optionalServices/0",
                "duplicate",
            ),
            (
                r#"{"optionalServices": ["/../"]}"#,
                "/optionalServices/0",
                "unknown_service",
            ),
            (
                r#"{"optionalServices": [""]}"#,
                "/optionalServices/0",
                "unknown_service",
            ),
            (
                r#"{"optionalServices": "team"}"#,
                "/optionalServices",
                "type",
            ),
        ];
        for (body, pointer, code) in cases {
            assert_eq!(error(body), (pointer.to_owned(), code.to_owned()));
        }
    }

    #[test]
    fn words_and_switches_have_their_types() {
        assert_eq!(error(r#"{"input": [1]}"#).1, "type");
        assert_eq!(error(r#"{"aggregationStrategy": "some"}"#).1, "range");
        assert_eq!(error(r#"{"aggregationStrategy": 1}"#).1, "type");
        assert_eq!(error(r#"{"parallelExecution": "true"}"#).1, "type");
        assert_eq!(error(r#"{"enableFallbacks": 1}"#).1, "type");
    }
}
