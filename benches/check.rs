//! Costs of validating one JSON text, compared with `serde_json`'s `IgnoredAny`, which also reads a text
//! without keeping anything of it: `cargo bench -p tower-fanout-benches --bench check`.
//!
//! To count the instructions of one case, run it twice with different numbers of calls:
//! `valgrind --tool=callgrind … --bench --only "service, 1 KiB" --calls 1000`. The texts have the lengths
//! that the bench prints first.

#[allow(dead_code)] // no case here is a tower service
mod harness;

use std::hint::black_box;

use bytes::Bytes;
use harness::{Case, Options, compare};
use serde::de::IgnoredAny;
use serde_json::json;
use tower_fanout_json::Json;

/// Repeats `item` as the items of an array.
fn array(item: &str, times: usize) -> String {
    format!("[{}]", vec![item; times].join(","))
}

/// Returns a response of about `length` bytes as services send them: an array of small objects.
fn service(length: usize) -> String {
    let item = |number| {
        format!(
            "{{\"id\":{number},\"name\":\"item {number}\",\"price\":{}.5,\"stock\":null}}",
            number * 7
        )
    };
    let items: Vec<_> = (0..length / 56).map(item).collect();
    let start = "{\"service\":\"svc0\",\"ok\":true,\"score\":0.8125,\"tags\":[\"a\",\"b\\u00e9\"]";
    format!(
        "{start},\"items\":[{}],\"total\":{}}}",
        items.join(","),
        items.len()
    )
}

/// Returns the texts with their names.
fn texts() -> Vec<(&'static str, String)> {
    let sentence =
        "\"Pack my box with five dozen liquor jugs, and label each of them with a date.\"";
    let numbers: Vec<_> = (0..2000).map(|number| number * 37 % 1000).collect();
    let order = "{\"id\":\"0b9f7c1e-5d7a-4c39\",\"symbol\":\"BTC-USD\",\"price\":64123.5,\
        \"active\":true,\"created_at\":\"2025-03-07T12:34:56.789Z\",\"tags\":[\"spot\",\"margin\"]}";
    let indented = json!(vec![
        json!({"id": 7, "name": "item 7", "tags": ["a", "b"]});
        100
    ]);
    vec![
        ("service, 1 KiB", service(1 << 10)),
        ("service, 100 KiB", service(100 << 10)),
        ("orders", array(order, 60)),
        ("prose", array(sentence, 120)),
        ("integers", json!(numbers).to_string()),
        ("fractions", array("0.0625,12.375,-73.985428", 400)),
        (
            "nested arrays",
            array(&("[".repeat(60) + &"]".repeat(60)), 80),
        ),
        (
            "nested objects",
            array(&("{\"a\":".repeat(60) + "1" + &"}".repeat(60)), 20),
        ),
        (
            "escapes",
            array(
                "\"line\\nbreak \\\"quoted\\\" \\u00e9t\\u00e9 a\\\\b\"",
                200,
            ),
        ),
        (
            "Latin",
            array("\"Être ou ne pas être, telle est la question.\"", 180),
        ),
        (
            "Japanese",
            array("\"吾輩は猫である。名前はまだ無い。\"", 160),
        ),
        ("indented", format!("{indented:#}")),
    ]
}

fn main() {
    let options = Options::new();
    let (mut cases, mut lengths) = (Vec::new(), Vec::new());
    for (name, text) in texts() {
        let place = cases.len();
        let (length, text) = (text.len(), Bytes::from(text));
        let same = text.clone();
        let theirs = move || {
            let read = serde_json::from_slice::<IgnoredAny>(black_box(&same));
            read.expect("the text is valid JSON");
        };
        let ours = move || {
            let json = Json::parse(black_box(text.clone()));
            drop(black_box(json.expect("the text is valid JSON")));
        };
        cases.push(Case::of(format!("IgnoredAny: {name}"), theirs));
        cases.push(Case::of(name, ours).over(place, 0.0));
        lengths.push(format!("{name}: {length}"));
    }
    if !options.test {
        println!("bytes: {}", lengths.join(", "));
    }
    compare(cases, &options);
}
