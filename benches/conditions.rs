//! The costs of conditions: a simple one, and the most expensive ones of 1 KiB that are not refused.
//!
//! Run with `cargo bench -p tower-fanout-benches --bench conditions`. Add the name of a case for a profiler.

#[allow(dead_code)] // no case here is a tower service
mod harness;

use std::hint::black_box;

use tower_fanout_json::{
    Json,
    condition::Condition,
    template::{Found, Lookup, Reference, Root},
};

use self::harness::{Case, Options, compare};

/// Maximum cost of `tier != 'free'` in nanoseconds.
const SIMPLE: f64 = 1_000.0;
/// Maximum cost of any condition in nanoseconds.
const ANY: f64 = 1_000_000.0;

/// Shapes of conditions: a part, what is between two of them, and the text around `#`, their place.
const SHAPES: [(&str, &str, &str); 26] = [
    ("1 < 2", " && ", "#"),
    ("!(!true)", " && ", "#"),
    ("size(tier) > 1", " && ", "#"),
    ("tier in ['a', 'b', 'c']", " || ", "#"),
    ("[1, 2] == [1, 2]", " && ", "#"),
    ("int('1') == 1", " && ", "#"),
    ("has(query.a) && query.b != ''", " && ", "#"),
    ("query.a.contains('xy')", " || ", "#"),
    ("query.a.lowerAscii() == ''", " || ", "#"),
    ("query.a < query.b", " || ", "#"),
    ("query.a", " + ", "# == ''"),
    ("2 in body.numbers", " || ", "#"),
    ("body.numbers == body.numbers", " && ", "#"),
    ("body.numbers", " + ", "# == []"),
    ("has(body.m9) && body.m8 == 1", " && ", "#"),
    ("x != 2", " && ", "body.numbers.all(x, #)"),
    ("x > 2", " || ", "body.numbers.exists(x, #)"),
    ("!(x > 2)", " && ", "body.numbers.all(x, #)"),
    ("string(x) == ''", " || ", "body.numbers.exists(x, #)"),
    ("x + 1 == 1", " || ", "body.numbers.exists_one(x, #)"),
    ("x + 1", " + ", "body.numbers.map(x, #) == []"),
    ("x.b > 200", " || ", "body.objects.exists(x, #)"),
    ("x", ", ", "body.numbers.map(x, [#]) == []"),
    (
        "query[x] == 'y'",
        " || ",
        "['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].exists(x, #)",
    ),
    (
        "x == 1 || [1] == [2]",
        " || ",
        "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16].all(x, #)",
    ),
    ("body.numbers.all(x, x == 1)", " && ", "#"),
];

/// A request with values as large as a condition can use.
struct Request {
    body: Json,
    text: String,
}

impl Request {
    fn new() -> Self {
        let items: Vec<String> = (0..256).map(|index| format!("{{\"b\":{index}}}")).collect();
        let numbers = vec!["1"; 256].join(",");
        // 3,000 members are passed to find each of the others.
        let short: String = (0..3_000).map(|index| format!("\"m{index}\":1,")).collect();
        let text = "x".repeat(8_000);
        let objects = items[..128].join(",");
        let body = format!(
            "{{{short}\"objects\":[{objects}],\"numbers\":[{numbers}],\"text\":\"{text}\"}}"
        );
        Self {
            body: Json::parse(body.into()).unwrap(),
            text,
        }
    }
}

impl Lookup for Request {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        match &reference.root {
            Root::Body => self.body.get(&reference.path).map(Found::Json),
            Root::Tier => Some(Found::Text("pro".into())),
            Root::Query => Some(Found::Text(self.text.as_str().into())),
            _ => None,
        }
    }
}

/// Returns `part` as often as it can be repeated in 1 KiB, with `between` and in the text `around`.
fn most(part: &str, between: &str, around: &str) -> Option<Condition> {
    let text = |count: usize| around.replace('#', &vec![part; count].join(between));
    let counts = (1..200).rev().map(text);
    counts
        .filter(|text| text.len() <= 1_024)
        .find_map(|text| Condition::parse(&text).ok())
}

fn case(name: &str, condition: &Condition) -> Case {
    let (request, condition) = (Request::new(), condition.clone());
    Case::of(name, move || {
        let _ = black_box(condition.holds(black_box(&request)));
    })
}

fn main() {
    let simple = Condition::parse("tier != 'free'").unwrap();
    let mut cases = vec![
        Case::of("nothing", || {}),
        case("tier != 'free'", &simple).over(0, SIMPLE),
    ];
    for (part, between, around) in SHAPES {
        let Some(condition) = most(part, between, around) else {
            println!("refused: {}", around.replace('#', part));
            continue;
        };
        let name = around.replace('#', &format!("{part}{between}…"));
        cases.push(case(&name, &condition).over(0, ANY));
    }
    compare(cases, &Options::new());
}
