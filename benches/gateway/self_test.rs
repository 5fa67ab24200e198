//! Checks of this bench that need neither the gateway nor valgrind, for `cargo test`.

use std::{io, time::Duration};

use serde_json::Value;

use crate::{
    DOWNSTREAMS, by_hand_server,
    callgrind::{Counts, parse},
    candidate::{Mode, listen},
    config,
    figures::Figures,
    load::Load,
    route::Route,
    stub::Stubs,
    workbench::{Kind, Row},
};

/// A dump in which a program calls `malloc` six times, `realloc` twice, which calls `malloc` once, and reads the clock 14
/// times.
const DUMP: &str = "\
# callgrind format
positions: line
events: Ir sysCount sysTime sysCpuTime I1mr D1mr D1mw
summary: 1 1 1 1

fn=(1) program
0 700
cfn=(2) malloc
calls=4 0
0 400
cfn=(3) realloc
calls=2 0
0 300
cfn=(4) read
calls=9 0
0 900 9
cfn=(5) clock_gettime@@GLIBC_2.17
calls=14 0
* 280 14

fn=(3)
cfn=(2)
calls=1 0
+1 100

fn=(4)
0 90 9
cfn=(2)
calls=2 0
-1 200

fn=(5)
16 90 4
+1 190 10

totals: 3000 50 7 8 10 20 30
";

pub(crate) fn run() -> io::Result<()> {
    parses_dumps();
    compares_figures();
    let line = r#"{"level":"INFO","listen":"127.0.0.1:4711","admin":"127.0.0.1:1"}"#;
    assert_eq!(listen(line), Some(([127, 0, 0, 1], 4711).into()));
    answers_by_hand()
}

fn parses_dumps() {
    let expected = Counts {
        instructions: 300.0,
        cache_misses: 6.0,
        allocations: 0.8,
        syscalls: 3.6,
        clock_reads: 1.4,
    };
    assert_eq!(parse(DUMP, 10.0), Some(expected));
    let without_symbols = DUMP.replace("alloc", "???");
    assert_eq!(parse(&without_symbols, 10.0), None);
    let (incomplete, _) = DUMP.split_once("totals").expect("the dump has totals");
    assert_eq!(parse(incomplete, 10.0), None);
}

fn compares_figures() {
    assert!(Figures::committed().is_some(), "figures.txt has figures");
    let figures = |compiler: &str, instructions| {
        let counts = Counts {
            instructions,
            cache_misses: 7.0,
            allocations: 60.04,
            syscalls: 5.0,
            clock_reads: 9.0,
        };
        let row = Row {
            kind: Kind::Gateway,
            route: Route::new(4, true),
        };
        Figures::new(compiler.to_owned(), &[(row, counts)])
    };
    let committed = figures("rustc 1.90.0", 1000.0);
    assert_eq!(Figures::parse(&committed.text()).as_ref(), Some(&committed));
    assert_eq!(figures("rustc 1.90.0", 1030.0).complaint(&committed), None);
    let complaint = figures("rustc 1.91.0", 1031.0).complaint(&committed);
    let complaint = complaint.expect("3.1 % are too much");
    assert!(
        complaint.contains("/token/4 instructions: 1031 per request, 3.1 % above 1000\n"),
        "{complaint}"
    );
    assert!(complaint.contains("rustc 1.91.0"), "{complaint}");
    let other = Figures::parse("rustc 1.90.0\n/4 allocations 1\n").expect("a cost has a line");
    assert_eq!(other.growth(&committed).len(), 3);
}

/// Sends requests to the hand-written fan-out.
fn answers_by_hand() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stubs = Stubs::start(DOWNSTREAMS)?;
    assert!(config::file(&stubs.endpoints).contains("path: \"/token/10\""));
    let candidate = by_hand_server::start(&stubs.endpoints, Mode::Free)?;
    for route in Route::all().filter(|route| !route.token) {
        let path = route.path();
        let mut load = Load::new(&runtime, candidate.address, &path, None, 2);
        let document: Value = serde_json::from_slice(&load.send(2))?;
        let members = document.as_object().map(|members| members.len());
        assert_eq!(members, Some(route.nodes));
        assert!(load.run(Duration::from_millis(20)).len() >= 2);
    }
    Ok(())
}
