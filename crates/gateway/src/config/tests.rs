//! Golden tests of diagnostics: the file `golden/NAME.yaml` must produce exactly `golden/NAME.txt`.
//!
//! With `UPDATE_GOLDEN=1` in the environment, the tests rewrite the expected texts. Review the diff.

mod check;
mod large;
mod secrets;

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::demo;

use super::{Config, Environment, Extent, Report, Text};

pub(super) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/golden");

/// Returns the environment variables that the test files use.
pub(super) fn env() -> Environment {
    env_of("")
}

/// Returns the variables of [`env`], and those in lines such as `# env NAME=value` of a file.
fn env_of(text: &str) -> Environment {
    let all = [
        ("PORT", "8080"),
        ("SHORT_SECRET", "hunter2"),
        ("NESTED", "${PORT}"),
    ];
    let lines = text.lines().filter_map(|line| line.strip_prefix("# env "));
    let own = lines.map(|line| line.split_once('=').unwrap());
    let variables = all.into_iter().chain(own);
    variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Returns the report of a file, whose name says how it is checked.
fn read(file: &str, text: &str) -> Report {
    let env = env_of(text);
    let text = Text {
        name: file.to_owned(),
        folder: PathBuf::new(),
        text: text.to_owned(),
    };
    let extent = Extent {
        strict: file.contains("strict"),
        allow_missing_env: file.contains("missing_env"),
    };
    let read = super::read::config(&[text], &env, extent);
    read.map_or_else(|report| report, |config| config.warnings)
}

fn report(file: &str, text: &str) -> String {
    read(file, text).to_string()
}

/// Returns the report of each case whose name begins with `prefix`, with the path of its file.
fn cases(prefix: &str) -> impl Iterator<Item = (PathBuf, Report)> {
    let files = fs::read_dir(GOLDEN)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let belongs = move |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(prefix) && name.ends_with(".yaml")
    };
    files.filter(belongs).map(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        let report = read(name, &fs::read_to_string(&path).unwrap());
        (path, report)
    })
}

/// Runs all cases whose names begin with `prefix`.
fn golden(prefix: &str) {
    let mut count = 0;
    for (path, report) in cases(prefix) {
        compare(&path, &report);
        count += 1;
    }
    assert!(count > 0, "no case matches {prefix}*");
}

fn compare(path: &Path, report: &Report) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let actual = report.to_string();
    let expected = path.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(expected, actual).unwrap();
    } else {
        let expected = fs::read_to_string(expected).unwrap();
        assert!(
            actual == expected,
            "{name}:\n{actual}\n--- expected ---\n{expected}"
        );
    }
}

#[test]
fn fault_j1_reports_syntax_errors_at_their_position() {
    golden("j1_");
}

#[test]
fn fault_j2_suggests_the_most_similar_key_or_name() {
    golden("j2_");
}

#[test]
fn fault_j3_reports_all_mistakes_in_one_run() {
    golden("j3_");
}

#[test]
fn fault_j4_reports_the_bounds_of_a_value_out_of_range() {
    golden("j4_");
}

#[test]
fn fault_b1_requires_https_or_loopback_for_jwks_urls() {
    golden("j4_jwks");
}

#[test]
fn fb_10_reports_fallback_cycles() {
    golden("j5_fb_10_");
}

#[test]
fn fault_j5_reports_inconsistent_values() {
    golden("j5_");
}

#[test]
fn fault_j6_reports_missing_variables_and_never_prints_values() {
    golden("j6_");
}

#[test]
fn fault_j7_rejects_yaml_tricks() {
    golden("j7_");
}

#[test]
fn fault_j3_j4_reports_network_mistakes_at_their_keys() {
    golden("net_");
}

#[test]
fn fault_i17_rejects_url_credentials_and_never_prints_them() {
    golden("i17_");
    let own = [
        "alias",
        "after_quote",
        "block",
        "credentials",
        "forms",
        "misplaced",
        "no_colon",
        "syntax",
    ];
    let own = own.map(|name| format!("i17_{name}"));
    for name in own.into_iter().chain(["j6_default".to_owned()]) {
        let text = fs::read_to_string(format!("{GOLDEN}/{name}.yaml")).unwrap();
        let output = match Config::parse("file.yaml", &text, &env()) {
            Ok(_) => panic!("{name} was accepted"),
            Err(report) => format!("{report}{}{report:?}", report.to_json()),
        };
        for part in ["canary", "hunter2", "ca/na", "8675309"] {
            assert!(!output.contains(part), "{output}");
        }
    }
}

#[test]
fn reports_features_that_are_not_built_yet() {
    golden("sample_");
}

