//! Tests of the commands for people who write a configuration file.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;
mod language_server;

use std::time::Duration;

use common::*;
use language_server::LanguageServer;
use serde_json::Value;
use tokio::time::timeout;

/// Runs the program, and returns its standard output.
async fn output(arguments: &[&str]) -> String {
    let output = fanout(arguments).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn schema_prints_a_json_schema_of_draft_7() {
    let schema: Value = output(&["schema"]).await.parse().unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    jsonschema::draft7::meta::validate(&schema).unwrap();
    // Extensions of the reader would mean nothing to an editor.
    for extension in ["x-planned", "x-partial", "x-minimum", "x-maximum"] {
        assert!(!schema.to_string().contains(extension), "{extension}");
    }
}

#[tokio::test]
async fn fault_j55_init_writes_a_valid_file_and_replaces_none() {
    let folder = Folder::new("init");
    let file = folder.path("fanout.yaml");
    assert!(
        output(&["init", &file])
            .await
            .ends_with(&format!("fanout check -c {file}\n"))
    );
    let checked = output(&["check", "--strict", "-c", &file]).await;
    assert_eq!(checked, format!("{file}: no problems\n"));
    assert_eq!(
        folder.read(".fanout.schema.json"),
        output(&["schema"]).await
    );

    folder.write("fanout.yaml", "mine");
    let refused = fanout(&["init", &file]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = format!("fanout: {file} exists already; name another file\n");
    assert_eq!(String::from_utf8_lossy(&refused.stderr), message);
    assert_eq!(folder.read("fanout.yaml"), "mine");
}

#[tokio::test]
async fn init_says_which_file_cannot_be_written() {
    let folder = Folder::new("nowhere");
    let file = folder.path("missing/fanout.yaml");
    let refused = fanout(&["init", &file]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        message.starts_with(&format!("fanout: cannot write {file}: ")),
        "{message}"
    );
}

/// Returns the line and the column of `part` in `text`, both counted from 0.
fn position(text: &str, part: &str) -> (usize, usize) {
    let lines = text.lines().enumerate();
    let mut found = lines.filter_map(|(line, text)| Some((line, text.find(part)?)));
    found.next().unwrap()
}

/// The starter file as an editor gets it: its folder, the URI of a file in it, and the text.
async fn starter(name: &str) -> (Folder, String, String) {
    let folder = Folder::new(name);
    output(&["init", &folder.path("fanout.yaml")]).await;
    let (uri, text) = (folder.path("fanout.yaml"), folder.read("fanout.yaml"));
    (folder, format!("file://{uri}"), text)
}

#[tokio::test]
async fn an_editor_accepts_the_starter_and_describes_its_keys() {
    let Some(program) = program("yaml-language-server") else {
        return;
    };
    let (_folder, uri, text) = starter("described").await;
    let test = async {
        let mut server = LanguageServer::start(&program).await;
        assert_eq!(server.open(&uri, &text).await, [] as [Value; 0]);
        for (key, expected) in [
            ("attempt_timeout:", "Maximum time of an attempt"),
            ("attempt_timeout:", "Default: `2s`."),
            ("circuit_breaker:", "The circuit breaker."),
            ("format:", "Output format."),
            ("format:", "One JSON object per line."),
            (
                "standard:",
                "Configuration of the layers around one downstream.",
            ),
        ] {
            let hover = server.ask("hover", &uri, position(&text, key)).await;
            let shown = hover["contents"]["value"].as_str().unwrap();
            assert!(shown.contains(expected), "{key} {shown}");
        }
    };
    timeout(Duration::from_secs(60), test).await.unwrap();
}

#[tokio::test]
async fn an_editor_completes_keys_and_words() {
    let Some(program) = program("yaml-language-server") else {
        return;
    };
    let (_folder, uri, text) = starter("completed").await;
    let text = text
        .replace("    concurrency: { max: 100 }", "    ")
        .replace("format: auto", "format: ");
    let test = async {
        let mut server = LanguageServer::start(&program).await;
        server.open(&uri, &text).await;
        let (line, column) = position(&text, "circuit_breaker");
        let keys = server.ask("completion", &uri, (line + 1, column)).await;
        let keys = keys["items"].as_array().unwrap();
        let labels: Vec<_> = keys
            .iter()
            .map(|key| key["label"].as_str().unwrap())
            .collect();
        assert!(
            labels.contains(&"concurrency") && labels.contains(&"hedge"),
            "{labels:?}"
        );
        assert!(
            !labels.contains(&"retry"),
            "a key that is there: {labels:?}"
        );
        let hedge = keys.iter().find(|key| key["label"] == "hedge").unwrap();
        assert!(
            hedge["documentation"]
                .to_string()
                .contains("Hedged attempts"),
            "{hedge}"
        );

        let (line, column) = position(&text, "format: ");
        let words = server
            .ask("completion", &uri, (line, column + "format: ".len()))
            .await;
        let words = words["items"].as_array().unwrap().iter();
        let mut words: Vec<_> = words.map(|word| word["label"].as_str().unwrap()).collect();
        words.sort_unstable();
        assert_eq!(words, ["auto", "human", "json"]);
    };
    timeout(Duration::from_secs(60), test).await.unwrap();
}

#[tokio::test]
async fn an_editor_underlines_wrong_values() {
    let Some(program) = program("yaml-language-server") else {
        return;
    };
    let (_folder, uri, valid) = starter("underlined").await;
    let test = async {
        let mut server = LanguageServer::start(&program).await;
        for (index, (right, wrong, message)) in [
            ("attempt_timeout: 500ms", "attempt_timeout: 500", "string"),
            (
                "attempt_timeout: 500ms",
                "attempt_timeout: 5 parsecs",
                "expected a duration such as \"300ms\"",
            ),
            ("max_attempts: 3", "max_attempts: 7", "6"),
            ("max_attempts: 3", "max_atempts: 3", "max_atempts"),
            ("format: auto", "format: xml", "\"json\""),
            ("method: GET", "method: GETT", "\"GET\""),
            (
                "listen: 127.0.0.1:8080",
                "listen: localhost",
                "expected an IP address",
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let text = valid.replace(right, wrong);
            assert_ne!(text, valid, "{right}");
            let uri = format!("{uri}.{index}.yaml");
            let diagnostics = server.open(&uri, &text).await;
            let (line, _) = position(&text, wrong);
            let lines: Vec<_> = diagnostics
                .iter()
                .map(|one| one["range"]["start"]["line"].clone())
                .collect();
            assert_eq!(lines, [line], "{wrong}: {diagnostics:?}");
            let shown = diagnostics[0]["message"].as_str().unwrap();
            assert!(shown.contains(message), "{wrong}: {shown}");
        }
    };
    timeout(Duration::from_secs(60), test).await.unwrap();
}
