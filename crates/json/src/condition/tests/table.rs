//! One table of expressions over one request, with their results and diagnostics.

use super::*;

/// The outcome of a condition.
enum Outcome {
    Holds(bool),
    /// The condition reads a value that is missing.
    Missing(&'static str),
    /// The condition cannot use a value.
    Unusable(&'static str),
    /// The result is that of a value that is no boolean.
    NotBoolean(&'static str),
    /// The condition is refused: the column, a part of the message, and a part of the help.
    Refused(usize, &'static str, &'static str),
}

use Outcome::{Holds, Missing, NotBoolean, Refused, Unusable};

#[rustfmt::skip]
const TABLE: &[(&str, Outcome)] = &[
    // Texts of the request.
    ("tier != 'free'", Holds(true)),
    ("tier == 'pro' && query.page == '4' && route.id == \"7\"", Holds(true)),
    ("tier in ['free', 'basic'] || !(tier in ['pro'])", Holds(false)),
    ("header['X-Client'].lowerAscii() == 'app/1' && header['x-client'].startsWith('App')", Holds(true)),
    ("header.host.contains('0.0') && header.host.endsWith(':8080')", Holds(true)),
    ("query.name.upperAscii() + '!' == 'ADA!' && size(query.name) == 3", Holds(true)),
    ("query.empty == '' && query.name < 'B'", Holds(true)),
    ("int(query.page) == 4 && int(query.page) > 3 && double(query.page) * 2.0 < 8.5", Holds(true)),
    ("bool(query.flag) && string(int(query.page) + 1) == '5' && uint(route.id) == 7u", Holds(true)),
    ("tier == 'free' ? query.page == '1' : query.page == '4'", Holds(true)),
    // Presence.
    ("has(query.page) && !has(query.none) && has(query.empty)", Holds(true)),
    ("'x-client' in header && !('x-other' in header) && 'id' in route", Holds(true)),
    ("has(jwt.none) && jwt.none == 'x'", Holds(false)),
    ("has(body.inner.c.d) && !has(body.inner.none) && has(body.list) && has(body.nothing)", Holds(true)),
    ("(has(query.size) ? query.size : '1') == '1'", Holds(true)),
    ("tier == 'pro' || query.none == 'x'", Holds(true)),
    ("query.none == 'x' || tier == 'pro'", Holds(true)),
    ("query.none == 'x' && tier == 'free'", Holds(false)),
    ("query.none == 'x'", Missing("query.none")),
    ("query.none != 'x'", Missing("query.none")),
    ("header.Accept == 'x' || tier == 'free'", Missing("header.accept")),
    ("tier == 'pro' && (tier == 'x' ? jwt.a == 1 : jwt.b == 1)", Missing("jwt.b")),
    ("jwt.none.deeper == 1", Missing("jwt.none")),
    ("has(jwt.none.deeper)", Missing("jwt.none")),
    ("body.list[9] == 1", Missing("body.list.9")),
    ("body.list[2].age == 1", Missing("body.list.2.age")),
    ("size(body.list) == 5 && int(jwt.none) == 1", Missing("jwt.none")),
    // Values of JSON.
    ("body.n == 8 && body.n / 3 == 2 && body.half == 0.5 && body.n > 7.5", Holds(true)),
    ("body.nothing == null && body.n != null && body.yes && body.huge > 1u", Holds(true)),
    ("body.text == 'Grün\\n' && body['in']['a.b'] == 'x'", Holds(true)),
    ("'two' in body.list && body.list[2].name == 'three' && body.list[3] == [5]", Holds(true)),
    ("'admin' in jwt.roles && jwt.roles == ['reader', 'admin'] && jwt.org.plan == 'x'", Holds(true)),
    ("jwt.roles.exists(role, role.startsWith('adm'))", Holds(true)),
    ("jwt.roles.all(role, role != tier) && jwt.roles.exists(role, role == 'admin')", Holds(true)),
    ("body.items.exists(item, item.kind == 'b' && item.price > 12)", Holds(true)),
    ("body.items.exists_one(item, item.price > 1)", Holds(false)),
    ("body.items.filter(item, item.price > 6) == []", Holds(false)),
    ("jwt.roles.map(role, size(role)) == [6, 5] && [1, 2].map(n, n > 1, n * 2) == [4]", Holds(true)),
    ("['page', 'name'].all(name, name in query && size(query[name]) > 0)", Holds(true)),
    ("jwt.level == 3", Holds(false)),
    ("int(jwt.level) == 3 && type(jwt.level) == string && type(body.n) == int", Holds(true)),
    ("type(body.list) == list && type(body.inner) == map && type(body.nothing) == null_type", Holds(true)),
    ("jwt.admin", Holds(false)),
    ("jwt.sub", NotBoolean("jwt.sub")),
    ("body.n", NotBoolean("body.n")),
    ("tier == 'pro' ? body.n : body.yes", NotBoolean("body.n")),
    ("body.n > 1 ? body.list[0] : jwt.sub", NotBoolean("body.list.0")),
    ("body.n + body.n", NotBoolean("body.n")),
    // A double has no more than 53 bits of an integer.
    ("body.safe == 9007199254740992.0 && body.safe == 9007199254740993", Holds(true)),
    ("body.safe > 9007199254740992.0", Holds(false)),
    // Values that an operation cannot use.
    ("int(query.name) == 1", Unusable("query.name")),
    ("int(query.name) == 1 || query.page == '1'", Unusable("query.name")),
    ("jwt.level > 2", Unusable("jwt.level")),
    ("jwt.sub && true", Unusable("jwt.sub")),
    ("body.n / (body.n - 8) == 1", Unusable("body.n")),
    ("body.half + 1 == 1.5", Unusable("body.half")),
    ("body.big == 1", Unusable("body.big")),
    ("body.lone == 'x'", Unusable("body.lone")),
    ("header['x-bytes'] == 'x'", Unusable("header.x-bytes")),
    ("jwt.sub.exists(one, one == 'a')", Unusable("jwt.sub")),
    ("body.list.all(one, one > 0)", Unusable("body.list")),
    ("body.list[int(query.name)] == 1", Unusable("query.name")),
    // Types that do not fit.
    ("query.page == 1", Refused(1, "got string (query.page) and int (1)", "write int(query.page) == 1")),
    ("has(query.page) && 0 < query.page", Refused(20, "got int (0) and string (query.page)", "write 0 < int(query.page)")),
    ("route.id == 1.5", Refused(1, "string (route.id) and double (1.5)", "write double(route.id) == 1.5")),
    ("header['X-Beta'] == true", Refused(1, "string (header['X-Beta']) and bool", "write bool(header['X-Beta']) == true")),
    ("query.page == null", Refused(1, "string (query.page) and null", "write !has(query.page)")),
    ("type(body.id) == 'int'", Refused(1, "string ('int')", "write type(body.id) == int")),
    ("'a' * 3 == 1", Refused(1, "string ('a') and int (3)", "")),
    ("true + true", Refused(1, "bool (true) and bool (true)", "")),
    ("tier == 1", Refused(1, "string (tier) and int (1)", "the name of a tier, as in tier == 'free'")),
    ("header['x-a'] == null", Refused(1, "string (header['x-a']) and null", "write !('x-a' in header)")),
    ("jwt.n // 2 == 1 && tier = 'x'", Refused(7, "\"//\" is not CEL", "write jwt.n / 2 == 1 && tier == 'x'")),
    ("tier == 'http://x' // a comment", Refused(20, "\"//\" begins a comment", "on a line of its own")),
    ("// A comment, it's fine.\ntier == 'pro' && // another\ntrue", Holds(true)),
    ("True && query == 1", Refused(1, "unknown name \"True\"", "write true")),
    ("tier + 1 == 'x'", Refused(1, "string (tier) and int (1)", "write tier + string(1)")),
    ("1 + 1.0 == 2", Refused(1, "int (1) and double (1.0)", "write double(1) + 1.0")),
    ("query == body", Refused(1, "for \"==\", got map(string, string) (query)", "compare the members")),
    ("tier", Refused(1, "expected a condition of type bool, got string (tier)", "tier == 'a'")),
    ("query", Refused(1, "got map(string, string) (query)", "query.name == 'a'")),
    ("size(tier)", Refused(1, "got int (size(tier))", "size(tier) > 3")),
    ("!tier", Refused(2, "expected bool, got string (tier)", "tier == 'a'")),
    ("true && 1", Refused(9, "expected bool, got int (1)", "")),
    ("-query.a > 3 && true", Refused(1, "expected a number after \"-\", got string", "write -int(query.a) > 3")),
    ("-tier == 1", Refused(1, "expected a number after \"-\", got string", "")),
    ("tier == 'a' ? true : 'b'", Refused(1, "got bool (true) and string ('b')", "")),
    ("'app' in query.name", Refused(10, "expected a list or a map after \"in\"", "write query.name.contains('app')")),
    ("query.page in [1, 2]", Refused(1, "an item of the list(int) before \"in\", got string (query.page)", "write int(query.page) in [1, 2]")),
    ("!(query.flag in [true])", Refused(3, "got string (query.flag)", "write !(bool(query.flag) in [true])")),
    ("int(query.page) in ['1']", Refused(1, "got int (int(query.page))", "write string(int(query.page)) in ['1']")),
    ("tier in [1]", Refused(1, "got string (tier)", "the name of a tier, as in tier == 'free'")),
    ("1 in ['a']", Refused(1, "expected an item of the list(string)", "")),
    ("1 in [1, 2.0]", Refused(10, "expected int in the list, got double", "items of one type")),
    ("tier in ['free', 1]", Refused(18, "expected string in the list, got int", "items of one type")),
    ("query[1] == 'a'", Refused(7, "expected a name of type string in brackets, got int", "")),
    ("tier[0] == 'p'", Refused(1, "expected a list or a map before \"[\", got string", "")),
    ("tier.exists(one, one == 'a')", Refused(1, "expected a list, got string (tier)", "")),
    // A help is written for the whole comparison.
    ("query.a + 1 == 2", Refused(1, "got string (query.a) and int (1)", "write int(query.a) + 1 == 2")),
    ("query.a + 1 == '21'", Refused(1, "got string (query.a) and int (1)", "write query.a + string(1) == '21'")),
    ("1 + query.a > body.n && true", Refused(1, "for \"+\"", "write 1 + int(query.a) > body.n")),
    ("tier == 'a' || !(query.a * 2 < 5)", Refused(18, "for \"*\"", "write !(int(query.a) * 2 < 5)")),
    ("query.a * 2 == 'x'", Refused(1, "for \"*\"", "")),
    ("query.page != null", Refused(1, "string (query.page) and null", "write has(query.page)")),
    ("header['x-a'] != null", Refused(1, "string (header['x-a']) and null", "write 'x-a' in header")),
    ("query.page < null", Refused(1, "string (query.page) and null", "")),
    ("!tier || true", Refused(2, "expected bool", "compare the value, as in !(tier == 'a')")),
    ("jwt.roles.exists(r, size(r) == query.n)", Refused(21, "int (size(r))", "write size(r) == int(query.n)")),
    // Values of the request in quotes.
    ("'query.a' == 'b'", Refused(1, "\"query.a\" in quotes is a text", "remove the quotes: query.a == 'b'")),
    ("'free' != 'tier' && true", Refused(11, "\"tier\" in quotes is a text", "remove the quotes: 'free' != tier")),
    ("'jwt.sub' in ['a', 'b']", Refused(1, "\"jwt.sub\" in quotes", "remove the quotes: jwt.sub in ['a', 'b']")),
    ("'tier == \"a\"'", Refused(1, "of type bool, got string", "remove the quotes: tier == \"a\"")),
    ("'a' == 'b' || body.kind == 'query.a'", Missing("body.kind")),
    // Words and signs of other languages.
    ("body.x == nil", Refused(11, "\"nil\" is not CEL", "write body.x == null")),
    ("query.x != NULL", Refused(12, "\"NULL\" is not CEL", "write has(query.x)")),
    ("body.x == undefined", Refused(11, "\"undefined\" is not CEL", "write !has(body.x)")),
    ("tier == undefined", Refused(9, "unknown name \"undefined\"", "as in !has(query.page)")),
    ("body.x == TRUE || body.x == False", Refused(11, "\"TRUE\" is not CEL", "write body.x == true || body.x == false")),
    ("tier == 'a' AND NOT has(query.b)", Refused(13, "\"AND\" is not CEL", "write tier == 'a' && !has(query.b)")),
    ("tier == 'a' & query.b <> 'c' | true", Refused(13, "\"&\" is not CEL", "write tier == 'a' && query.b != 'c' || true")),
    ("tier === 'a' || tier !== 'b'", Refused(6, "\"===\" is not CEL", "write tier == 'a' || tier != 'b'")),
    ("tier == \u{2018}a\u{2019}", Refused(9, "is not CEL", "write tier == 'a'")),
    ("tier == `it's`", Refused(9, "is not CEL", "write tier == 'it\\'s'")),
    ("{query.a} == 'b'", Refused(1, "\"{\" is not CEL", "write query.a == 'b'")),
    ("body?.a == 1 && body.b?.c == 2", Refused(5, "\"?.\" is not CEL", "write has(body.a) && body.a == 1 && (has(body.b.c) && body.b.c == 2)")),
    ("has(body?.a)", Refused(9, "\"?.\" is not CEL", "write has(body.a)")),
    ("query.a == '1' or query.a == 2", Refused(16, "unexpected \"or\"", "write || for \"or\"")),
    ("@tier == 'a'", Refused(1, "unexpected \"@\"", "without a sign")),
    ("tier == `a", Refused(9, "unexpected \"`\"", "straight quotes")),
    // Numbers and texts that are not whole.
    ("1. == body.x", Refused(1, "expected a digit after \"1.\"", "write 1.0")),
    ("true && body.x == 12.", Refused(19, "expected a digit after \"12.\"", "write 12.0")),
    ("1e400 > 1.0", Refused(1, "within the range", "a double is less than 1.8e308")),
    ("tier == 'a\n  b'", Refused(9, "must not contain a line break", "write \\n")),
    // Maps as a whole.
    ("query.all()", Refused(1, "\"all\" has other arguments", "has(query.name)")),
    ("header.exists(one, one == 'a')", Refused(1, "expected a list, got map", "'x-client' in header")),
    // Names and functions.
    ("user.plan == 'x'", Refused(1, "unknown name \"user\"", "only the request of the caller")),
    ("'é' == tier || tier == free", Refused(24, "unknown name \"free\"", "in quotes, as in 'free'")),
    ("teir == 'x'", Refused(1, "unknown name \"teir\"", "did you mean \"tier\"?")),
    ("query.a.b == 'x'", Refused(1, "unknown member \"b\": query.a is a string", "remove \".b\"")),
    ("has(tier.name)", Refused(5, "unknown member \"name\": tier is a string", "remove")),
    ("header['x@foo'] == 'x'", Refused(1, "expected a header name, got \"x@foo\"", "header['x-client']")),
    ("header.x-client == 'app'", Refused(1, "\"-\" in header.x-client is a subtraction", "write header['x-client']")),
    ("header.x-forwarded-for == 'a'", Refused(20, "unexpected \"for\"", "header['x-forwarded-for']")),
    ("tier.startWith('a')", Refused(1, "unknown function \"startWith\"", "did you mean \"startsWith\"?")),
    ("tier.matches('a.*')", Refused(1, "unknown function \"matches\"", "startsWith, endsWith or contains")),
    ("lower(tier) == 'a'", Refused(1, "unknown function \"lower\"", "did you mean \"lowerAscii\"?")),
    ("contains(tier, 'a')", Refused(1, "called in another form", "string.contains(string)")),
    ("tier.contains(1)", Refused(15, "expected string.contains(string), got int (1)", "write tier.contains('1')")),
    ("size(query) == 1", Refused(6, "expected size(string|list), got map(string, string)", "as in has(query.name) && query.name == 'a'")),
    ("int() == 1", Refused(1, "got 0 arguments", "")),
    ("has(has(query.page))", Refused(1, "has() expects a member", "has(query.page)")),
    ("true && has( ( has (query.page) ) )", Refused(9, "has() expects a member", "has(query.page)")),
    ("query.page == 'has(has(a))' || has((has(query.a) ? body.inner : body).n)", Holds(true)),
    ("has(header['x-a'])", Refused(11, "has() expects a member", "'x-a' in header")),
    ("jwt.roles.all(role)", Refused(1, "\"all\" has other arguments", "list.all(item, item > 1)")),
    ("jwt.roles.all(tier, true)", Refused(1, "\"tier\" has a meaning already", "another name")),
    ("jwt.roles.all('a', true)", Refused(15, "expected a name for the item", "list.exists")),
    ("dyn(tier) == 1", Refused(1, "unknown function \"dyn\"", "")),
    ("{'a': 1}.a == 1", Refused(1, "maps cannot be written", "one by one")),
    ("b'a' == b'a'", Refused(1, "bytes are not supported", "remove the b")),
    ("query.?page == 'x'", Refused(6, "\".?\" is not CEL", "write has(query.page) && query.page == 'x'")),
    // Text that is no expression.
    ("", Refused(1, "unexpected end of the condition", "missing after")),
    ("tier ==", Refused(8, "unexpected end of the condition", "missing after")),
    ("tier = 'x'", Refused(6, "\"=\" is not CEL", "write tier == 'x'")),
    ("'é' == tier )", Refused(13, "unexpected \")\"", "")),
    ("tier == 'x", Refused(9, "no closing quote", "add the quote")),
    ("body.in == 1", Refused(6, "\"in\" is not CEL", "write body['in'] == 1")),
    ("query.page == '\\ud800'", Refused(15, "invalid escape in a string", "four digits")),
    ("query.page == '\\q'", Refused(15, "unknown escape", "backslash")),
    ("99999999999999999999 == 1", Refused(1, "within the range", "64 bits")),
    ("tier is nice", Refused(6, "unexpected \"is\"", "in CEL")),
    ("true\n  && tier ==", Refused(18, "unexpected end", "missing after")),
];

/// Returns the outcome of `text`, as the table writes it.
fn outcome(text: &str, known: &Known) -> String {
    let condition = match Condition::parse(text) {
        Ok(condition) => condition,
        Err(error) => {
            let help = error.help.unwrap_or_default();
            return format!("refused at {}: {} / {help}", error.column, error.message);
        }
    };
    match condition.holds(known) {
        Ok(holds) => format!("holds: {holds}"),
        Err(EvalError::Missing(reference)) => format!("missing {reference}"),
        Err(EvalError::Unusable(Some(reference))) => format!("unusable {reference}"),
        Err(EvalError::NotBoolean(Some(reference))) => format!("not a boolean: {reference}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn every_expression_of_the_table_has_its_outcome() {
    assert!(TABLE.len() >= 60);
    let mut wrong = Vec::new();
    for (text, expected) in TABLE {
        let found = outcome(text, &Known::new());
        let is_right = match expected {
            Holds(holds) => found == format!("holds: {holds}"),
            Missing(reference) => found == format!("missing {reference}"),
            Unusable(reference) => found == format!("unusable {reference}"),
            NotBoolean(reference) => found == format!("not a boolean: {reference}"),
            Refused(column, message, help) => {
                let said = found.strip_prefix(&format!("refused at {column}: "));
                let said = said.and_then(|said| said.split_once(" / "));
                said.is_some_and(|(own, cure)| {
                    own.contains(message)
                        && cure.contains(help)
                        && cure.is_empty() == help.is_empty()
                })
            }
        };
        if !is_right {
            wrong.push(format!("{text}\n    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn parse_all_returns_the_mistakes_of_each_operand_in_their_order() {
    let text =
        "query.a == 1 && (tier || has(jwt.x)) && lower(tier) == 'x' && !(2 in [user.id, teir])";
    let errors = Condition::parse_all(text).unwrap_err();
    let columns: Vec<_> = errors.iter().map(|error| error.column).collect();
    assert_eq!(columns, [1, 18, 41, 71, 80]);
    assert_eq!(Condition::parse(text).unwrap_err(), errors[0]);
}
