//! A secret where no secret is expected: no report shows it.

use std::{fs, path::Path};

use crate::config::Config;

use super::{GOLDEN, corpus_env};

const CANARY: &str = "hunter2hunter2";

/// Returns changes of a line that put the canary where nothing masks it by its key.
fn changes(line: &str) -> Vec<String> {
    let indent = &line[..line.len() - line.trim_start().len()];
    let mut changed = vec![
        format!("{indent}cooki@e: {CANARY}\n{line}"),
        format!("{indent}cooki@e:\n{indent}  {CANARY}\n{line}"),
        format!("{indent}cooki@e: {CANARY}: }}\n{line}"),
        format!("{indent}cooki@e {CANARY}\n{line}"),
        format!("{indent}cooki@e {CANARY}:\n{line}"),
        format!("{indent}{CANARY}\n{line}"),
        format!("{line}, cooki@e: {CANARY}"),
    ];
    for (at, _) in line.match_indices(": ") {
        let (before, value) = line.split_at(at + 2);
        let key = before.trim_end_matches(": ");
        let end = value.find([',', '}', ']']).unwrap_or(value.len());
        let rest = &value[end..];
        changed.extend([
            format!("{key}@e: {CANARY}{rest}"),
            format!("{key} {CANARY}{rest}"),
            format!("{key}:{CANARY}{rest}"),
            format!("{key}: \"http://up/#{CANARY}\"{rest}"),
            format!("{key}: \"http://up/?a={CANARY}\"{rest}"),
            format!("{key}: \"http://{CANARY}@up/\"{rest}"),
            format!("{key}: {{ cooki@e: {CANARY} }}{rest}"),
            format!("{key}: {{ cooki@e {CANARY} }}{rest}"),
            format!("{key}: {{ {CANARY}, a: 1 }}{rest}"),
            format!("{key}: {{ \"a\"{CANARY}: 1 }}{rest}"),
            format!("{key}: \"http://up/# {CANARY}\"{rest}"),
            format!("{key}: \"http://up/a={CANARY}\"{rest}"),
            format!("{key}: \"-----BEGIN A----- {CANARY}\"{rest}"),
        ]);
        // Parts of a filter of logs are quoted, as they are words.
        let is_filter = key.ends_with("level");
        changed.retain(|one| !is_filter || !one.contains("://"));
        if ["url", "secret", "cookie"]
            .iter()
            .any(|name| key.ends_with(name))
        {
            changed.push(format!("{key}: {CANARY}{rest}"));
        }
    }
    changed
}

#[test]
fn fault_i17_shows_no_secret_under_any_broken_key() {
    let corpus = Path::new(GOLDEN).parent().unwrap().join("corpus");
    let files = fs::read_dir(corpus).unwrap();
    let (mut leaks, mut count) = (Vec::new(), 0);
    for file in files.map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // The other lines are those of a text of a known key.
        let lines_of_keys = lines.iter().enumerate();
        let lines_of_keys =
            lines_of_keys.filter(|(_, line)| line.contains(": ") || line.ends_with(':'));
        for (index, line) in lines_of_keys {
            // Each change is made in a fifth of the lines.
            let changes = changes(line).into_iter().enumerate();
            for (_, changed) in changes.filter(|(kind, _)| (kind + index) % 5 == 0) {
                let text = [&lines[..index], &[&*changed], &lines[index + 1..]].concat();
                let text = text.join("\n");
                let report = match Config::parse("file.yaml", &text, &corpus_env()) {
                    Ok(config) => config.warnings,
                    Err(report) => report,
                };
                let output = format!("{report}{report:?}");
                if output.contains(CANARY) {
                    leaks.push(format!("{changed}\n{report}"));
                }
                count += 1;
            }
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    assert!(count > 1_000, "{count}");
}