#[test]
fn fault_j6_reports_never_contain_the_value_of_a_variable() {
    let text = fs::read_to_string(format!("{GOLDEN}/j6_never_shown.yaml")).unwrap();
    let output = report("secret.yaml", &text);
    assert!(
        output.contains("${SHORT_SECRET}") && !output.contains("hunter2"),
        "{output}"
    );
    let text = fs::read_to_string(format!("{GOLDEN}/j6_never_in_parts.yaml")).unwrap();
    let output = report("j6_never_in_parts.yaml", &text);
    for part in ["SEKRET", "longsecret"] {
        assert!(!output.contains(part), "{output}");
    }
}

#[test]
fn fault_j7_rejects_a_file_of_ten_megabytes_without_parsing_it() {
    let output = report("huge.yaml", &"# nothing\n".repeat(1 << 20));
    assert!(
        output.contains("a configuration must be at most 4 MiB"),
        "{output}"
    );
}

#[test]
fn the_readme_example_is_valid() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```yaml\n").unwrap();
    let (yaml, _) = rest.split_once("```").unwrap();
    let secret = "a secret that is long enough for HS256".to_owned();
    let env = Environment::from_iter([("JWT_SECRET".to_owned(), secret)]);
    let config = Config::parse("page.yaml", yaml, &env).unwrap();
    assert_eq!(config.warnings.diagnostics(), []);
    assert_eq!(config.routes[0].plan.nodes.len(), 3);
}

