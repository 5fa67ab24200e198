//! Canaries: what nobody may read is sent wherever it can be, and then looked for everywhere.
#![allow(missing_docs)]

mod canaries;
#[path = "../common/mod.rs"]
mod common;
mod downstream;
mod scan;
mod scan_tests;

use std::net::SocketAddr;

use canaries::{
    API_KEY, DATA_OF_SERVICE, HMAC, bodies, canaries, config, files, hanging, private_key,
    requests, tokens,
};
use common::{File, ORCHESTRATE, Server, fanout_with, frames, ms, raw};
use downstream::downstream;
use scan::{scan, scan_tokens};
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command};

/// `fanout` with these arguments, this file, and secrets in its environment.
fn fanout(arguments: &[&str], config: &File) -> Command {
    let mut command = fanout_with(arguments, config);
    command.env("HMAC", HMAC).env("API_KEY", API_KEY);
    command
}

/// All that a command writes until it ends.
async fn said(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// What a client is told of all kinds of failures.
const STATUSES: [&str; 14] = [
    "200", "400", "401", "403", "404", "405", "408", "413", "415", "417", "422", "431", "502",
    "504",
];

/// What the binary says to all of that: in its log, to its clients and to operators.
async fn provoke(format: &str) {
    let text = config(format, downstream().await);
    let file = File::new(&format!("{format}.yaml"), &text);
    let gateway = Server::start(fanout(&["run"], &file))
        .await
        .unwrap_or_else(|said| panic!("{said}"));
    let tokens = tokens();
    answers(gateway.listen, &tokens).await;
    go_away(gateway.listen, &tokens[0]).await;
    // Not even a path that is none, which HTTP/2's library would tell.
    let bad = frames::request(1, "canary-query \u{7f}");
    frames::attack(gateway.listen, bad).await;

    let ask = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let metrics = raw(gateway.admin, ask).await;
    assert!(metrics.contains("fanout_call_total"), "{metrics}");
    let log = gateway.stop().await;
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "it logs too little"
    );
    for (place, text) in [("the metrics", metrics), ("the log", log)] {
        scan(place, &text, canaries().chain([DATA_OF_SERVICE]));
        scan_tokens(place, &text, &tokens);
    }
}

/// Scans the answers to all requests, which are of each status.
async fn answers(listen: SocketAddr, tokens: &[String]) {
    let mut statuses = Vec::new();
    for (at, request) in requests(tokens).iter().enumerate() {
        let answer = raw(listen, request).await;
        statuses.push(answer.get(9..12).unwrap_or("cut").to_owned());
        let place = format!("the answer to request {at}");
        scan(&place, &answer, canaries());
        scan_tokens(&place, &answer, tokens);
        let head = answer.split("\r\n\r\n").next().unwrap();
        scan(&place, head, [DATA_OF_SERVICE]);
    }
    println!("{statuses:?}");
    for status in STATUSES {
        assert!(statuses.iter().any(|one| one == status), "{status}");
    }
}

/// Goes away while a service is asked, and within a body; each with a FIN and with a reset.
async fn go_away(listen: SocketAddr, token: &str) {
    let whole = hanging(token);
    for (text, resets) in [
        (&whole[..], false),
        (&whole, true),
        (&whole[..whole.len() - 5], false),
        (&whole[..whole.len() - 5], true),
    ] {
        let mut stream = TcpStream::connect(listen).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        if resets {
            stream.set_zero_linger().unwrap();
        }
        // It is read, or not; what hangs is asked, or not.
        tokio::time::sleep(ms(50)).await;
    }
}

#[tokio::test]
async fn fault_l4_l5_l6_no_canary_is_in_logs_for_programs_answers_or_metrics() {
    provoke("json").await;
}

#[tokio::test]
async fn fault_l4_l5_l6_no_canary_is_in_logs_for_people_answers_or_metrics() {
    provoke("human").await;
}

#[tokio::test]
async fn fault_i17_l4_no_canary_is_in_what_is_said_about_a_file() {
    let all = || canaries().chain([private_key()]);
    for (at, text) in files().iter().enumerate() {
        let file = File::new(&format!("check-{at}.yaml"), text);
        for arguments in [
            &["check"][..],
            &["check", "--format", "json"],
            &["explain", "--route", "orchestrate"],
        ] {
            let said = said(fanout(arguments, &file)).await;
            scan(
                &format!("what {arguments:?} says of file {at}"),
                &said,
                all(),
            );
        }
        let ran = Server::start(fanout(&["run"], &file)).await;
        assert_eq!(ran.is_ok(), at < 2, "file {at}");
        let said = match ran {
            Ok(gateway) => gateway.stop().await,
            Err(said) => said,
        };
        scan(&format!("what \"run\" says of file {at}"), &said, all());
    }
}

#[tokio::test]
async fn fault_l4_no_canary_is_in_what_is_explained() {
    let file = File::new("explain.yaml", &files()[0]);
    for (at, body) in bodies().iter().enumerate() {
        let body = File::new(&format!("explain-{at}.json"), body);
        for format in ["text", "json", "mermaid"] {
            let path = body.path().to_str().unwrap();
            let arguments = ["explain", "--route", "orchestrate", "--format", format];
            let said = said(fanout(&[&arguments[..], &["--body", path]].concat(), &file)).await;
            assert!(!said.is_empty());
            let place = format!("what is explained of body {at} as {format}");
            scan(&place, &said, canaries());
        }
    }
}
