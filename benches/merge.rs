//! Compares two ways of merging five responses: validating and splicing their text, and parsing
//! them into `serde_json::Value`s that are merged and serialized.
//!
//! Run with `cargo bench -p tower-fanout-benches --bench merge`.

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower_fanout_json::{
    Json,
    merge::{Merge, MergeConfig, MergeMode},
};

const NODES: [&str; 5] = ["users", "orders", "prices", "news", "limits"];
const SIZES: [usize; 3] = [1, 10, 100];
const MODES: [MergeMode; 4] = [
    MergeMode::Group,
    MergeMode::Flat,
    MergeMode::Deep,
    MergeMode::Concat,
];

/// Minimum speedup of splicing. A smaller ratio is marked with `!` in the output.
const TARGET: f64 = 8.0;
/// Number of measurements of each way. The median counts.
const TURNS: usize = 40;

/// Returns a response of about `kibibytes` KiB. In mode `concat` it is a list, in the other modes
/// an object with a list and a version. In mode `deep`, the member names are the same in all
/// responses.
fn answer(node: &str, mode: MergeMode, kibibytes: usize) -> Bytes {
    let item = |number: usize| {
        json!({
            "id": format!("0b9f7c1e-5d7a-4c39-9a55-{number:012}"), "symbol": "BTC-USD",
            "side": "buy", "price": 64123.5 + number as f64, "quantity": 0.75, "active": true,
            "created_at": "2025-03-07T12:34:56.789Z", "tags": ["spot", "margin"],
        })
    };
    let length = item(0).to_string().len();
    let items: Vec<_> = (0..kibibytes * 1024 / length).map(item).collect();
    let answer = match mode {
        MergeMode::Concat => json!(items),
        MergeMode::Deep => json!({"lists": {node: items}, "versions": {node: 3}}),
        _ => json!({format!("{node}_list"): items, format!("{node}_version"): 3}),
    };
    answer.to_string().into()
}

/// Merges `answers` by splicing and returns the size of the document.
fn spliced(merge: &Merge, answers: &[Bytes]) -> usize {
    let parse = |answer: &Bytes| Json::parse(answer.clone()).expect("the response is valid JSON");
    let answers: [Json; NODES.len()] = std::array::from_fn(|place| parse(&answers[place]));
    let merged = merge.merge(NODES.into_iter().zip(&answers));
    merged
        .expect("the responses do not conflict")
        .as_bytes()
        .len()
}

/// Merges `answers` as `serde_json::Value`s and returns the size of the document.
fn by_value(mode: MergeMode, answers: &[Bytes]) -> usize {
    let parse =
        |answer: &Bytes| serde_json::from_slice(answer).expect("the response is valid JSON");
    let answers = answers.iter().map(parse);
    let merged = match mode {
        MergeMode::Concat => answers.flat_map(items).collect(),
        MergeMode::Group => NODES.map(str::to_owned).into_iter().zip(answers).collect(),
        _ => answers.reduce(deep).unwrap_or_default(),
    };
    serde_json::to_vec(&merged).expect("values serialize").len()
}

fn items(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        item => vec![item],
    }
}

/// Merges objects at every depth. Without common names this costs no more than a flat merge, so
/// both modes use it.
fn deep(merged: Value, answer: Value) -> Value {
    let (Value::Object(mut merged), Value::Object(answer)) = (merged, answer) else {
        panic!("the responses do not conflict");
    };
    for (name, value) in answer {
        let value = match merged.remove(&name) {
            Some(own) => deep(own, value),
            None => value,
        };
        merged.insert(name, value);
    }
    Value::Object(merged)
}

/// Returns the mean duration of a call, measured over `calls` calls.
fn time(calls: u32, call: &mut dyn FnMut() -> usize) -> Duration {
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    start.elapsed() / calls
}

/// Returns the number of allocations of one call.
fn allocations(call: &mut dyn FnMut() -> usize) -> u64 {
    let counted = allocation_counter::measure(|| {
        black_box(call());
    });
    counted.count_total
}

/// Prints the median duration and the allocations of both ways, which are measured alternately.
/// With `test`, only asserts that both produce documents of the same size.
fn compare(mode: MergeMode, kibibytes: usize, test: bool) {
    let merge = Merge::new(MergeConfig::new().mode(mode)).expect("the settings are valid");
    let answers = NODES.map(|node| answer(node, mode, kibibytes));
    let mut ours = || spliced(&merge, &answers);
    let mut theirs = || by_value(mode, &answers);
    assert_eq!(ours(), theirs(), "both documents must have the same size");
    if test {
        return;
    }
    let calls = 400 / kibibytes as u32;
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        our_times.push(time(calls, &mut ours));
        their_times.push(time(calls, &mut theirs));
    }
    our_times.sort();
    their_times.sort();
    let [our_time, their_time] =
        [our_times, their_times].map(|times| times[TURNS / 2].as_secs_f64() * 1e6);
    let ratio = their_time / our_time;
    println!(
        "{:<8} {kibibytes:>4} {our_time:>9.1} {their_time:>9.1} {ratio:>7.1}{} {:>7} {:>7}",
        format!("{mode:?}").to_lowercase(),
        if ratio < TARGET { "!" } else { " " },
        allocations(&mut ours),
        allocations(&mut theirs),
    );
}

fn main() {
    // `cargo test` runs benches without `--bench`.
    let test = !std::env::args().any(|argument| argument == "--bench");
    if !test {
        println!(
            "{:<8} {:>4} {:>9} {:>9} {:>8} {:>7} {:>7}",
            "5 bodies", "KiB", "ours, µs", "Value, µs", "ratio", "allocs", "allocs"
        );
    }
    for mode in MODES {
        for kibibytes in SIZES {
            compare(mode, kibibytes, test);
        }
    }
}
