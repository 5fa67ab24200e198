//! Reads the body of an orchestrate request. Every field is checked, so that one response reports all
//! mistakes, up to [`Problem::MAX_ERRORS`]. The work is linear in the size of the body.

use std::{borrow::Cow, fmt, ops::RangeInclusive, str::FromStr};

use indexmap::IndexMap;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use tower_fanout::{Selection, Strategy};
use tower_fanout_http::problem::{Code, FieldError, Problem};

/// The options of an orchestrate request. A field that the request leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedOptions {
    /// `false` to call one service at a time.
    pub(crate) parallel: Option<bool>,
    /// Number of downstream calls in flight at once, 1 to 10.
    pub(crate) max_concurrency: Option<u8>,
    /// Time limit of the run in milliseconds, 1,000 to 120,000.
    pub(crate) timeout: Option<u32>,
    /// Number of retries per downstream call, 0 to 5.
    pub(crate) retry_attempts: Option<u8>,
    /// Success criterion.
    pub(crate) strategy: Option<Strategy>,
    /// Required services, by their index in the plan.
    pub(crate) required: Option<Vec<usize>>,
    /// Optional services, by their index in the plan.
    pub(crate) optional: Option<Vec<usize>>,
    /// `false` to turn fallbacks off.
    pub(crate) fallbacks: Option<bool>,
}

impl RequestedOptions {
    /// Returns the services to run. A list of services replaces the selection of the plan.
    pub(crate) fn selection(&self) -> Selection {
        if self.required.is_none() && self.optional.is_none() {
            return Selection::Plan;
        }
        let required = self.required.as_deref().unwrap_or_default();
        Selection::named(required, self.optional.as_deref().unwrap_or_default())
    }
}

/// Reads the body. `index_of` returns the index of a service in the plan by its name.
///
/// # Errors
/// Returns a problem if the body is not a JSON object or has a duplicate key, and a problem with the
/// errors of the first [`Problem::MAX_ERRORS`] invalid fields if a field is invalid.
pub(crate) fn read(
    body: &[u8],
    index_of: impl Fn(&str) -> Option<usize>,
) -> Result<RequestedOptions, Problem> {
    let members: Members<'_> = serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problem::new(Code::MalformedJson).detail(format!(
            "Expected a JSON object with unique keys; the error is at line {line}, column {column}."
        ))
    })?;
    let mut reader = Reader {
        index_of,
        errors: Vec::new(),
    };
    let mut requested = RequestedOptions::default();
    for (name, value) in members.0 {
        if reader.is_full() {
            break;
        }
        reader.field(&mut requested, &name, value.get());
    }
    reader.report_overlap(&requested);
    if reader.errors.is_empty() {
        Ok(requested)
    } else {
        Err(Problem::new(Code::Validation).errors(reader.errors))
    }
}

/// The members of an object in order. Deserialization fails on a duplicate key.
struct Members<'b>(IndexMap<String, &'b RawValue>);

impl<'de: 'b, 'b> serde::Deserialize<'de> for Members<'b> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = IndexMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("duplicate key"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

struct Reader<P> {
    index_of: P,
    errors: Vec<FieldError>,
}

/// Length in bytes up to which the name of an unknown field is repeated in a pointer.
const MAX_NAME: usize = 100;

impl<P: Fn(&str) -> Option<usize>> Reader<P> {
    /// Returns `true` if the problem has no room for a further error.
    fn is_full(&self) -> bool {
        self.errors.len() >= Problem::MAX_ERRORS
    }

    fn field(&mut self, requested: &mut RequestedOptions, name: &str, value: &str) {
        if name.len() > MAX_NAME {
            // The pointer of the whole body, because a pointer cannot be shortened.
            let detail = format!("unknown field with a name of more than {MAX_NAME} bytes");
            return self.report(String::new(), "unknown_field", detail);
        }
        // JSON Pointer escapes of RFC 6901.
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        match name {
            // The raw value has no leading whitespace, so the first byte tells its type.
            "input" if value.starts_with('{') => {}
            "input" => self.report(pointer, "type", "must be an object"),
            "parallelExecution" => requested.parallel = self.boolean(pointer, value),
            "enableFallbacks" => requested.fallbacks = self.boolean(pointer, value),
            "maxConcurrency" => requested.max_concurrency = self.integer(pointer, value, 1..=10),
            "timeout" => requested.timeout = self.integer(pointer, value, 1_000..=120_000),
            "retryAttempts" => requested.retry_attempts = self.integer(pointer, value, 0..=5),
            "aggregationStrategy" => requested.strategy = self.strategy(pointer, value),
            "requiredServices" => requested.required = self.services(&pointer, value),
            "optionalServices" => requested.optional = self.services(&pointer, value),
            _ => self.report(pointer, "unknown_field", "unknown field"),
        }
    }

