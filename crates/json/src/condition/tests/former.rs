use super::*;

const FORMER: &str = "is not CEL";

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
        ("jwt.roles[0] is defined", "size(jwt.roles) > 0"),
        ("jwt.roles[2] is not defined", "!(size(jwt.roles) > 2)"),
        ("jwt.admin == True", "jwt.admin == true"),
        ("False or jwt.admin != None", "false || jwt.admin != null"),
        ("jwt.n // 2 == 1", "jwt.n / 2 == 1"),
        ("query.a is none", "!has(query.a)"),
        ("header.x is not none", "has(header.x)"),
        (
            "query.a == None or route['id'] != None",
            "!has(query.a) || 'id' in route",
        ),
        ("'a' not in query.a", "!query.a.contains('a')"),
        ("query.a is in(['x'])", "query.a in ['x']"),
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
        assert!(error.message.ends_with(FORMER), "{text}: {error}");
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
        "query.a-b is defined",
        "1 < query.a|int < 5",
        "query[0] is defined",
        "tier == 'a' // only True",
    ] {
        let error = Condition::parse(text).unwrap_err();
        assert!(!error.message.ends_with(FORMER), "{text}: {error}");
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

#[test]
fn points_at_the_first_word_that_cel_does_not_have() {
    for (text, column, token) in [
        ("query['é'] == '' or tier is defined", 18, "or"),
        ("not tier == 'a'", 1, "not"),
        ("tier == 'a'\n  and query.b == '1'", 15, "and"),
        ("tier in ('a', 'b')", 9, "("),
        ("query.a|int > 3 or not has(query.b)", 8, "|"),
    ] {
        let error = Condition::parse(text).unwrap_err();
        assert_eq!(error.message, format!("\"{token}\" is not CEL"), "{text}");
        assert_eq!(error.column, column, "{text}");
    }
}

/// Each help that says what to write, for operands of every type, is an expression without mistakes.
#[test]
fn suggests_only_expressions_without_mistakes() {
    let operands = "query.a|header['x-a']|tier|jwt.roles[0]|body.n|type(body.id)|'int'|'a'|3|1.5|2u|true|None|null|[1]|query|size(tier)";
    let operators = ["==", "<", "+", "*", "in", "&&", "-", "and", "not in", "//"];
    let prose = [
        "/ to",
        "a list in",
        "items of",
        "the condition in",
        "&& for",
        "|| for",
        "! for",
    ];
    let pairs = operands
        .split('|')
        .flat_map(|left| operands.split('|').map(move |right| (left, right)));
    let texts = pairs
        .flat_map(|(left, right)| operators.map(|operator| format!("{left} {operator} {right}")));
    let mut count = 0;
    for text in texts {
        let help = Condition::parse(&text).err().and_then(|error| error.help);
        let help = help.unwrap_or_default();
        let Some((_, code)) = help.split_once("write ") else {
            continue;
        };
        if prose.iter().any(|prose| code.starts_with(prose)) {
            continue;
        }
        count += 1;
        // A suggestion of another type than bool is a part of a condition.
        let compared = format!("({code}) == ({code})");
        let refused = [code, &compared].map(|one| Condition::parse(one).err());
        assert!(
            refused.iter().any(Option::is_none),
            "{text}: {help}: {refused:?}"
        );
    }
    assert!(count > 100, "{count} suggestions");
}

/// The code of a help has no mistakes in place of the whole comparison, also inside of another operation.
#[test]
fn suggests_only_code_that_can_stand_for_the_whole_comparison() {
    let operands = "query.a|tier|body.n|type(body.id)|'int'|'query.a'|3|1.5|2u|true|nil|null|[1]|query|undefined";
    let operators = [
        "==", "!=", "<", "+", "-", "in", "&", "<>", "===", "AND", "?.",
    ];
    let around = [
        "{} == 2",
        "!({} == 'x') && true",
        "tier == 'a' ? {} : false",
    ];
    let mut count = 0;
    for left in operands.split('|') {
        for right in operands.split('|') {
            for (operator, around) in operators.into_iter().zip(around.into_iter().cycle()) {
                let text = around.replace("{}", &format!("{left} {operator} {right}"));
                let errors = Condition::parse_all(&text).err().unwrap_or_default();
                for code in errors.into_iter().filter_map(|error| error.code) {
                    count += 1;
                    // The operand of a condition with another mistake may be no boolean.
                    let compared = format!("({code}) == ({code})");
                    let is_valid = [&code, &compared].map(|one| Condition::parse(one).is_ok());
                    assert!(is_valid.contains(&true), "{text}: {code}");
                }
            }
        }
    }
    assert!(count > 50, "{count}");
}
