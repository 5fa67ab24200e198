//! What is said about files that are wrong: each `golden/NAME.yaml` gets exactly `golden/NAME.txt`.
//!
//! With `UPDATE_GOLDEN=1` in the environment, the texts are written anew; read what has changed.

use std::{fs, path::PathBuf};

use super::Config;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/golden");

/// The environment of all cases.
fn env(name: &str) -> Option<String> {
    let value = match name {
        "PORT" => "8080",
        "SHORT_SECRET" => "hunter2",
        "NESTED" => "${PORT}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn report(file: &str, text: &str) -> String {
    match Config::parse(file, text, &env) {
        Ok(config) => config.warnings.to_string(),
        Err(report) => report.to_string(),
    }
}

/// Tries all cases whose names begin with `prefix`.
fn golden(prefix: &str) {
    let files = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let belongs = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(prefix) && name.ends_with(".yaml")
    };
    let mut cases = 0;
    for path in files.filter(belongs) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let said = report(name, &fs::read_to_string(&path).unwrap());
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(expected, said).unwrap();
        } else {
            let expected = fs::read_to_string(expected).unwrap();
            assert!(
                said == expected,
                "{name}:\n{said}\n--- but expected ---\n{expected}"
            );
        }
        cases += 1;
    }
    assert!(cases > 0, "there is no case {prefix}*");
}

#[test]
fn fault_j1_broken_syntax_is_shown_at_its_place() {
    golden("j1_");
}

#[test]
fn fault_j2_an_unknown_key_or_name_gets_the_nearest_one() {
    golden("j2_");
}

#[test]
fn fault_j3_all_mistakes_are_reported_in_one_run() {
    golden("j3_");
}

#[test]
fn fault_j4_a_value_out_of_range_is_told_its_bounds() {
    golden("j4_");
}

#[test]
fn fault_b1_keys_are_fetched_by_https_or_from_this_host() {
    golden("j4_jwks");
}

#[test]
fn fb_10_downstreams_that_answer_for_each_other_are_found() {
    golden("j5_fb_10_");
}

#[test]
fn fault_j5_what_does_not_fit_together_is_found() {
    golden("j5_");
}

#[test]
fn fault_j6_variables_are_missed_and_never_shown() {
    golden("j6_");
}

#[test]
fn fault_j7_tricks_of_yaml_are_refused() {
    golden("j7_");
}

#[test]
fn fault_j3_j4_what_is_wrong_with_the_network_is_told_at_its_key() {
    golden("net_");
}

#[test]
fn fault_i17_credentials_in_a_url_are_refused_and_never_shown() {
    golden("i17_");
    for name in ["i17_credentials", "i17_syntax"] {
        let text = fs::read_to_string(format!("{GOLDEN}/{name}.yaml")).unwrap();
        let told = match Config::parse("file.yaml", &text, &env) {
            Ok(_) => panic!("{name} is refused"),
            Err(report) => format!("{report}{}{report:?}", report.to_json()),
        };
        for part in ["canary", "hunter2", "ca/na"] {
            assert!(!told.contains(part), "{told}");
        }
    }
}

#[test]
fn what_is_not_built_yet_says_so() {
    golden("sample_");
}

#[test]
fn fault_j6_no_report_has_the_value_of_a_variable() {
    let text = fs::read_to_string(format!("{GOLDEN}/j6_never_shown.yaml")).unwrap();
    let said = report("secret.yaml", &text);
    assert!(
        said.contains("${SHORT_SECRET}") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn fault_j7_a_file_of_ten_megabytes_is_refused_unread() {
    let said = report("huge.yaml", &"# nothing\n".repeat(1 << 20));
    assert!(said.contains("a configuration has at most 4 MiB"), "{said}");
}

#[test]
fn the_file_of_the_readme_is_sound() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let secret = |_: &str| Some("a secret that is long enough for HS256".to_owned());
    let config = Config::parse("page.yaml", yaml, &secret).unwrap();
    assert_eq!(config.warnings.diagnostics(), []);
    assert_eq!(config.routes[0].plan.nodes.len(), 3);
}
