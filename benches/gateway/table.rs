//! Prints the measured values as Markdown.

use crate::{
    callgrind::Counts,
    slices::{Memory, Times},
    workbench::{Kind, Row},
};

/// Prints a row for each route of each candidate. Values that were not measured are empty.
pub(crate) fn print(times: &[(Row, Times)], counts: &[(Row, Counts)]) {
    println!(
        "| per request | calls | CPU µs | ratio | instructions | cache misses | allocations | syscalls | clock reads | p50 µs | p99 µs | ratio of p99 |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for row in Row::all() {
        let times = of(times, row);
        let counts = of(counts, row);
        let time = |value: fn(&Times) -> f64| cell(times.map(value));
        let count = |value: fn(&Counts) -> f64| cell(counts.map(value));
        let ratio = |value: fn(&Times) -> [f64; 3]| {
            let text =
                |[low, median, high]: [f64; 3]| format!("{median:.2} ({low:.2} to {high:.2})");
            times.map(value).map_or(String::new(), text)
        };
        println!(
            "| {}{} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.kind.name(),
            if row.route.token { ", token" } else { "" },
            row.route.nodes,
            time(|times| times.cpu),
            ratio(|times| times.cpu_ratio),
            count(|counts| counts.instructions),
            count(|counts| counts.cache_misses),
            count(|counts| counts.allocations),
            count(|counts| counts.syscalls),
            count(|counts| counts.clock_reads),
            time(|times| times.p50),
            time(|times| times.p99),
            ratio(|times| times.p99_ratio),
        );
    }
}

/// Prints the memory of the candidates, in the order of [`Kind::ALL`].
pub(crate) fn print_memory(memory: [Memory; 2]) {
    println!("\n| memory | idle MiB | KiB per request in flight |");
    println!("|---|---:|---:|");
    for (kind, memory) in Kind::ALL.iter().zip(memory) {
        let (name, idle) = (kind.name(), memory.idle / 1024.0);
        println!("| {name} | {idle:.1} | {:.1} |", memory.per_request);
    }
}

/// Returns the values of a row.
fn of<T>(values: &[(Row, T)], row: Row) -> Option<&T> {
    let found = values.iter().find(|(of, _)| *of == row);
    found.map(|(_, values)| values)
}

fn cell(value: Option<f64>) -> String {
    value.map_or(String::new(), |value| {
        let decimals = if value < 1000.0 { 1 } else { 0 };
        format!("{value:.decimals$}")
    })
}
