//! Tests of `fanout check` from the command line.
#![allow(missing_docs)]

mod common;

use common::*;
use serde_json::Value;

/// Returns a configuration with one route, and `rest` in front of it.
fn config(rest: &str) -> String {
    format!(
        "version: 1
{rest}
downstreams: {{ up: {{ endpoints: [{{ url: \"http://127.0.0.1:9\" }}] }} }}
routes: [{{ name: page, match: {{ path: /page }}, plan: {{ up: {{ downstream: up, request: {{ path: / }} }} }} }}]
"
    )
}

/// Runs `fanout check` with these arguments. Returns exit code and standard output.
async fn check(arguments: &[&str], file: &File) -> (Option<i32>, String) {
    let arguments = [&["check"], arguments].concat();
    let output = fanout_with(&arguments, file).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[tokio::test]
async fn fault_j44_sarif_has_the_exit_code_of_other_formats() {
    let sarif = &["--format", "sarif"];
    let good = File::new("good.yaml", &config(""));
    let (code, text) = check(sarif, &good).await;
    let log: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(0));
    assert_eq!(log["runs"][0]["results"], Value::Array(Vec::new()));

    let bad = File::new("bad.yaml", &config("server: { listen: here }"));
    let (code, text) = check(sarif, &bad).await;
    let log: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, Some(1));
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["level"], "error");
    let place = &result["locations"][0]["physicalLocation"];
    let uri = place["artifactLocation"]["uri"].as_str().unwrap();
    assert!(
        uri.starts_with("file:///") && uri.ends_with("bad.yaml"),
        "{uri}"
    );
    assert_eq!(place["region"]["startLine"], 2);
}

#[tokio::test]
async fn fault_j45_j46_a_strict_check_fails_until_warnings_are_acknowledged() {
    let open = File::new("open.yaml", &config(""));
    let (code, text) = check(&[], &open).await;
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&["--strict"], &open).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("warning[no_auth]"), "{text}");
    let summary = "\n1 warning\nnote: to accept a warning, add an item to acknowledge, such as \
                   { rule: no_auth, at: \"routes.page\", reason: \"…\" }\n";
    assert!(text.ends_with(summary), "{text}");

    let rest = "acknowledge: [{ rule: no_auth, at: routes.page, reason: public }]";
    let file = File::new("acknowledged.yaml", &config(rest));
    let (code, text) = check(&["--strict"], &file).await;
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("acknowledged.yaml: no problems\n"), "{text}");
    let rest =
        "acknowledge: [{ rule: no_auth, reason: public }, { rule: no_breaker, reason: none }]";
    let unmatched = File::new("unmatched.yaml", &config(rest));
    let (code, text) = check(&["--strict"], &unmatched).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("warning[unused]") && text.ends_with("\n1 warning\n"),
        "{text}"
    );
    let (_, text) = check(&[], &file).await;
    assert!(
        text.ends_with("no problems\n"),
        "an unused acknowledgement: {text}"
    );

    let warned = "server: { admin: \"0.0.0.0:9901\" }";
    let file = File::new("warned.yaml", &config(warned));
    let (code, text) = check(&[], &file).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("warning[open_admin]"), "{text}");
}

#[tokio::test]
async fn fault_j46_run_does_not_log_acknowledged_warnings() {
    let (admin, reason) = (
        "0.0.0.0:0",
        "acknowledge: [{ rule: open_admin, reason: firewall }]",
    );
    let server = format!(
        "server: {{ listen: \"127.0.0.1:0\", admin: \"{admin}\", drain: {{ delay: 0s }} }}"
    );
    for (rest, is_logged) in [
        (server.clone(), true),
        (format!("{server}\n{reason}"), false),
    ] {
        let file = File::new("warned.yaml", &config(&rest));
        let server = Server::start(fanout_with(&["run"], &file)).await.unwrap();
        let log = server.stop().await;
        assert_eq!(
            log.contains("reachable from other hosts"),
            is_logged,
            "{log}"
        );
    }
}

#[tokio::test]
async fn fault_j47_variables_of_files_replace_those_of_the_process() {
    let file = File::new(
        "port.yaml",
        &config("server: { listen: \"127.0.0.1:${PORT}\" }"),
    );
    let (good, bad) = (
        File::new("good.env", "PORT=80\n"),
        File::new("bad.env", "PORT=x\n"),
    );
    let (good, bad) = (good.path().to_str().unwrap(), bad.path().to_str().unwrap());
    for (files, expected) in [
        (&["--env-file", good][..], 0),
        (&["--env-file", bad], 1),
        (&["--env-file", bad, "--env-file", good], 0),
        (&["--env-file", good, "--env-file", bad], 1),
        (&[], 1),
    ] {
        for arguments in [&["check"][..], &["explain", "--route", "page"]] {
            let mut command = fanout_with(&[arguments, files].concat(), &file);
            let output = command.env("PORT", "y").output().await.unwrap();
            assert_eq!(
                output.status.code(),
                Some(expected),
                "{arguments:?} {files:?}"
            );
        }
    }
}