    fn report(
        &mut self,
        pointer: String,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) {
        self.errors.push(FieldError::new(pointer, code, detail));
    }

    /// Returns `value`. Reports an error if it is `None`.
    fn or_report<T>(
        &mut self,
        value: Option<T>,
        pointer: String,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Option<T> {
        if value.is_none() {
            self.report(pointer, code, detail);
        }
        value
    }

    fn boolean(&mut self, pointer: String, value: &str) -> Option<bool> {
        self.or_report(value.parse().ok(), pointer, "type", "must be true or false")
    }

    /// Reads an integer in `range`. Accepts only digits, so `1e1` is not an integer.
    fn integer<T: FromStr + PartialOrd + fmt::Display>(
        &mut self,
        pointer: String,
        value: &str,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        let bounds = format!("from {} to {}", range.start(), range.end());
        // A negative integer has the right type but is out of range.
        let digits = value.strip_prefix('-').unwrap_or(value);
        if digits.bytes().any(|byte| !byte.is_ascii_digit()) {
            self.report(pointer, "type", format!("must be an integer {bounds}"));
            return None;
        }
        let within = value.parse().ok().filter(|number| range.contains(number));
        self.or_report(within, pointer, "range", format!("must be {bounds}"))
    }

    fn strategy(&mut self, pointer: String, value: &str) -> Option<Strategy> {
        let code = if value.starts_with('"') {
            "range"
        } else {
            "type"
        };
        let detail = "must be \"all\", \"partial\" or \"best_effort\"";
        let strategy = serde_json::from_str(value).ok();
        // A request cannot choose the other strategies, which only the file has.
        let offered = [Strategy::All, Strategy::Partial, Strategy::BestEffort];
        let strategy = strategy.filter(|strategy| offered.contains(strategy));
        self.or_report(strategy, pointer, code, detail)
    }

    fn services(&mut self, pointer: &str, value: &str) -> Option<Vec<usize>> {
        let names: Option<Vec<&RawValue>> = serde_json::from_str(value).ok();
        let detail = "must be a list of service names";
        let names = self.or_report(names, pointer.to_owned(), "type", detail)?;
        let mut indices = Vec::new();
        // Ends early, because a list with more items than services has unknown or duplicate ones.
        for (item, name) in names.into_iter().enumerate() {
            if self.is_full() {
                break;
            }
            let pointer = format!("{pointer}/{item}");
            match serde_json::from_str::<String>(name.get()).map(|name| (self.index_of)(&name)) {
                Err(_) => self.report(pointer, "type", "must be the name of a service"),
                Ok(None) => self.report(pointer, "unknown_service", "unknown service"),
                Ok(Some(index)) if indices.contains(&index) => {
                    self.report(pointer, "duplicate", "duplicate service");
                }
                Ok(Some(index)) => indices.push(index),
            }
        }
        Some(indices)
    }

    fn report_overlap(&mut self, requested: &RequestedOptions) {
        let (Some(required), Some(optional)) = (&requested.required, &requested.optional) else {
            return;
        };
        for (item, index) in optional.iter().enumerate() {
            if required.contains(index) {
                let pointer = format!("/optionalServices/{item}");
                let detail = "duplicate service, already in requiredServices";
                self.report(pointer, "duplicate", detail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index_of(name: &str) -> Option<usize> {
        ["onchain", "team"].iter().position(|known| *known == name)
    }

    fn errors(body: &str) -> Vec<(String, String)> {
        let problem = read(body.as_bytes(), index_of).unwrap_err();
        assert_eq!(problem.code(), Code::Validation, "{body}");
        let json: serde_json::Value = serde_json::from_str(&problem.to_json(None)).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let errors = json["errors"].as_array().unwrap().iter();
        errors
            .map(|error| (text(&error["pointer"]), text(&error["code"])))
            .collect()
    }

    fn error(body: &str) -> (String, String) {
        let errors = errors(body);
        assert_eq!(errors.len(), 1, "{body}: {errors:?}");
        errors.into_iter().next().unwrap()
    }

    #[test]
    fn reads_every_field() {
        let body = r#"{"input": {"symbol": "BTC"}, "parallelExecution": false, "maxConcurrency": 10,
            "timeout": 1000, "retryAttempts": 0, "aggregationStrategy": "best_effort",
            "requiredServices": ["team"], "optionalServices": ["onchain"], "enableFallbacks": false}"#;
        let requested = read(body.as_bytes(), index_of).unwrap();
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
        assert_eq!(read(b"{}", index_of).unwrap(), RequestedOptions::default());
    }

    #[test]
    fn fault_e1_rejects_a_body_that_is_not_a_json_object() {
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
            let problem = read(body.as_bytes(), index_of).unwrap_err();
            assert_eq!(problem.code(), Code::MalformedJson, "{body:?}");
        }
    }

    #[test]
    fn fault_e3_reports_all_mistakes_at_once() {
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
    fn fault_e4_rejects_an_unknown_field() {
        assert_eq!(error(r#"{"Timeout": 5000}"#).1, "unknown_field");
    }

    /// A comparison of each field with each other one would take minutes.
    #[test]
    fn fault_e37_many_mistakes_cost_linear_work_and_a_short_problem() {
        let list = |item: &str| vec![item; 100_000].join(",");
        let fields: Vec<_> = (0..100_000).map(|n| format!("\"{n:x}\":0")).collect();
        for body in [
            format!("{{{}}}", fields.join(",")),
            format!(r#"{{"optionalServices": [{}]}}"#, list("\"x\"")),
            format!(r#"{{"requiredServices": [{}]}}"#, list("\"team\"")),
            format!(r#"{{"requiredServices": [{}]}}"#, list("1")),
        ] {
            assert_eq!(errors(&body).len(), Problem::MAX_ERRORS);
        }
        // Each item costs a look-up only until the list has too many mistakes.
        let lookups = std::cell::Cell::new(0);
        let body = format!(r#"{{"optionalServices": [{}]}}"#, list("\"x\""));
        let counted = |name: &str| {
            lookups.set(lookups.get() + 1);
            index_of(name)
        };
        read(body.as_bytes(), counted).unwrap_err();
        assert_eq!(lookups.get(), Problem::MAX_ERRORS);
    }

    #[test]
    fn fault_e37_a_pointer_does_not_repeat_a_long_name() {
        let found = |name: &str| error(&format!("{{\"{name}\": 0}}")).0;
        let short = "n".repeat(MAX_NAME);
        assert_eq!(found(&short), format!("/{short}"));
        assert_eq!(found(&"n".repeat(MAX_NAME + 1)), "");
        let longest = format!("{:05}", 0).replace('0', r"\u0001");
        let fields = (0..100).map(|n| format!("\"{longest}{n:095}\":0"));
        let body = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
        let problem = read(body.as_bytes(), index_of).unwrap_err();
        assert!(problem.to_json(None).len() < 16 * 1024);
    }

    #[test]
    fn fault_e5_rejects_a_duplicate_key() {
        let many = (0..1000).map(|n| format!("\"{n}\": 0,"));
        let many = format!("{{{}\"0\": 1}}", many.collect::<String>());
        for body in [r#"{"timeout": 5000, "timeout": 6000}"#, &many] {
            let problem = read(body.as_bytes(), index_of).unwrap_err();
            assert_eq!(problem.code(), Code::MalformedJson);
            assert!(problem.to_json(None).contains("at line 1, column "));
        }
    }

    #[test]
    fn fault_e6_e7_e8_accepts_only_integers_within_their_range() {
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
    fn fault_e9_rejects_unknown_and_duplicate_services() {
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
    fn rejects_wrong_types_and_unknown_strategies() {
        assert_eq!(error(r#"{"input": [1]}"#).1, "type");
        assert_eq!(error(r#"{"aggregationStrategy": "some"}"#).1, "range");
        assert_eq!(error(r#"{"aggregationStrategy": "first"}"#).1, "range");
        assert_eq!(error(r#"{"aggregationStrategy": 1}"#).1, "type");
        assert_eq!(error(r#"{"parallelExecution": "true"}"#).1, "type");
        assert_eq!(error(r#"{"enableFallbacks": 1}"#).1, "type");
    }
}
