use super::*;

const FORMER: &str = "expected a condition in CEL, got one in the former language";

#[test]
fn shows_conditions_of_the_former_language_in_cel() {
    for (text, expected) in [
        ("query.offers is defined", "has(query.offers)"),
        ("query.offers is not defined", "!has(query.offers)"),
        (
            "query.a is undefined or query.a == 'x'",
            "!has(query.a) || query.a == 'x'",
        ),
        ("header['x-a'] is defined", "'x-a' in header"),
        ("header['x-a'] is not defined", "!('x-a' in header)"),
        (
            "tier == 'a' and not tier == 'b'",
            "tier == 'a' && !(tier == 'b')",
        ),
        ("not (tier == 'a')", "!(tier == 'a')"),
        ("tier in ('free', 'pro')", "tier in ['free', 'pro']"),
        ("tier not in ('free')", "!(tier in ['free'])"),
        (
            "query.page|int > 3 and query.page|int <= 9",
            "int(query.page) > 3 && int(query.page) <= 9",
        ),
        ("query.a|length == 2", "size(query.a) == 2"),
        (
            "header.h|lower is startingwith 'a'",
            "header.h.lowerAscii().startsWith('a')",
        ),
        (
            "header.host is endingwith('.org')",
            "header.host.endsWith('.org')",
        ),
        (
            "query.a|default('1') == '1'",
            "(has(query.a) ? query.a : '1') == '1'",
        ),
        ("route.id ~ '!' == '7!'", "route.id + '!' == '7!'"),
        (
            "body.a == 1 if tier == 'x' else false",
            "tier == 'x' ? body.a == 1 : false",
        ),
        ("body.null is none", "body['null'] == null"),
        (
            "body.n is number and body.s is string",
            "type(body.n) in [int, uint, double] && type(body.s) == string",
        ),
        (
            "(tier == 'a' or tier == 'b') and body.yes",
            "(tier == 'a' || tier == 'b') && body.yes",
        ),
    ] {
        let error = Condition::parse(text).unwrap_err();
        assert_eq!(error.message, FORMER, "{text}");
        assert_eq!(error.help.unwrap(), format!("write {expected}"), "{text}");
        let rewritten = Condition::parse(expected);
        assert!(rewritten.is_ok(), "{expected}: {rewritten:?}");
    }
}

#[test]
fn does_not_rewrite_what_is_no_condition_of_the_former_language() {
    for text in [
        "tier ==",
        "tier == 'a' && query.page == 1",
        "tier is nice",
        "tier|map('x') == 'x'",
        "tier == 'a",
        "tier and",
        "tier in ('a'",
        "{% if %}",
        "a if b",
    ] {
        let error = Condition::parse(text).unwrap_err();
        assert_ne!(error.message, FORMER, "{text}");
    }
}

#[test]
fn bounds_the_nesting_of_conditions_that_are_rewritten() {
    for part in [
        "(",
        "not ",
        "- ",
        "[",
        "tier and (",
        "tier is in ",
        "tier|default(",
        "tier.",
    ] {
        let text = part.repeat(1000 / part.len());
        assert!(Condition::parse(&text).is_err());
    }
}
