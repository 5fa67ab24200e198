use std::{cell::Cell, collections::HashMap};

use super::*;
use crate::{
    Json,
    template::{Found, Root},
};

/// A request that counts its lookups.
struct Known {
    texts: HashMap<&'static str, &'static str>,
    body: Json,
    claims: serde_json::Value,
    looked: Cell<usize>,
}

impl Known {
    fn new() -> Self {
        let texts = [
            ("tier", "pro"),
            ("query.page", "4"),
            ("query.empty", ""),
            ("header.x-client", "App/1"),
            ("route.id", "7"),
        ];
        let body = r#"{"n": 7, "big": 1E400, "null": null, "yes": true, "half": 0.5,
            "in": {"a.b": "x"}, "list": [1, "two", {"name": "three"}, [5], null]}"#;
        Self {
            texts: texts.into(),
            body: Json::parse(body.into()).unwrap(),
            claims: serde_json::json!({"sub": "ada", "roles": ["a", "b"], "org": {"plan": "x"}}),
            looked: Cell::new(0),
        }
    }
}

impl Lookup for Known {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        self.looked.set(self.looked.get() + 1);
        match &reference.root {
            Root::Body => self.body.get(&reference.path).map(Found::Json),
            Root::Jwt => self
                .claims
                .pointer(&format!("/{}", reference.path.join("/")))
                .map(Found::Tree),
            _ => {
                let text = self.texts.get(reference.to_string().as_str())?;
                Some(Found::Text((*text).into()))
            }
        }
    }
}

fn holds(text: &str) -> Result<bool, EvalError> {
    Condition::parse(text).unwrap().holds(&Known::new())
}

#[test]
fn evaluates_expressions_over_the_request() {
    for text in [
        "true",
        "tier == 'pro' and not tier != 'pro'",
        "query.page == '4' and query.page != 4 and query.page|int >= 4",
        "query['page'] == \"4\" or tier == 'x'",
        "query.empty == ''",
        "header['X-Client']|lower == 'app/1' and header['x-client'] is startingwith 'App'",
        "'App' in header['x-client'] and tier in ['free', 'pro']",
        "route.id ~ '!' == '7!'",
        "body.n == 7 and body.n / 2 > 3 and body.half == 0.5",
        "body.null is none and body.null != 1 and body.yes",
        "body.in['a.b'] == 'x'",
        "body.list|length == 5 and 'two' in body.list and body.list[2].name == 'three'",
        "body.list[-1] is none and body.list['0'] == 1 and body.list[3] == [5]",
        "'a' in jwt.roles and 'c' not in jwt.roles and jwt.roles == ['a', 'b']",
        "jwt.org.plan == 'x' if jwt.sub is string else false",
    ] {
        assert_eq!(holds(text), Ok(true), "{text}");
    }
}

