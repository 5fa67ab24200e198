//! Tests of the messages of typical mistakes: the first ten lines of each name the cure.
//!
//! Each program in `mistakes/` does not compile. Its first line has a text that must be in the first ten lines
//! of the compiler's message: a `Cure:`, or a message of the compiler itself that the section "When it does
//! not compile" of the `Front page:` explains. The file with the extension `stderr` shows these lines as the
//! compiler of its first line writes them; `UPDATE_GOLDEN=1 cargo test --test mistakes` writes it.
#![allow(missing_docs)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, ConfigError,
    RetryConfig, RetryLayer, TimeoutLayer,
};

const MANIFEST: &str = r#"
[package]
name = "mistakes"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
http = "1"
tokio = { version = "1", features = ["rt"] }
tower = { version = "0.5", default-features = false, features = ["util"] }
tower-fanout-layers = { path = 'LAYERS' }
"#;

fn layers() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the programs by name, with their text.
fn programs() -> BTreeMap<String, String> {
    let files = fs::read_dir(layers().join("tests/mistakes")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let programs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let named = |path: PathBuf| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path);
    let read = |(name, path)| (name, fs::read_to_string(path).unwrap());
    programs.map(named).map(read).collect()
}

/// Writes a package with the programs, in which the layers have no feature. Returns its folder.
fn package(programs: &BTreeMap<String, String>) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mistakes");
    let bins = folder.join("src/bin");
    drop(fs::remove_dir_all(&bins)); // programs of an earlier run
    fs::create_dir_all(&bins).unwrap();
    for (name, text) in programs {
        fs::write(bins.join(format!("{name}.rs")), text).unwrap();
    }
    let manifest = MANIFEST.replace("LAYERS", layers().to_str().unwrap());
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    // The versions of the workspace are already downloaded.
    fs::copy(layers().join("../../Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    folder
}

/// Compiles the programs. Returns the first ten lines of the first error of each.
fn first_lines(programs: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "check",
            "--offline",
            "--bins",
            "--keep-going",
            "--message-format=json",
        ])
        .current_dir(package(programs))
        .env("CARGO_TARGET_DIR", "target") // not that of the tests, which is locked while they are built
        .env_remove("RUSTFLAGS")
        .output()
        .unwrap();
    let mut first = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (name, message) = (&line["target"]["name"], &line["message"]);
        if let ("error", Some(text)) = (
            message["level"].as_str().unwrap_or(""),
            message["rendered"].as_str(),
        ) {
            let lines: Vec<_> = text.lines().take(10).map(str::trim_end).collect();
            let name = name.as_str().unwrap().to_owned();
            first.entry(name).or_insert_with(|| lines.join("\n") + "\n");
        }
    }
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        first.len(),
        programs.len(),
        "each program has an error:\n{log}"
    );
    first
}

fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output().unwrap();
    String::from_utf8(version.stdout).unwrap()
}

/// Returns a line of a message without the parts that change with the sources of the layers: the folder, and
/// the number of a line.
fn stable(line: &str) -> String {
    match line.split_once(layers().to_str().unwrap()) {
        Some((start, path)) => {
            let file = path.split(':').next().unwrap();
            format!("{start}…{file}")
        }
        None => line.to_owned(),
    }
}

/// Compares the lines with the file. Only the same compiler writes the same lines.
fn assert_golden(name: &str, lines: &str) {
    let path = layers()
        .join("tests/mistakes")
        .join(name)
        .with_extension("stderr");
    let lines: String = lines.lines().map(|line| stable(line) + "\n").collect();
    let golden = format!("{}\n{lines}", compiler());
    if env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(path, golden).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap();
    if expected.lines().next() == golden.lines().next() {
        assert_eq!(
            golden, expected,
            "{name}: run with UPDATE_GOLDEN=1 to accept the new lines"
        );
    }
}

#[test]
fn er_06_the_first_lines_of_each_compile_error_name_the_cure() {
    let programs = programs();
    let front_page = include_str!("../src/lib.rs");
    for (name, lines) in first_lines(&programs) {
        let mark = programs[&name].lines().next().unwrap();
        let mark = mark.strip_prefix("//! ").unwrap();
        let text = match mark.split_once(": ").unwrap() {
            ("Cure", cure) => cure,
            ("Front page", message) => {
                assert!(
                    front_page.contains(message),
                    "{name}: the front page lacks {message}"
                );
                message
            }
            (other, _) => panic!("{name}: expected `Cure` or `Front page`, got `{other}`"),
        };
        assert!(
            lines.contains(text),
            "{name}: the first ten lines lack {text}:\n{lines}"
        );
        assert_golden(&name, &lines);
    }
}

#[test]
fn er_06_an_error_of_a_config_names_struct_field_range_and_value() {
    fn message<T>(built: Result<T, ConfigError>) -> String {
        built.err().unwrap().to_string()
    }
    let retry = RetryConfig::new().max_attempts(0);
    let breaker = BreakerConfig::new().failure_rate(55.0);
    let limit = ConcurrencyConfig::new().max(0);
    let messages = [
        message(TimeoutLayer::new(Duration::ZERO)),
        message(RetryLayer::new(retry, ClassifyResult)),
        message(BreakerLayer::new("users", breaker, ClassifyResult)),
        message(ConcurrencyLayer::new(limit)),
    ];
    let expected = [
        "TimeoutConfig.timeout: must be > 0, got 0s",
        "RetryConfig.max_attempts: must be within 1 to 6, got 0",
        "BreakerConfig.failure_rate: must be > 0 and <= 1, got 55.0",
        "ConcurrencyConfig.max: must be >= 1, got 0",
    ];
    assert_eq!(messages, expected);
}
