//! The time of `fanout check` for a file of 1,000 routes with conditions, with the start of the process, and the growth of
//! the time with the number of mistakes.
//!
//! Run with `cargo bench -p tower-fanout-gateway --bench check`.

use std::{fmt::Write, process::Command, time::Duration};

use tokio::time::Instant;

const ROUTES: usize = 1_000;
/// Number of different conditions in the file.
const CONDITIONS: usize = 20;
/// Number of runs. The fastest one counts, because other load of the machine only adds time.
const RUNS: usize = 40;
/// Maximum time of a run.
const LIMIT: Duration = Duration::from_millis(50);

fn file() -> String {
    let mut file =
        "version: 1\npolicies: { standard: { total_timeout: 800ms, attempt_timeout: 300ms } }\n"
            .to_owned();
    file += "downstreams:\n";
    for name in ["users", "recs"] {
        let _ = writeln!(
            file,
            "  {name}: {{ endpoints: [{{ url: \"http://{name}:8080\" }}], policy: standard }}"
        );
    }
    file += "routes:\n";
    for route in 0..ROUTES {
        let page = route % CONDITIONS;
        let _ = write!(
            file,
            "  - name: r{route}
    match: {{ path: \"/r{route}/{{id}}\" }}
    plan:
      user: {{ downstream: users, request: {{ path: \"/users/{{route.id}}\" }}, required: true }}
      recs:
        downstream: recs
        depends_on: [user]
        when: \"has(query.page) && int(query.page) > {page}\"
        request: {{ path: /recs, query: {{ segment: \"{{user.segment}}\" }} }}
"
        );
    }
    file
}

/// Number of mistakes in the smaller file of each kind.
const MISTAKES: usize = 4_000;
/// Maximum of the time for a file of twice the size.
const GROWTH: f64 = 2.5;

/// A node of a plan, before its other keys.
const NODE: &str = "version: 1
downstreams: { a: { endpoints: [{ url: \"http://a\" }] } }
routes: [{ name: r, match: { path: \"/{id}\" }, plan: { n: { downstream: a, ";

/// Returns files with a number of mistakes, by what is wrong in them.
fn wrong(count: usize) -> Vec<(&'static str, String)> {
    let parts = |part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<String>();
    let node = |with: String| format!("{NODE}{with} }} }} }}]\n");
    let keys = parts(&|index| format!("k{index}: 1\n"));
    let tiers = parts(&|index| format!("t{index}, "));
    let query = parts(&|index| format!("q{index}: \"{{route.x}}\", "));
    let steps = parts(&|_| "{ static: 1 }, ".to_owned());
    let flow = parts(&|index| format!("k{index}: 1, "));
    let variables = parts(&|index| format!("q{index}: \"${{V{index}:-default{index} {{x}}}}\", "));
    vec![
        ("unknown keys", format!("version: 1\n{keys}")),
        (
            "unknown keys on one line",
            format!("version: 1\nserver: {{ {flow} }}\n"),
        ),
        (
            "keys that are set twice",
            format!("version: 1\n{}", "k: 1\n".repeat(count)),
        ),
        (
            "unknown tiers",
            node(format!("tiers: [{tiers}], request: {{ path: / }}")),
        ),
        (
            "unknown placeholders",
            node(format!("request: {{ path: /, query: {{ {query} }} }}")),
        ),
        (
            "mistakes in variables",
            node(format!("request: {{ path: /, query: {{ {variables} }} }}")),
        ),
        (
            "steps without effect",
            node(format!("fallback: [{steps}], request: {{ path: / }}")),
        ),
        (
            "services without a section",
            plans(count, &format!("version: 1\n{keys}"), &|index| {
                format!("n{index}: {{ downstream: a, request: {{ path: / }} }}")
            }),
        ),
        (
            "nodes that need a text",
            plans(count, SERVICE, &|index| {
                let request = format!("request: {{ path: \"/{{route.id}}/{{query.q{index}}}\" }}");
                format!("n{index}: {{ downstream: a, required: true, {request} }}")
            }),
        ),
        (
            "services that no node calls",
            plans(1, &format!("{SERVICE}{}", services(count)), &|_| {
                "n: { downstream: a, request: { path: / } }".to_owned()
            }),
        ),
        ("acknowledgements without a warning", acknowledged(count)),
    ]
}

/// A file with a service, before its other parts.
const SERVICE: &str = "version: 1\ndownstreams:\n  a: { endpoints: [{ url: \"http://a\" }] }\n";

fn services(count: usize) -> String {
    let service = |index| format!("  s{index}: {{ endpoints: [{{ url: \"http://a\" }}] }}\n");
    (0..count).map(service).collect()
}

/// Returns a file that begins with `start` and has one plan, of which `node` returns the nodes.
fn plans(count: usize, start: &str, node: &dyn Fn(usize) -> String) -> String {
    let route = "routes:\n  - name: r\n    match: { path: \"/{id}\" }\n    plan:\n";
    let nodes = (0..count).map(|index| format!("      {}\n", node(index)));
    format!("{start}{route}{}", nodes.collect::<String>())
}

/// Returns a file with warnings, and with acknowledgements of others.
fn acknowledged(count: usize) -> String {
    let mut file = format!("{SERVICE}acknowledge:\n");
    for index in 0..count {
        let _ = writeln!(
            file,
            "  - {{ rule: never_fails, at: routes.x{index}.plan, reason: known }}"
        );
    }
    file += "routes:\n";
    for index in 0..count {
        let _ = writeln!(
            file,
            "  - name: r{index}\n    match: {{ path: /r{index} }}\n    plan: {{ n: {{ downstream: a, \
             request: {{ path: / }}, fallback: [{{ static: 1 }}] }} }}"
        );
    }
    file
}

/// Returns the shortest time of the checks of a file.
fn time(file: &str, runs: usize, is_valid: bool) -> Duration {
    let path = std::env::temp_dir().join(format!("tower-fanout-{}-check.yaml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let run = || {
        let start = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_fanout"))
            .arg("check")
            .arg("-c")
            .arg(&path)
            .output()
            .unwrap();
        let time = start.elapsed();
        assert!(
            !is_valid || output.status.success() && output.stdout.ends_with(b"no problems\n"),
            "{output:?}"
        );
        time
    };
    let fastest = (0..runs).map(|_| run()).min().unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    fastest
}

fn main() {
    let fastest = time(&file(), RUNS, true);
    println!(
        "check of {ROUTES} routes with {CONDITIONS} conditions: {fastest:.1?}, limit {LIMIT:.1?}"
    );
    assert!(fastest <= LIMIT, "{fastest:?} is above the limit");
    for ((what, small), (_, large)) in wrong(MISTAKES).iter().zip(&wrong(2 * MISTAKES)) {
        let [small, large] = [small, large].map(|file| time(file, RUNS / 4, false));
        let growth = large.as_secs_f64() / small.as_secs_f64();
        println!("{MISTAKES} {what}: {small:.1?}, twice as many: {large:.1?}");
        assert!(
            growth <= GROWTH,
            "{what}: {growth:.1} times the time, limit {GROWTH}"
        );
    }
}