#[test]
fn the_readme_policy_per_key_is_valid() {
    let readme = include_str!("../../../../README.md");
    let (_, rest) = readme.split_once("```yaml\npolicies:\n").unwrap();
    let (policies, _) = rest.split_once("```").unwrap();
    let text = format!(
        "version: 1
auth: {{ jwt: {{ main: {{ algorithms: [HS256], keys: [{{ secret: a secret that is long enough for HS256 }}], issuers: [me], audiences: [us] }} }} }}
policies:
{policies}
downstreams: {{ users: {{ endpoints: [{{ url: \"http://users:8080\" }}], policy: standard }} }}
routes: [{{ name: page, match: {{ path: / }}, auth: {{ jwt: main }}, plan: {{ user: {{ downstream: users, request: {{ path: / }} }} }} }}]
"
    );
    assert_eq!(report("readme.yaml", &text), "");
}

#[test]
fn fault_j17_refuses_paths_that_the_router_cannot_serve() {
    golden("j5_route_paths");
}

#[test]
fn fault_j19_warns_of_a_route_that_never_fails() {
    golden("j5_never_fails");
}

#[test]
fn fault_j20_refuses_a_node_that_never_runs() {
    golden("j5_never_runs");
}

#[test]
fn fault_j20_refuses_what_no_single_tier_can_run() {
    golden("j20_together");
}

#[test]
fn fault_i1_refuses_defaults_that_cannot_be_sent() {
    golden("i1_");
}

#[test]
fn fault_i10_refuses_headers_that_the_gateway_replaces() {
    golden("i10_");
}

#[test]
fn fault_j31_refuses_empty_lists_that_would_restrict_nothing() {
    golden("j31_empty_lists");
}

#[test]
fn fault_j32_refuses_names_that_cannot_be_shown() {
    golden("j32_");
}

#[test]
fn fault_j33_refuses_keys_that_no_request_has() {
    golden("j33_");
}

#[test]
fn fault_j34_refuses_limits_per_key_that_protect_no_other_key() {
    golden("j34_");
}

#[test]
fn fault_j35_refuses_texts_and_sizes_that_mean_nothing() {
    golden("j35_");
}

#[test]
fn fault_j36_reports_one_error_for_one_mistake() {
    golden("j36_");
}

#[test]
fn fault_j21_refuses_an_asterisk_in_a_placeholder() {
    golden("j5_asterisk");
}

#[test]
fn fault_l15_refuses_a_route_with_a_name_of_the_gateway() {
    golden("l15_");
}

#[test]
fn fault_j58_shows_how_the_file_has_what_other_products_write() {
    golden("j58_");
}

#[test]
fn fault_j57_shows_how_yaml_writes_what_other_languages_have() {
    golden("j57_");
}

#[test]
fn fault_e21_warns_of_a_body_that_browsers_do_not_send() {
    golden("e21_body");
}

#[test]
fn fault_e21_refuses_values_that_are_text_and_have_members() {
    golden("e21_text");
}

#[test]
fn fault_j22_warns_of_definitions_that_nothing_uses() {
    golden("j5_unused");
}

#[test]
fn fault_j23_quotes_a_value_out_of_range_as_written() {
    golden("j4_as_written");
}

/// Returns the environment variables that the corpus and the demo use.
pub(super) fn corpus_env() -> Environment {
    let secret = "a secret that is long enough for HS256";
    let variables = [
        ("DEMO_LISTEN", "127.0.0.1:0"),
        ("JWT_SECRET", secret),
        ("DEMO_SECRET", secret),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let services = demo::NAMES.iter().map(|name| {
        let name = format!("DEMO_{}", name.to_uppercase());
        (name, "http://127.0.0.1:9".to_owned())
    });
    variables.into_iter().chain(services).collect()
}

/// The corpus holds files of every kind that users write. A file in it must stay valid.
#[test]
fn fault_j8_accepts_a_corpus_of_valid_files_without_warnings() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/corpus");
    let files = fs::read_dir(corpus).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    let demo = include_str!("../demo/demo.yaml").to_owned();
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    for text in texts.chain([demo]) {
        match Config::parse("corpus.yaml", &text, &corpus_env()) {
            Ok(config) => assert!(
                config.warnings.diagnostics().is_empty(),
                "{text}\n{}",
                config.warnings
            ),
            Err(report) => panic!("{text}\n{report}"),
        }
    }
    assert!(files.len() >= 8, "{} files", files.len());
}

#[test]
fn fault_j17_refuses_a_path_that_is_longer_than_a_request_may_be() {
    let file = |length: usize| {
        format!(
            "version: 1
downstreams: {{ up: {{ endpoints: [{{ url: \"http://up:8080\" }}] }} }}
routes: [{{ name: a, match: {{ path: \"/{}\" }}, plan: {{ a: {{ downstream: up, request: {{ path: / }} }} }} }}]",
            "a".repeat(length - 1)
        )
    };
    assert_eq!(report("fits.yaml", &file(8192)), "");
    let error = report("long.yaml", &file(8193));
    assert!(
        error.contains("must be <= 8192 bytes, percent-encoded, got 8193 bytes"),
        "{error}"
    );
}

#[test]
fn fault_j17_refuses_more_parameters_than_the_router_takes() {
    let file = |count: usize| {
        let path: String = (0..count).map(|index| format!("/{{p{index}}}")).collect();
        format!(
            "version: 1
downstreams: {{ up: {{ endpoints: [{{ url: \"http://up:8080\" }}] }} }}
routes: [{{ name: a, match: {{ path: \"{path}\" }}, plan: {{ a: {{ downstream: up, request: {{ path: / }} }} }} }}]"
        )
    };
    let config = Config::parse("fits.yaml", &file(25), &env()).unwrap();
    // The router takes as many as the file may have.
    let _ =
        axum::Router::<()>::new().route(config.routes[0].path.pattern(), axum::routing::get(""));
    let error = report("many.yaml", &file(26));
    assert!(
        error.contains("expected at most 25 parameters, got"),
        "{error}"
    );
}

#[test]
fn fault_j27_refuses_endpoints_that_would_call_another_address() {
    golden("j27_");
}

#[test]
fn fault_j40_shows_conditions_of_the_former_language_in_cel() {
    golden("j40_");
}

#[test]
fn fault_j41_reports_types_that_do_not_fit_in_conditions() {
    golden("j41_");
}

#[test]
fn fault_j42_bounds_the_cost_of_conditions() {
    golden("j42_");
}

#[test]
fn fault_j28_refuses_conditions_that_name_what_cannot_be() {
    golden("j28_");
}

#[test]
fn fault_j29_refuses_paths_of_services_with_several_meanings() {
    golden("j29_");
}

#[test]
fn fault_j4_refuses_addresses_that_overlap() {
    let plan = "orchestrate: { plan: { a: { downstream: up, request: { path: / } } } }";
    let up = "downstreams: { up: { endpoints: [{ url: \"http://up:8080\" }] } }";
    for (server, overlaps) in [
        ("listen: \"0.0.0.0:81\", admin: \"127.0.0.1:81\"", true),
        ("listen: \"127.0.0.1:81\", admin: \"0.0.0.0:81\"", true),
        ("listen: \"[::]:81\", admin: \"[::1]:81\"", true),
        // The default of `admin` counts too.
        ("listen: \"0.0.0.0:9901\"", true),
        ("listen: \"127.0.0.2:81\", admin: \"127.0.0.1:81\"", false),
        ("listen: \"0.0.0.0:81\", admin: \"127.0.0.1:82\"", false),
        ("listen: \"0.0.0.0:0\", admin: \"127.0.0.1:0\"", false),
    ] {
        let text = format!("version: 1\nserver: {{ {server} }}\n{up}\n{plan}\n");
        let report = report("addresses.yaml", &text);
        assert_eq!(
            report.contains("overlap; use another port"),
            overlaps,
            "{report}"
        );
    }
}

#[test]
fn fault_j17_refuses_an_options_route_behind_cors() {
    golden("j17_options");
}

#[test]
fn fault_j17_suggests_a_parameter_for_the_pattern_of_another_router() {
    golden("j17_patterns");
}

#[test]
fn fault_j18_refuses_words_that_are_no_log_level() {
    golden("j4_log_level");
}