#[test]
fn reading_a_missing_value_is_an_error() {
    for (text, missing) in [
        ("jwt.none == 'x'", "jwt.none"),
        ("jwt.none != 'x'", "jwt.none"),
        ("not jwt.none", "jwt.none"),
        ("jwt.none", "jwt.none"),
        ("jwt.none is none", "jwt.none"),
        ("jwt.none in ['x']", "jwt.none"),
        ("'x' in jwt.none", "jwt.none"),
        ("jwt.none|lower == 'x'", "jwt.none"),
        ("jwt.none|length == 0", "jwt.none"),
        ("jwt.none < 3", "jwt.none"),
        ("jwt.none ~ 'x' == 'x'", "jwt.none"),
        ("jwt.none.deeper == 1", "jwt.none"),
        ("[jwt.none] == []", "jwt.none"),
        ("tier == 'x' or query.none == 'y'", "query.none"),
        ("'none' in query", "query.none"),
        ("header.Accept == 'x'", "header.accept"),
        ("body.list[9] != 1", "body.list.9"),
        ("body.list[-9] != 1", "body.list.-9"),
        ("body.list.name != 1", "body.list.name"),
        ("body.list[2].age != 1", "body.list.2.age"),
        ("body.none|default(jwt.none) != 1", "jwt.none"),
        ("body.none is defined or jwt.none == 1", "jwt.none"),
        ("[jwt.none, 1][1] is defined", "jwt.none"),
    ] {
        match holds(text) {
            Err(EvalError::Missing(reference)) => assert_eq!(reference.to_string(), missing),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn missing_values_can_be_tested_or_given_a_default() {
    for (text, truth) in [
        ("jwt.sub is defined and jwt.sub == 'ada'", true),
        ("jwt.none is defined and jwt.none == 'x'", false),
        ("jwt.none is not defined", true),
        ("jwt.none is undefined or jwt.none == 'x'", true),
        ("body.a.b.c is defined", false),
        ("body.null is defined", true),
        ("query.none|default('1') == '1'", true),
        ("query.page|default(jwt.none) == '4'", true),
        ("tier == 'pro' or jwt.none", true),
        ("body.list[9] is defined", false),
    ] {
        assert_eq!(holds(text), Ok(truth), "{text}");
    }
}

#[test]
fn rejects_results_that_are_not_boolean() {
    for text in [
        "tier",
        "1",
        "body.null",
        "jwt.roles",
        "tier and 'x'",
        "body.n",
    ] {
        assert_eq!(holds(text), Err(EvalError::NotBoolean), "{text}");
    }
}

#[test]
fn rejects_unsupported_operations() {
    for text in [
        "body.in == {'a.b': 'x'}",
        "body.in|length == 1",
        "not body.in",
        "body.big > 1",
        "tier|int == 0",
        "tier - 1 == 0",
        "body.n / 0 == 1",
        "not [1][5]",
    ] {
        assert!(matches!(holds(text), Err(EvalError::Unusable(_))), "{text}");
    }
}

#[test]
fn parse_errors_name_the_problem_and_its_column() {
    for (text, column, expected) in [
        ("", 1, "unexpected end of input"),
        ("tier ==", 6, "unexpected end of input"),
        ("tier = 'x'", 6, "unexpected"),
        ("tier == 'x", 11, "end of string"),
        ("'é' == tier )", 13, "unexpected"),
        ("user.plan == 'x'", 1, "unknown name \"user\""),
        ("'é' == plan", 8, "unknown name \"plan\""),
        ("header.x-client == 'a'", 10, "unknown name \"client\""),
        ("tier == free", 9, "unknown name \"free\""),
        ("body.foo == foo", 13, "unknown name \"foo\""),
        ("range(3)|length == 3", 1, "unknown name \"range\""),
        ("tier|lowr == 'x'", 6, "unknown filter \"lowr\""),
        ("tier|map('x') == 'x'", 6, "unknown filter \"map\""),
        ("tier is nice", 9, "unknown test \"nice\""),
        ("tier is not nice", 13, "unknown test \"nice\""),
        ("tier.lower() == 'x'", 11, "calls are not supported"),
        ("'user|x is y' == tier|x", 23, "unknown filter \"x\""),
        ("{% include 'x' %}", 2, "unexpected `%`"),
        ("{{ tier }}", 9, "unexpected `}`"),
    ] {
        let error = Condition::parse(text).unwrap_err();
        assert!(error.message.contains(expected), "{text}: {error}");
        assert_eq!(error.column, column, "{text}: {error}");
    }
    for text in [
        "body.is and true",
        "tier == 'a\\'|x'",
        "body.not_is.user == (1)",
        "not (tier == 'is x|y(')",
    ] {
        assert!(Condition::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn bounds_evaluation_steps_and_value_sizes() {
    let long = format!("('{}' * 1000000)|length > 1", "x".repeat(100));
    assert_eq!(holds(&long), Err(EvalError::OutOfFuel));
    let mut known = Known::new();
    let mut read = |value: String, text: &str| {
        known.body = Json::parse(format!("{{\"x\": {value}}}").into()).unwrap();
        Condition::parse(text).unwrap().holds(&known)
    };
    let list = |items: usize| format!("[{}]", vec!["1"; items].join(","));
    let often = ["2 in body.x"; 10].join(" or ");
    assert_eq!(read(list(30_000), "2 in body.x"), Ok(false));
    assert_eq!(read(list(30_000), &often), Err(EvalError::OutOfFuel));
    let unusable = |result| match result {
        Err(EvalError::Unusable(Some(reference))) => reference.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(unusable(read(list(40_000), "2 in body.x")), "body.x");
    let text = format!("\"{}\"", "x".repeat(70_000));
    assert_eq!(unusable(read(text, "'y' in body.x")), "body.x");
    let surrogate = r#""a\ud800""#.to_owned();
    assert_eq!(unusable(read(surrogate, "body.x != 'a'")), "body.x");
    assert_eq!(unusable(read("{}".into(), "body.x|length == 0")), "body.x");
    assert_eq!(
        unusable(read("7".into(), "body.x == 7 and tier|int == 0")),
        "tier"
    );
    let deep = "(".repeat(10_000) + "true" + &")".repeat(10_000);
    assert!(Condition::parse(&deep).is_err());
}

#[test]
fn looks_up_only_the_values_read_and_each_once() {
    let condition = Condition::parse("tier == 'pro' or body.n == body.n").unwrap();
    let known = Known::new();
    assert_eq!(condition.holds(&known), Ok(true));
    assert_eq!(known.looked.get(), 1);
    let condition = Condition::parse("body.n == body.n and body.n > tier|length").unwrap();
    let known = Known::new();
    assert_eq!(condition.holds(&known), Ok(true));
    assert_eq!(known.looked.get(), 2);
}

#[test]
fn conditions_are_shareable_and_display_their_text() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let condition = Condition::parse("tier != 'free'").unwrap();
    shared(&condition);
    assert_eq!(condition.to_string(), "tier != 'free'");
    assert_eq!(format!("{condition:?}"), "Condition(\"tier != 'free'\")");
}

#[test]
fn rejects_all_forms_of_calls() {
    for text in ["tier('x')", "(tier)('x')", "query['x']('y')", "tier.x()"] {
        let error = Condition::parse(text).unwrap_err();
        assert!(
            error.message.contains("calls are not supported"),
            "{text}: {error}"
        );
    }
    for text in [
        "tier == ('x')",
        "not (tier == 'x')",
        "tier|default('x') == 'x'",
        "tier in ('a', 'b')",
    ] {
        assert!(Condition::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn no_condition_overflows_the_stack() {
    let long = |part: &str, last: &str| part.repeat(1010 / part.len()) + last;
    for text in [
        "tier".to_owned() + &long("|lower", ""),
        long("not ", "true"),
        long("- ", "1"),
        long("true and ", "true"),
        long("true if true else ", "true"),
        long("2 ** ", "2"),
        long("(", ""),
        long("[", ""),
        "body".to_owned() + &long(".a", ""),
    ] {
        assert!(text.len() <= 1024);
        let _ = Condition::parse(&text).map(|condition| condition.holds(&Known::new()));
        let error = Condition::parse(&text.repeat(100)).unwrap_err();
        assert!(error.message.contains("at most 1024 bytes"), "{error}");
    }
}

#[test]
fn fault_j28_lists_the_names_that_a_condition_reads() {
    for (text, expected) in [
        ("jwt.role == 'route.x' and tier", "jwt.role tier"),
        ("route['a.b'] ~ route.id[0]", "route.a.b route.id"),
        (
            "body.jwt.list[query.page|int] is defined",
            "body.jwt.list query.page",
        ),
        ("header['x-a'] in [tier, \"tier\"]", "header.x-a tier"),
        ("query['a\\'b']", "query"),
    ] {
        let references = Condition::parse(text).unwrap().references();
        let names: Vec<_> = references.iter().map(ToString::to_string).collect();
        assert_eq!(names.join(" "), expected, "{text}");
    }
    for (text, expected) in [
        ("tier == 'a' or 'b' != tier", "a b"),
        ("query.x == 'c' and tier not in ['a', \"b\"]", "a b"),
        ("tier in ('a') and tier ~ 'x' == 'y'", "a"),
        ("tier == 'a' ~ query.b or 'c' ~ 'd' == tier", ""),
        (
            "query.tier == 'a' and tier|upper == 'B' and 'pro' in tier",
            "",
        ),
        ("'tier == \"a\"' == query.x", ""),
    ] {
        let condition = Condition::parse(text).unwrap();
        assert_eq!(condition.tiers().join(" "), expected, "{text}");
    }
}

#[test]
fn reads_reports_the_roots_that_are_read() {
    let condition = Condition::parse("body.n > 1 or query.page == 'body.jwt'").unwrap();
    let read = [Root::Body, Root::Query, Root::Jwt].map(|root| condition.reads(&root));
    assert_eq!(read, [true, true, false]);
}
