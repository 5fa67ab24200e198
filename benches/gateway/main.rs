//! Costs of the whole gateway, compared with a hand-written fan-out that joins the same responses without policies.
//!
//! The release binary of the gateway and the hand-written fan-out run in processes of their own, with one worker
//! thread, and so do the ten downstreams. All policies of the gateway are on. With at least two processors and
//! `taskset`, the measured process has processor 0, and downstreams and load have processor 1.
//!
//! ```sh
//! cargo build --release
//! cargo bench -p tower-fanout-benches --bench gateway
//! ```
//!
//! Slices of one second measure processor time and latencies, in turns, with 32 connections, each of which sends a
//! request after the response of the one before. Compare the ratios: they hold on other machines. Callgrind counts
//! instructions, misses of the first-level caches, allocations and system calls, if valgrind is on `PATH`, with one
//! connection. Memory per request in
//! flight is that of 1,000 requests that wait for downstreams.
//!
//! | option | effect |
//! |---|---|
//! | `--binary PATH` | the gateway, by default `fanout` in the target folder of this bench |
//! | `--slices N` | number of slices per row, by default 15 |
//! | `--counts` | only the counts of callgrind |
//! | `--check` | compares instructions and allocations with `figures.txt`, and fails above 3 % of growth |
//! | `--update` | writes `figures.txt` |
//! | `--train` | only sends requests to the gateway, so that one that is built for it writes a profile: see `scripts/build-with-profile` |
//!
//! The last three do not run the hand-written fan-out, so they need no optimized bench:
//! `cargo test -p tower-fanout-benches --bench gateway -- --check`.

#[path = "../arguments.rs"]
mod arguments;
#[path = "../by_hand.rs"]
mod by_hand;
mod by_hand_server;
mod callgrind;
mod candidate;
mod config;
mod figures;
mod load;
#[path = "../quartiles.rs"]
mod quartiles;
mod route;
mod self_test;
mod slices;
#[path = "../stub.rs"]
mod stub;
mod table;
mod workbench;

use std::{io, process::ExitCode, time::Duration};

use arguments::{has, number};
use by_hand_server::BY_HAND;
use candidate::{Mode, on_path, pin};
use figures::{Figures, compiler};
use route::NODES;
use stub::SERVE;
use workbench::{Kind, Workbench};

/// Number of downstreams: one for each node of the largest route.
const DOWNSTREAMS: usize = NODES[NODES.len() - 1];

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn run() -> io::Result<ExitCode> {
    if has(SERVE) {
        stub::serve(number(SERVE, DOWNSTREAMS))?;
    } else if has(BY_HAND) {
        by_hand_server::serve()?;
    } else if has("--check") {
        return check();
    } else if has("--update") {
        figures()?.write()?;
    } else if has("--counts") {
        table::print(&[], &Workbench::new()?.count_all()?);
    } else if has("--train") {
        Workbench::new()?.train(Duration::from_secs(4))?;
    } else if has("--bench") {
        measure()?;
    } else {
        // `cargo test` runs benches without `--bench`.
        self_test::run()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures everything that this machine can, and prints it.
fn measure() -> io::Result<()> {
    let mode = if pin()? { Mode::Pinned } else { Mode::Free };
    let bench = Workbench::new()?;
    let times = bench.compare(mode, number("--slices", 15))?;
    let memory = Kind::ALL.map(|kind| bench.memory(kind, mode));
    let counts = if on_path("valgrind") {
        bench.count_all()?
    } else {
        Vec::new()
    };
    table::print(&times, &counts);
    let [by_hand, gateway] = memory;
    table::print_memory([by_hand?, gateway?]);
    Ok(())
}

/// Returns the figures of the present gateway.
fn figures() -> io::Result<Figures> {
    let counts = Workbench::new()?.count(Kind::Gateway)?;
    Ok(Figures::new(compiler()?, &counts))
}

/// Prints the figures of the present gateway and compares them with the committed ones.
fn check() -> io::Result<ExitCode> {
    let damaged = || io::Error::other("figures.txt is damaged: write it again with --update");
    let committed = Figures::committed().ok_or_else(damaged)?;
    let figures = figures()?;
    print!("{}", figures.costs());
    let Some(complaint) = figures.complaint(&committed) else {
        return Ok(ExitCode::SUCCESS);
    };
    eprintln!("{complaint}");
    Ok(ExitCode::FAILURE)
}
