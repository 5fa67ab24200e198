//! The time of `fanout check` for a file of 1,000 routes with conditions, with the start of the process.
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

fn main() {
    let path = std::env::temp_dir().join(format!("tower-fanout-{}-check.yaml", std::process::id()));
    std::fs::write(&path, file()).unwrap();
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
            output.status.success() && output.stdout.ends_with(b"no problems\n"),
            "{output:?}"
        );
        time
    };
    let fastest = (0..RUNS).map(|_| run()).min().unwrap_or_default();
    let _ = std::fs::remove_file(&path);
    println!(
        "check of {ROUTES} routes with {CONDITIONS} conditions: {fastest:.1?}, limit {LIMIT:.1?}"
    );
    assert!(fastest <= LIMIT, "{fastest:?} is above the limit");
}