#[tokio::test]
async fn fault_j47_reports_mistakes_of_an_env_file_with_their_lines() {
    let file = File::new("plain.yaml", &config(""));
    let env = File::new("wrong.env", "A=1\nB hunter2\n");
    let path = env.path().to_str().unwrap();
    let (code, text) = check(&["--env-file", path], &file).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("wrong.env:2:1") && text.contains("expected NAME=value"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let (code, text) = check(&["--env-file", "/nowhere/.env"], &file).await;
    assert_eq!(code, Some(1));
    assert!(
        text.contains("error[unreadable]: cannot read \"/nowhere/.env\": no such file"),
        "{text}"
    );
}

#[tokio::test]
async fn fault_j48_checks_the_rest_of_a_file_without_its_secrets() {
    let jwt = "auth: { jwt: { main: { keys: [{ secret: \"${UNSET_SECRET:?}\" }], issuers: [me], audiences: [you], algorithms: [HS256] } } }";
    let used = config(jwt).replace("plan: {", "auth: { jwt: main }, plan: {");
    let file = File::new("secret.yaml", &used);
    assert_eq!(check(&[], &file).await.0, Some(1));
    let (code, text) = check(&["--allow-missing-env", "--strict"], &file).await;
    assert_eq!(code, Some(0), "{text}");
    let wrong = File::new(
        "wrong.yaml",
        &used.replace("downstream: up", "downstream: down"),
    );
    let (code, text) = check(&["--allow-missing-env"], &wrong).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("unknown downstream"), "{text}");
    assert!(!text.contains("UNSET_SECRET"), "{text}");
}

#[tokio::test]
async fn fault_j51_check_and_explain_say_what_is_overridden() {
    let file = File::new("overridden.yaml", &config(""));
    for arguments in [&["check"][..], &["explain", "--route", "page"]] {
        let mut command = fanout_with(arguments, &file);
        command.env("FANOUT_SERVER__LISTEN", "127.0.0.1:81");
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(
            text.starts_with("note: FANOUT_SERVER__LISTEN overrides server.listen\n"),
            "{text}"
        );
        assert!(!text.contains(":81"), "{text}");
    }
    // Only the document is printed in other formats.
    let mut command = fanout_with(&["check", "--format", "json"], &file);
    let output = command.env("FANOUT_SERVER__LISTEN", "here").output().await;
    let found: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(
        found[0]["file"],
        "environment variable FANOUT_SERVER__LISTEN"
    );
    assert_eq!(found[0]["path"], "server.listen");

    let mut command = fanout_with(&["check", "--strict"], &file);
    let output = command
        .env("FANOUT_SERVER_LISTEN", "here")
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("did you mean \"FANOUT_SERVER__LISTEN\"?"),
        "{text}"
    );
}

#[tokio::test]
async fn fault_j51_run_logs_what_is_overridden() {
    let file = File::new(
        "run.yaml",
        &config(
            "server: { listen: \"127.0.0.1:1\", admin: \"127.0.0.1:0\", drain: { delay: 0s } }",
        ),
    );
    let mut command = fanout_with(&["run"], &file);
    command.env("FANOUT_SERVER__LISTEN", "127.0.0.1:0");
    let server = Server::start(command).await.unwrap();
    assert_ne!(server.listen.port(), 1);
    let log = server.stop().await;
    let line = log
        .lines()
        .find(|line| line.contains("FANOUT_SERVER__LISTEN"));
    assert!(line.unwrap().contains("server.listen"), "{log}");
}

#[tokio::test]
async fn fault_j52_unknown_names_on_the_command_line_list_those_that_exist() {
    let provider = |name: &str| {
        format!(
            "{name}: {{ keys: [{{ secret: \"{SECRET}\" }}], issuers: [{name}], audiences: [you], algorithms: [HS256] }}"
        )
    };
    let rest = format!(
        "auth: {{ jwt: {{ {}, {} }} }}\ntiers: {{ free: {{}}, pro: {{}} }}",
        provider("main"),
        provider("idp")
    );
    let file = File::new("names.yaml", &config(&rest));
    for (arguments, expected) in [
        (
            &["explain", "--route", "pag"][..],
            "unknown route \"pag\"; did you mean \"page\"?",
        ),
        (
            &["explain", "--route", "page", "--tier", "gold"],
            "unknown tier \"gold\"; expected one of \"free\", \"pro\"",
        ),
        (
            &["token", "--sub", "ada", "--tier", "gold", "--jwt", "main"],
            "unknown tier \"gold\"; expected one of \"free\", \"pro\"",
        ),
        (
            &["token", "--sub", "ada", "--tier", "pro", "--jwt", "mian"],
            "unknown issuer \"mian\"; did you mean \"main\"? Expected one of \"main\", \"idp\"",
        ),
        (
            &["token", "--sub", "ada", "--tier", "pro"],
            "select an issuer with --jwt NAME: main, idp",
        ),
    ] {
        let output = fanout_with(arguments, &file).output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(error, format!("fanout: {expected}\n"));
    }
}
