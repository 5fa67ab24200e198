//! The gateway with a standard output or standard error that is closed, full, or not read.
#![allow(missing_docs)]

mod common;

use std::{fs::OpenOptions, io::PipeReader, process::Stdio, time::Duration};

use common::*;
use http::{Method, StatusCode};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::unix::pipe,
    process::{Child, ChildStderr},
    time::timeout,
};

const CONFIG: &str = "version: 1
server: { listen: \"127.0.0.1:0\", admin: \"127.0.0.1:0\", drain: { delay: 0s } }
downstreams: { s: { endpoints: [{ url: \"http://127.0.0.1:9\" }] } }
routes: [{ name: one, match: { path: /one }, plan: { p: { downstream: s, request: { path: / } } } }]
";

/// Starts `fanout run` and reads its log up to the line with the addresses.
async fn start() -> (Child, Lines<BufReader<ChildStderr>>, Gateway, Gateway) {
    let file = File::new("output.yaml", CONFIG);
    let mut command = fanout_with(&["run"], &file);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap().expect("it is running");
        if line.contains("serving") {
            let at = |name| Gateway::at(address(&line, name));
            let (public, admin) = (at("listen"), at("admin"));
            return (child, lines, public, admin);
        }
    }
}

/// Sends requests that are logged, more than pipe and queue hold, and asserts that each is answered.
async fn log_more_than_fits(gateway: &Gateway) {
    let path = format!("/{}", "n".repeat(300));
    for _ in 0..3_000 {
        let response = gateway.send(Method::GET, &path, &[], "").await;
        assert_eq!(response.status, StatusCode::NOT_FOUND);
    }
}

/// Returns the number of log lines that were dropped.
async fn dropped(admin: &Gateway) -> u64 {
    let metrics = admin.send(Method::GET, "/metrics", &[], "").await.text;
    let (_, dropped) = metrics.split_once("\nfanout_logs_dropped_total ").unwrap();
    dropped.lines().next().unwrap().parse().unwrap()
}

async fn assert_serving_and_stopping(mut child: Child, public: &Gateway, admin: &Gateway) {
    let live = public.send(Method::GET, "/livez", &[], "").await;
    let metrics = admin.send(Method::GET, "/metrics", &[], "").await;
    assert_eq!(
        (live.status, metrics.status),
        (StatusCode::OK, StatusCode::OK)
    );
    signal(&child, "TERM");
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn fault_k12_serves_and_stops_while_the_log_is_not_read() {
    let (child, lines, public, admin) = start().await;
    log_more_than_fits(&public).await;
    assert!(dropped(&admin).await > 0);
    assert_serving_and_stopping(child, &public, &admin).await;
    drop(lines);
}

#[tokio::test]
async fn fault_k12_serves_and_stops_after_standard_error_is_closed() {
    let (child, lines, public, admin) = start().await;
    drop(lines);
    for _ in 0..10 {
        let response = public.send(Method::GET, "/none", &[], "").await;
        assert_eq!(response.status, StatusCode::NOT_FOUND);
    }
    // The thread of the log writes the lines after the responses.
    while dropped(&admin).await < 10 {
        tokio::task::yield_now().await;
    }
    assert_serving_and_stopping(child, &public, &admin).await;
}

/// Returns the ends of a pipe that has no space left.
async fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, writer) = std::io::pipe().unwrap();
    let writer = pipe::Sender::from_owned_fd(writer.into()).unwrap();
    writer.writable().await.unwrap();
    // Whole pages leave no rest.
    while writer.try_write(&[b'x'; 4096]).is_ok() {}
    (reader, writer.into_blocking_fd().unwrap().into())
}

/// A configuration with an issuer whose keys cannot be fetched at startup.
const NO_KEYS: &str = "
auth: { jwt: { main: { keys: [{ jwks: { url: \"http://127.0.0.1:9/jwks\", start: fail } }],
  issuers: [me], audiences: [fanout], algorithms: [RS256] } } }
";

#[tokio::test]
async fn fault_k12_a_failed_start_ends_while_standard_error_is_not_read() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let occupied = CONFIG.replacen("127.0.0.1:0", &address, 1);
    let no_keys = format!("{CONFIG}{NO_KEYS}");
    for (text, expected) in [(&*occupied, 1), (&no_keys, 78), ("version: 7\n", 1)] {
        let file = File::new("start.yaml", text);
        let (reader, writer) = full_pipe().await;
        let mut child = fanout_with(&["run"], &file).stderr(writer).spawn().unwrap();
        let status = timeout(Duration::from_secs(20), child.wait()).await;
        let status = status.expect("it ends without a reader").unwrap();
        assert_eq!(status.code(), Some(expected), "{text}");
        drop(reader);
    }
}

/// Commands that print, with their exit codes when all output can be written.
fn commands() -> [(Vec<&'static str>, i32); 8] {
    [
        (vec!["check"], 0),
        (vec!["check", "--format", "json"], 0),
        (vec!["explain", "--route", "one"], 0),
        (vec!["explain", "--route", "one", "--format", "json"], 0),
        (vec!["explain", "--route", "one", "--format", "mermaid"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["--help"], 0),
        (vec!["check", "--no-such-flag"], 2),
    ]
}

/// Runs a command with these outputs. Returns its exit code.
async fn run_with(arguments: &[&str], file: &File, out: Stdio, err: Stdio) -> i32 {
    let mut command = fanout(arguments);
    command.env("FANOUT_CONFIG", file.path());
    let status = command.stdout(out).stderr(err).status().await.unwrap();
    status.code().expect("the process was not killed")
}

/// Returns the writing end of a pipe whose reading end is closed.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test]
async fn fault_k13_commands_keep_their_exit_code_if_the_reader_is_gone() {
    let file = File::new("output.yaml", CONFIG);
    for (arguments, expected) in commands() {
        let code = run_with(&arguments, &file, closed_pipe(), closed_pipe()).await;
        assert_eq!(code, expected, "{arguments:?}");
    }
    let bad = File::new("bad.yaml", "version: 7\n");
    for arguments in [&["check"][..], &["run"], &["explain", "--route", "one"]] {
        let code = run_with(arguments, &bad, closed_pipe(), closed_pipe()).await;
        assert_eq!(code, 1, "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn fault_k13_commands_report_a_full_standard_output() {
    let file = File::new("output.yaml", CONFIG);
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut commands = commands().map(|(arguments, _)| arguments).to_vec();
    commands.retain(|arguments| !arguments.contains(&"--no-such-flag"));
    commands.extend([
        vec!["--version"],
        vec!["help", "run"],
        vec!["run", "--help"],
    ]);
    for arguments in &commands {
        let mut command = fanout(arguments);
        command.env("FANOUT_CONFIG", file.path());
        let child = command.stdout(full()).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().await.unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(
            message,
            "fanout: cannot write to standard output: No space left on device (os error 28)\n",
            "{arguments:?}"
        );
        let code = run_with(arguments, &file, full().into(), full().into()).await;
        assert_eq!(code, 1, "{arguments:?}");
    }
}
