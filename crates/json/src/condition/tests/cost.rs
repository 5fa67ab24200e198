use super::*;
use crate::condition::cost::MAX_STEPS;

fn refusal(text: &str) -> String {
    match Condition::parse(text) {
        Ok(condition) => panic!("{text} takes {} steps", condition.0.steps),
        Err(error) => error.message,
    }
}

/// Repeats `part` up to the maximum length of a condition, before `last`.
fn repeated(part: &str, last: &str) -> String {
    part.repeat((1024 - last.len()) / part.len()) + last
}

#[test]
fn fault_j42_refuses_conditions_that_can_take_too_many_steps() {
    for text in [
        "body.a.all(x, body.b.exists(y, x == y))",
        "body.a.filter(x, x > 1).exists(y, y < 3)",
        "[[1], [2]].exists(x, x.map(y, y) == [1])",
        "has(body.a) && body.a.map(x, [1, 2].all(y, y == x)) == []",
    ] {
        assert!(refusal(text).contains("inside each other"), "{text}");
    }
    let texts = ["body.a"; 20].join(" + ") + " == ''";
    let lists = repeated("body.a.all(x, x > 1) || ", "true");
    let items = format!("body.a.all(x, {})", ["x.b > 1"; 20].join(" && "));
    let literal = format!(
        "[{}].all(x, {})",
        ["1"; 200].join(","),
        ["x>1"; 80].join("&&")
    );
    for text in [texts, lists, items, literal] {
        assert!(refusal(&text).contains("of 12000 allowed"), "{text}");
    }
}

#[test]
fn fault_j42_points_at_the_part_that_costs_most() {
    let items = format!("body.a.all(x, {})", ["x.b > 1"; 20].join(" && "));
    for (before, after, column) in [
        ("tier == 'a' && ", "", 16),
        ("", " || tier == 'a'", 1),
        ("tier == 'a' || !(has(query.a) && ", ")", 34),
    ] {
        let text = format!("{before}{items}{after}");
        let error = Condition::parse(&text).unwrap_err();
        let help = error.help.unwrap();
        assert_eq!(error.column, column, "{text}");
        assert!(help.starts_with("the part here takes 64"), "{help}");
    }
    // No part costs more than the others together.
    let error = Condition::parse(&repeated("body.a.all(x, x > 1) || ", "true")).unwrap_err();
    assert_eq!(error.column, 1);
    assert!(error.help.unwrap().starts_with("compare fewer members"));
}

#[test]
fn fault_j42_refuses_conditions_that_are_too_long_or_too_deep() {
    assert!(refusal(&"true && ".repeat(200)).contains("at most 1024 bytes"));
    for text in [
        repeated("-(", ""),
        repeated("!(", ""),
        repeated("1 + ", "1 == 1"),
        "body".to_owned() + &repeated(".a", " == 1"),
        repeated("(", ""),
        repeated("[", ""),
        repeated("true ? true : ", "true"),
        repeated("size(", ""),
        repeated("[1][0] + ", "1 == 1"),
        "[1]".to_owned() + &repeated("[0]", " == 1"),
        repeated("has(", ""),
    ] {
        let message = refusal(&text[..text.len().min(1024)]);
        let is_about_depth = ["inside each other", "nested", "unexpected"]
            .iter()
            .any(|part| message.contains(part));
        assert!(is_about_depth, "{text}: {message}");
    }
}

#[test]
fn admits_long_conditions_whose_parts_are_cheap() {
    for (part, last) in [
        ("tier == 'a' || ", "true"),
        ("has(query.a) && ", "true"),
        ("tier in ['a', 'b', 'c'] || ", "true"),
        ("1 < 2 && ", "true"),
        ("query.a.startsWith('b') || ", "true"),
    ] {
        let text = repeated(part, last);
        let steps = parse(&text).0.steps;
        assert!(steps <= MAX_STEPS, "{part}: {steps}");
    }
    let realistic = "body.items.exists(i, i.price > 10 && i.kind == 'x' && i.tags.contains('y'))";
    assert!(parse(realistic).0.steps <= MAX_STEPS);
}

#[test]
fn fault_j43_rejects_values_that_are_too_large() {
    let list = |items: usize| format!("[{}]", vec!["1"; items].join(","));
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    let of = |value: String, text: &str| {
        let known = Known::with_body(&format!(
            "{{\"a\": {value}, \"b\": {{\"c\": {value}}}, \"d\": 1}}"
        ));
        parse(text).holds(&known).map_err(|error| error.to_string())
    };
    let too_large = |name: &str| Err(format!("the value of {name} is too large for a condition"));
    assert_eq!(of(list(256), "2 in body.a"), Ok(false));
    assert_eq!(of(list(257), "2 in body.a"), too_large("body.a"));
    assert_eq!(of(list(257), "size(body.a) > 1"), too_large("body.a"));
    assert_eq!(of(list(257), "body.a.all(x, x == 1)"), too_large("body.a"));
    assert_eq!(of(list(257), "body.a == body.b.c"), too_large("body.a"));
    assert_eq!(of(list(257), "body.b == body.a"), too_large("body.b"));
    assert_eq!(of(list(257), "body.a[0] == 1"), too_large("body.a"));
    assert_eq!(of(list(257), "type(body.a) == list"), too_large("body.a"));
    assert_eq!(of(text(8190), "body.a.contains('y')"), Ok(false));
    assert_eq!(of(text(8191), "body.a.contains('y')"), too_large("body.a"));
    assert_eq!(of(text(9000), "body.a == 'y'"), too_large("body.a"));
    assert_eq!(of(text(9000), "body.a + 'y' == 'y'"), too_large("body.a"));
    assert_eq!(of(text(9000), "body.a < 'y'"), too_large("body.a"));
    // Large values can be skipped, tested for, and searched for members.
    for value in [list(300), text(9000)] {
        let reads = "has(body.a) && 'a' in body && has(body.b.c) && body.d == 1 && !has(body.b.e)";
        assert_eq!(of(value, reads), Ok(true));
    }
}

#[test]
fn fault_j43_bounds_the_members_that_an_evaluation_passes() {
    let members = |count: usize| -> String {
        let members = (0..count).map(|index| format!("\"m{index}\": 1, "));
        format!("{{{} \"last\": 7}}", members.collect::<String>())
    };
    let holds = |count: usize, text: &str| parse(text).holds(&Known::with_body(&members(count)));
    assert_eq!(holds(4000, "body.last == 7"), Ok(true));
    assert!(matches!(
        holds(4100, "body.last == 7"),
        Err(EvalError::TooLarge(_))
    ));
    assert!(matches!(
        holds(3000, "body.last == 7 && body.m1 == 1"),
        Err(EvalError::TooLarge(_))
    ));
    // Members inside of other values are not passed.
    let inside = format!("{{\"big\": {}, \"last\": 7}}", members(100_000));
    assert_eq!(
        parse("body.last == 7").holds(&Known::with_body(&inside)),
        Ok(true)
    );
}

#[test]
fn no_condition_overflows_the_stack() {
    for part in [
        "tier.a", "-", "!", "true && ", "1 + ", "(", "[", "{", "a(", "has(", "a ? a : ", "1 == ",
        ".a", "[0]",
    ] {
        let text = repeated(part, "");
        let _ = Condition::parse(&text).map(|condition| condition.holds(&Known::new()));
    }
}
