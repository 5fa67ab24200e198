//! Canaries: what nobody may read is sent wherever it can be, and then looked for everywhere.
#![allow(missing_docs)]

mod canaries;
#[path = "../../../../tests/common/mod.rs"]
mod common;
mod downstream;
mod process;
mod scan;

use std::net::SocketAddr;

use canaries::{
    API_KEY, DATA_OF_SERVICE, HMAC, PASSWORD, bodies, canaries, config, hanging, requests, tokens,
};
use common::{frames, ms, raw};
use downstream::downstream;
use process::{File, Running, fanout, said};
use scan::{scan, scan_tokens};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tower_fanout_gateway::config::Config;

/// What a client is told of all kinds of failures.
const STATUSES: [&str; 14] = [
    "200", "400", "401", "403", "404", "405", "408", "413", "415", "417", "422", "431", "502",
    "504",
];

/// What the binary says to all of that: in its log, to its clients and to operators.
async fn provoke(format: &str) {
    let text = config(format, downstream().await);
    let file = File::new(&format!("{format}.yaml"), &text);
    let gateway = Running::start(&file)
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

/// Files with secrets: two good ones, and others with something wrong.
fn files() -> Vec<String> {
    let good = config("json", ([127, 0, 0, 1], 9).into());
    let written = good.replace("${HMAC}", HMAC).replace("${API_KEY}", API_KEY);
    let mut files = vec![good.clone(), written.clone()];
    for (part, wrong) in [
        ("[HS256]", "[HS257]"),
        ("secret:", "secert:"),
        ("http://", &format!("http://ada:{PASSWORD}@")),
        ("http://", &format!("ftp://ada:{PASSWORD}@")),
        ("x-api-key: \"", "x-api-key: \"{"),
        (HMAC, "canary-password"),
        ("issuers", "\"unclosed"),
        ("secret: \"", "secret: *\""),
        ("secret: \"", "secret: \"\\q"),
        // A private key where a public one is asked for.
        ("ec.pub.pem", "ec.pem"),
    ] {
        for text in [&good, &written] {
            files.extend(text.contains(part).then(|| text.replace(part, wrong)));
        }
    }
    files
}

#[tokio::test]
async fn fault_i17_l4_no_canary_is_in_what_is_said_about_a_file() {
    let private = include_str!("../../../http/src/jwt/test_keys/ec.pem");
    let private = private.lines().nth(1).unwrap();
    let all = || canaries().chain([private]);
    let files = files();
    let config = Config::parse("a.yaml", &files[1], &|_| None).unwrap();
    scan(
        "the Debug of a configuration",
        &format!("{config:?}"),
        all(),
    );
    for (at, text) in files.iter().enumerate() {
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
        let ran = Running::start(&file).await;
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
