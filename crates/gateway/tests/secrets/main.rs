//! Leak tests: canaries are placed in every input, and all outputs are searched for them.
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

/// Returns the command `fanout` with these arguments and this file, and secrets in its environment.
fn fanout(arguments: &[&str], config: &File) -> Command {
    let mut command = fanout_with(arguments, config);
    command.env("HMAC", HMAC).env("API_KEY", API_KEY);
    command
}

/// Runs a command and returns its complete output.
async fn output(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// The statuses that the requests must provoke.
const STATUSES: [&str; 14] = [
    "200", "400", "401", "403", "404", "405", "408", "413", "415", "417", "422", "431", "502",
    "504",
];

/// Sends all requests and searches responses, log and metrics for canaries.
async fn provoke(format: &str) {
    let text = config(format, downstream().await);
    let file = File::new(&format!("{format}.yaml"), &text);
    let gateway = Server::start(fanout(&["run"], &file))
        .await
        .unwrap_or_else(|log| panic!("{log}"));
    let tokens = tokens();
    check_responses(gateway.listen, &tokens).await;
    disconnect(gateway.listen, &tokens[0]).await;
    // The HTTP/2 library would log this invalid path.
    let bad = frames::request(1, "canary-query \u{7f}");
    frames::attack(gateway.listen, bad).await;

    let ask = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let metrics = raw(gateway.admin, ask).await;
    assert!(metrics.contains("fanout_call_total"), "{metrics}");
    let log = gateway.stop().await;
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "the log has no lines below info level"
    );
    for (place, text) in [("the metrics", metrics), ("the log", log)] {
        scan(place, &text, canaries().chain([DATA_OF_SERVICE]));
        scan_tokens(place, &text, &tokens);
    }
}

/// Searches the responses to all requests, which must cover all statuses.
async fn check_responses(listen: SocketAddr, tokens: &[String]) {
    let mut statuses = Vec::new();
    for (at, request) in requests(tokens).iter().enumerate() {
        let answer = raw(listen, request).await;
        statuses.push(answer.get(9..12).unwrap_or("cut").to_owned());
        let place = format!("the response to request {at}");
        scan(&place, &answer, canaries());
        scan_tokens(&place, &answer, tokens);
        let head = answer.split("\r\n\r\n").next().unwrap();
        scan(&place, head, [DATA_OF_SERVICE]);
    }
    println!("{statuses:?}");
    for status in STATUSES {
        assert!(statuses.iter().any(|seen| seen == status), "{status}");
    }
}

/// Disconnects during a downstream call and within a request body, each with a FIN and with a reset.
async fn disconnect(listen: SocketAddr, token: &str) {
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
        // Gives the gateway time to read the request and to call the service.
        tokio::time::sleep(ms(50)).await;
    }
}

#[tokio::test]
async fn fault_l4_l5_l6_no_canary_in_json_logs_responses_or_metrics() {
    provoke("json").await;
}

#[tokio::test]
async fn fault_l4_l5_l6_no_canary_in_human_logs_responses_or_metrics() {
    provoke("human").await;
}

#[tokio::test]
async fn fault_i17_l4_no_canary_in_diagnostics_of_a_file() {
    let all = || canaries().chain([private_key()]);
    for (at, text) in files().iter().enumerate() {
        let file = File::new(&format!("check-{at}.yaml"), text);
        for arguments in [
            &["check"][..],
            &["check", "--strict", "--format", "json"],
            &["check", "--strict", "--format", "sarif"],
            &["check", "--allow-missing-env"],
            &["explain", "--route", "orchestrate"],
        ] {
            let output = output(fanout(arguments, &file)).await;
            scan(
                &format!("the output of {arguments:?} for file {at}"),
                &output,
                all(),
            );
        }
        let ran = Server::start(fanout(&["run"], &file)).await;
        assert_eq!(ran.is_ok(), at < 2, "file {at}");
        let output = match ran {
            Ok(gateway) => gateway.stop().await,
            Err(log) => log,
        };
        scan(
            &format!("the output of \"run\" for file {at}"),
            &output,
            all(),
        );
    }
}

#[tokio::test]
async fn fault_l4_no_canary_in_explanations() {
    let file = File::new("explain.yaml", &files()[0]);
    for (at, body) in bodies().iter().enumerate() {
        let body = File::new(&format!("explain-{at}.json"), body);
        for format in ["text", "json", "mermaid"] {
            let path = body.path().to_str().unwrap();
            let arguments = ["explain", "--route", "orchestrate", "--format", format];
            let output = output(fanout(&[&arguments[..], &["--body", path]].concat(), &file)).await;
            assert!(!output.is_empty());
            let place = format!("the explanation of body {at} as {format}");
            scan(&place, &output, canaries());
        }
    }
}
