mod cost;
mod former;
mod property;
mod table;

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

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
    lookups: AtomicUsize,
}

impl Known {
    fn new() -> Self {
        let texts = [
            ("tier", "pro"),
            ("query.page", "4"),
            ("query.name", "Ada"),
            ("query.flag", "true"),
            ("query.empty", ""),
            ("header.x-client", "App/1"),
            ("header.host", "127.0.0.1:8080"),
            ("route.id", "7"),
        ];
        let body = r#"{"n": 7, "big": 1E400, "nothing": null, "yes": true, "half": 0.5, "text": "Grün\n",
            "in": {"a.b": "x"}, "inner": {"c": {"d": [1]}}, "list": [1, "two", {"name": "three"}, [5], null],
            "items": [{"kind": "a", "price": 5}, {"kind": "b", "price": 12.5}], "lone": "\ud800",
            "huge": 18446744073709551615, "safe": 9007199254740993, "n": 8}"#;
        Self {
            texts: texts.into(),
            body: Json::parse(body.into()).unwrap(),
            claims: serde_json::json!({
                "sub": "ada", "level": "3", "admin": false, "roles": ["reader", "admin"], "org": {"plan": "x"},
            }),
            lookups: AtomicUsize::new(0),
        }
    }

    fn with_body(body: &str) -> Self {
        Self {
            body: Json::parse(body.to_owned().into()).unwrap(),
            ..Self::new()
        }
    }
}

impl Lookup for Known {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        match &reference.root {
            Root::Body => self.body.get(&reference.path).map(Found::Json),
            Root::Jwt => {
                let path: String = reference
                    .path
                    .iter()
                    .map(|step| format!("/{step}"))
                    .collect();
                self.claims.pointer(&path).map(Found::Tree)
            }
            Root::Header if reference.path == ["x-bytes"] => Some(Found::Unusable),
            _ => {
                let text = self.texts.get(reference.to_string().as_str())?;
                Some(Found::Text((*text).into()))
            }
        }
    }
}

fn parse(text: &str) -> Condition {
    Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn looks_up_only_the_values_read_and_each_once() {
    for (text, lookups) in [
        ("tier == 'pro' || query.page == '1'", 1),
        ("query.page == query.page && query.page != tier", 2),
        ("body.list == body.list && size(body.list) == 5", 1),
        ("['page', 'page'].all(name, query[name] == '4')", 1),
        ("true || has(jwt.sub)", 0),
    ] {
        let known = Known::new();
        assert_eq!(parse(text).holds(&known), Ok(true), "{text}");
        assert_eq!(known.lookups.into_inner(), lookups, "{text}");
    }
}

#[test]
fn conditions_are_shareable_and_display_their_text() {
    fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let condition = parse("tier != 'free'");
    shared(&condition);
    assert_eq!(condition.to_string(), "tier != 'free'");
    assert_eq!(format!("{condition:?}"), "Condition(\"tier != 'free'\")");
}

#[test]
fn fault_j28_lists_the_names_that_a_condition_reads() {
    for (text, expected) in [
        ("jwt.role == 'route.x' && tier != ''", "jwt.role:1 tier:26"),
        ("route['a.b'] + route.id == ''", "route.a.b:1 route.id:16"),
        (
            "has(body.jwt.list) && body.list[int(query.page)] == 1",
            "body.jwt.list:5 body.list:23 query.page:37",
        ),
        ("header['X-A'] in [tier, \"tier\"]", "header.x-a:1 tier:19"),
        (
            "'é' != tier && 'a' in query && 'b' in jwt.roles",
            "tier:8 query.a:16 jwt.roles:39",
        ),
        (
            "body.list[0].name == 1 && has (query.a)",
            "body.list.0.name:1 query.a:32",
        ),
        (
            "jwt.roles.exists(role, role == tier)",
            "jwt.roles:1 tier:32",
        ),
    ] {
        let condition = parse(text);
        let names = condition.references().iter();
        let names: Vec<_> = names
            .map(|(name, column)| format!("{name}:{column}"))
            .collect();
        assert_eq!(names.join(" "), expected, "{text}");
    }
    for (text, expected) in [
        ("tier == 'a' || 'b' != tier", "a:9 b:16"),
        ("query.x == 'c' && !(tier in ['a', \"b\"])", "a:30 b:35"),
        ("tier in ['a', query.x] && tier + 'x' == 'y'", "a:10"),
        (
            "query.tier == 'a' && tier.upperAscii() == 'B' && 'pro' in [tier]",
            "",
        ),
    ] {
        let condition = parse(text);
        let tiers = condition.tiers().into_iter();
        let tiers: Vec<_> = tiers
            .map(|(name, column)| format!("{name}:{column}"))
            .collect();
        assert_eq!(tiers.join(" "), expected, "{text}");
    }
}

#[test]
fn reads_reports_the_roots_that_are_read() {
    let condition = parse("body.n > 1 || query.page == 'body.jwt'");
    let read = [Root::Body, Root::Query, Root::Jwt].map(|root| condition.reads(&root));
    assert_eq!(read, [true, true, false]);
}
