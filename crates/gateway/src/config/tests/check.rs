//! Tests of what `fanout check` reports beyond the mistakes in one file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    super::{Config, Environment, Extent, Text, rules, source},
    GOLDEN, cases, compare, env, golden, read, report,
};

/// Compares the report of the folder `name` with the expected text.
fn golden_folder(name: &str) {
    let path = PathBuf::from(format!("{GOLDEN}/{name}"));
    let mut texts = source::load(&path).unwrap();
    for text in &mut texts {
        let name = Path::new(&text.name).file_name().unwrap();
        text.name = name.to_str().unwrap().to_owned();
    }
    let read = super::super::read::config(&texts, &env(), Extent::default());
    compare(&path, &read.unwrap_err());
}

#[test]
fn fault_j44_writes_sarif_that_its_schema_accepts() {
    let schema = include_str!("../../../tests/sarif/sarif-schema-2.1.0.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    let (mut results, mut count) = (Vec::new(), 0);
    for (path, report) in cases("") {
        let log: Value = serde_json::from_str(&report.to_sarif(Path::new(GOLDEN))).unwrap();
        let errors: Vec<_> = schema.iter_errors(&log).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let open = log["runs"][0]["results"].as_array().unwrap().iter();
        let open = open.filter(|result| result.get("suppressions").is_none());
        results.extend(open.cloned());
        count += report.diagnostics().len();
    }
    assert_eq!(results.len(), count);
    for result in results {
        let id = result["ruleId"].as_str().unwrap();
        assert!(
            rules::all().any(|rule| rule.id == id),
            "no rule describes {id}"
        );
    }
    assert!(!schema.is_valid(&serde_json::json!({ "version": "2.1.0" })));
}

#[test]
fn fault_j45_strict_checks_find_missing_protection() {
    golden("j45_strict_rules");
}

#[test]
fn fault_j45_strict_checks_find_secrets_in_bodies_and_defaults() {
    golden("j45_strict_inline");
}

#[test]
fn fault_j45_strict_rules_do_not_apply_otherwise() {
    let text = fs::read_to_string(format!("{GOLDEN}/j45_strict_rules.yaml")).unwrap();
    assert_eq!(report("rules.yaml", &text), "");
}

#[test]
fn fault_j46_acknowledged_warnings_are_not_reported() {
    golden("j46_strict_acknowledged");
    let text = fs::read_to_string(format!("{GOLDEN}/j46_strict_acknowledged.yaml")).unwrap();
    let log = read("strict.yaml", &text).to_sarif(Path::new("/"));
    let log: Value = serde_json::from_str(&log).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let reasons: Vec<_> = results
        .iter()
        .filter_map(|result| result["suppressions"][0]["justification"].as_str())
        .collect();
    assert_eq!(
        reasons,
        ["metrics are scraped by another host", "the page is public"]
    );
}

#[test]
fn fault_j46_reports_acknowledgements_that_are_not_valid() {
    golden("j46_mistakes");
    golden("j46_strict_unmatched");
}

#[test]
fn fault_j46_an_acknowledgement_matches_whole_names() {
    golden("j46_strict_dots");
}

#[test]
fn fault_j1_reports_the_first_byte_that_is_not_utf_8() {
    let file = std::env::temp_dir().join(format!("fanout-utf8-{}.yaml", std::process::id()));
    for (bytes, place) in [
        (&b"version: 1\nroutes: [{ name: caf\xe9 }]\n"[..], ":2:21"),
        (b"\xff\xfev\0", ":1:1"),
        (b"version: 1\n# \xc3\xa9 \xc3", ":2:5"),
    ] {
        fs::write(&file, bytes).unwrap();
        let report = Config::load(&file, &env()).unwrap_err().to_string();
        assert!(
            report.contains("expected UTF-8, got the byte 0x"),
            "{report}"
        );
        assert!(report.contains(&format!("{place}\n")), "{report}");
        assert!(!report.contains("caf"), "{report}");
    }
    fs::remove_file(&file).unwrap();
}

#[test]
fn fault_j56_reports_tags_in_conditions_and_before_values() {
    golden("j56_");
}

#[test]
fn fault_j48_values_with_missing_variables_are_left_out() {
    golden("j48_missing_env");
}

#[test]
fn fault_j49_names_both_places_of_what_two_files_set() {
    golden_folder("j49_folder");
    golden_folder("j49_wrong_types");
    golden_folder("j49_wrong_value");
    golden_folder("j49_misspelt");
    golden_folder("j49_syntax");
    golden_folder("j49_versions");
}

#[test]
fn the_page_about_checks_has_each_rule_at_an_anchor() {
    let page = include_str!("../../../../../docs/check.md");
    for rule in rules::all() {
        let id = rule.id;
        let why = match rule.why {
            "" => String::new(),
            why => format!("{why} | "),
        };
        let row = format!(
            "| <a id=\"{id}\"></a>`{id}` | {} | {why}{} |\n",
            rule.finds, rule.cure
        );
        assert!(page.contains(&row), "expected this row:\n{row}");
    }
    let rows = page.matches("| <a id=").count();
    assert_eq!(rows, rules::all().count());
}

#[test]
fn fault_j7_bounds_the_size_of_all_files_together() {
    let text = |name: &str| Text {
        name: name.to_owned(),
        folder: PathBuf::new(),
        text: "# nothing\n".repeat(300_000),
    };
    let texts = [text("a.yaml"), text("b.yaml")];
    let read = super::super::read::config(&texts, &env(), Extent::default());
    let report = read.unwrap_err().to_string();
    assert!(
        report.contains("must be at most 4 MiB") && report.contains("b.yaml"),
        "{report}"
    );
}

#[test]
fn fault_j51_reports_overrides_by_the_names_of_their_variables() {
    golden("j51_overrides");
    for (path, report) in cases("j51_overrides") {
        let output = format!("{report}{}{}", report.to_json(), report.to_sarif(&path));
        for value in ["hunter2", "not-an-address", "plenty-of-them"] {
            assert!(!output.contains(value), "{value} is in {output}");
        }
    }
}

/// A configuration with one route.
const PAGE: &str = "version: 1
policies: { fast: { attempt_timeout: 1s, retry: { max_attempts: 2 } } }
downstreams: { users: { endpoints: [{ url: \"http://users:8080\" }], policy: fast } }
routes: [{ name: my-page, match: { path: /page }, plan: { user: { downstream: users, request: { path: /, query: { size: 5 } } } } }]
";

/// Returns the size of the report of a file with `count` errors on one line.
fn size_of_report(count: usize) -> usize {
    let wrong = (0..count).map(|index| format!("n{index}: {{ unknown: 1 }}"));
    let wrong: Vec<_> = wrong.collect();
    let text = format!("version: 1\npolicies: {{ {} }}\n{PAGE}", wrong.join(", "));
    let report = read(
        "long.yaml",
        &text.replacen("\nversion: 1\npolicies", "\n# ", 1),
    );
    assert!(report.diagnostics().len() >= count);
    let column = report.diagnostics()[count - 1].position.column;
    let text = report.to_string();
    let is_shown = text.contains(&format!("--> long.yaml:2:{column}\n"));
    assert_eq!(is_shown, count <= 100);
    text.len()
}

#[test]
fn fault_j7_the_excerpt_of_a_long_line_is_short() {
    let (small, large) = (size_of_report(10), size_of_report(100));
    // The last columns have more digits. With the whole line for each error, the report would be 100 times as large.
    assert!(large < 11 * small, "{small} and {large} bytes");
}

#[test]
fn fault_j7_shows_the_first_hundred_diagnostics_as_text() {
    let (hundred, many) = (size_of_report(100), size_of_report(1_000));
    assert!(many < hundred + 1_000, "{hundred} and {many} bytes");
    let unknown = (0..120).map(|index| format!("k{index}: 1\n"));
    let text = format!("{PAGE}{}", unknown.collect::<String>());
    let report = read("many.yaml", &text);
    assert_eq!(report.diagnostics().len(), 120);
    let shown = report.to_string();
    assert_eq!(shown.matches("error[unknown_key]").count(), 100);
    assert!(shown.ends_with("note: 20 more are left out; --format json has all of them\n"));
    assert_eq!(report.to_json().matches("unknown_key").count(), 120);
}

#[test]
fn fault_j51_overrides_have_the_types_of_their_keys() {
    let variables = [
        ("FANOUT_SERVER__LISTEN", "127.0.0.1:81"),
        ("FANOUT_SERVER__MAX_CONNECTIONS", "7"),
        ("FANOUT_SERVER__DECODE_BODIES", "true"),
        ("FANOUT_TELEMETRY__LOGS__LEVEL", "debug"),
        ("FANOUT_POLICIES__FAST__RETRY__MAX_ATTEMPTS", "3"),
        ("FANOUT_POLICIES__FAST__CIRCUIT_BREAKER", "off"),
        ("FANOUT_POLICIES__FAST__CONCURRENCY__MAX", "9"),
        (
            "FANOUT_DOWNSTREAMS__USERS__ENDPOINTS__0__URL",
            "http://other:80",
        ),
        ("FANOUT_ROUTES__MY_PAGE__DEADLINE__DEFAULT", "9s"),
        ("FANOUT_ROUTES__0__MATCH__PATH", "/pages"),
    ];
    let env = Environment::from_iter(variables.map(|(name, value)| (name.into(), value.into())));
    let config = Config::parse("page.yaml", PAGE, &env).unwrap();
    assert_eq!(config.warnings.diagnostics(), []);
    assert_eq!(config.server.listen.port(), 81);
    assert_eq!(config.server.config.max_connections, 7);
    assert!(config.server.body.decode);
    assert_eq!(config.logs.level, "debug");
    let users = &config.downstreams["users"];
    assert_eq!(users.endpoint.host(), Some("other"));
    assert_eq!(users.policy.retry.as_ref().unwrap().max_attempts, 3);
    assert!(users.policy.circuit_breaker.is_none());
    assert_eq!(users.policy.concurrency.as_ref().unwrap().max, 9);
    assert_eq!(config.routes[0].path.pattern(), "/pages");
    assert_eq!(config.routes[0].plan.limits.deadline.default.as_secs(), 9);
    let notes = config.warnings.notes();
    assert_eq!(notes.lines().count(), variables.len());
    assert!(
        notes.contains("note: FANOUT_SERVER__LISTEN overrides server.listen\n"),
        "{notes}"
    );
}

#[test]
fn fault_j51_two_variables_for_one_value_are_an_error() {
    let [one, other] = ["FANOUT_ROUTES__0__NAME", "FANOUT_ROUTES__MY_PAGE__NAME"];
    let text = format!("# env {one}=127.0.0.1:81\n# env {other}=127.0.0.1:82\n{PAGE}");
    let output = read("page.yaml", &text).to_string();
    let both =
        format!("error[ambiguous_variable]: environment variables {one} and {other} both override");
    assert!(output.contains(&both), "{output}");
}

#[test]
fn fault_j51_a_name_in_lower_case_overrides_nothing() {
    let text = format!("# env FANOUT_server__listen=127.0.0.1:82\n{PAGE}");
    let output = read("page.yaml", &text).to_string();
    assert!(output.starts_with("warning[unknown_variable]"), "{output}");
    assert!(
        output.contains("upper case: FANOUT_SERVER__LISTEN"),
        "{output}"
    );
}

#[test]
fn fault_j51_a_name_with_underscores_is_matched_as_a_whole() {
    let text = PAGE
        .replace("users:", "a__b:")
        .replace("downstream: users", "downstream: a__b");
    let name = "FANOUT_DOWNSTREAMS__A__B__MAX_RESPONSE".to_owned();
    let env = Environment::from_iter([(name, "1KiB".to_owned())]);
    let config = Config::parse("page.yaml", &text, &env).unwrap();
    assert_eq!(config.downstreams["a__b"].client.max_response, 1024);
}

#[test]
fn fault_j51_a_route_can_be_named_by_a_number() {
    let variable = (
        "FANOUT_ROUTES__0__MATCH__PATH".to_owned(),
        "/other".to_owned(),
    );
    let env = Environment::from_iter([variable]);
    let one = PAGE.replace("my-page", "\"0\"");
    let config = Config::parse("page.yaml", &one, &env).unwrap();
    assert_eq!(config.routes[0].path.pattern(), "/other");
    let second = "{ name: \"0\", match: { path: /b }, plan: { user: { downstream: users, request: { path: / } } } }";
    let two = PAGE.replace("}]\n", &format!("}}, {second}]\n"));
    let report = Config::parse("page.yaml", &two, &env).unwrap_err();
    let expected = "could override routes[0].match.path or routes[1].match.path";
    assert!(report.to_string().contains(expected), "{report}");
}

#[test]
fn fault_j44_results_about_variables_are_at_the_start_of_the_first_file() {
    for (path, report) in cases("j51_overrides") {
        let log = report.to_sarif(path.parent().unwrap());
        let log: Value = serde_json::from_str(&log).unwrap();
        let results = log["runs"][0]["results"].as_array().unwrap();
        for result in results {
            let place = &result["locations"][0]["physicalLocation"];
            assert_eq!(place["artifactLocation"]["uri"], "j51_overrides.yaml");
            assert_eq!(place["region"]["startLine"], 1);
            let text = result["message"]["text"].as_str().unwrap();
            assert!(text.starts_with("environment variable FANOUT_"), "{text}");
        }
    }
}

#[test]
fn fault_j54_a_wide_space_at_a_mistake_is_underlined() {
    for space in ['\u{a0}', '\u{85}', '\u{2028}', '\u{3000}'] {
        for text in [
            format!("version: 1\n{space}b"),
            format!("version: 1\nserver: {{ listen: {space}a }}\norchestrate: {{ plan: {{}} }}\n"),
        ] {
            let report = read("a.yaml", &text);
            let log = report.to_sarif(Path::new("/"));
            assert!(serde_json::from_str::<Value>(&log).is_ok(), "{text:?}");
            assert!(report.to_string().contains('^'), "{text:?}: {report}");
        }
    }
}
