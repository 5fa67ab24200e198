//! Diagnostics in the format of static analysis tools: SARIF 2.1.0.

use std::path::{Component, Path};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Diagnostic, Position, Report, Severity};
use crate::config::rules::{self, Rule};

/// Page with the rules, each at an anchor with its identifier.
const RULES_PAGE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/check.md");

/// Characters that are escaped in the path of a URI.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

impl Report {
    /// Returns the diagnostics as a SARIF log. Paths of files are relative to `folder`, if they are below it.
    ///
    /// # Panics
    /// Never, as the log consists of strings and numbers.
    #[must_use]
    pub(crate) fn to_sarif(&self, folder: &Path) -> String {
        let rules: Vec<_> = rules::all().map(rule).collect();
        let open = self.diagnostics.iter();
        let open = open.map(|one| self.result(one, folder));
        let acknowledged = self.acknowledged.iter().map(|one| {
            let mut result = self.result(&one.diagnostic, folder);
            result["suppressions"] = json!([{ "kind": "inSource", "justification": one.reason }]);
            result
        });
        let results: Vec<_> = open.chain(acknowledged).collect();
        let log = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "fanout",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "informationUri": env!("CARGO_PKG_REPOSITORY"),
                    "rules": rules,
                } },
                "columnKind": "unicodeCodePoints",
                "results": results,
            }],
        });
        serde_json::to_string_pretty(&log).expect("strings and numbers serialize to JSON")
    }

    fn result(&self, diagnostic: &Diagnostic, folder: &Path) -> Value {
        let source = self.source(diagnostic.position);
        let mut text = diagnostic.message.clone();
        if !source.is_file && !text.contains(&source.name) {
            text = format!("{}: {text}", source.name);
        }
        if let Some(help) = &diagnostic.help {
            text += &format!("\nHelp: {help}");
        }
        let mut location = self.location(diagnostic.position, folder);
        if !diagnostic.path.is_empty() {
            location["logicalLocations"] = json!([{ "fullyQualifiedName": diagnostic.path }]);
        }
        let mut result = json!({
            "ruleId": diagnostic.code,
            "level": match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "message": { "text": text },
            "locations": [location],
        });
        if let Some(first) = diagnostic.first {
            let mut first = self.location(first, folder);
            first["message"] = json!({ "text": "first set here" });
            result["relatedLocations"] = json!([first]);
        }
        result
    }

    fn location(&self, position: Position, folder: &Path) -> Value {
        // Code scanning refuses a result without a file, so one about a variable is at the start of the configuration.
        let is_in_file = self.source(position).is_file;
        let position = if is_in_file {
            position
        } else {
            Position::START
        };
        let source = self.source(position);
        let length = source.span(position).len();
        json!({ "physicalLocation": {
            "artifactLocation": { "uri": uri(Path::new(&source.name), folder) },
            "region": {
                "startLine": position.line,
                "startColumn": position.column,
                "endLine": position.line,
                "endColumn": position.column + length,
            },
        } })
    }
}

fn rule(rule: &Rule) -> Value {
    let mut described = json!({
        "id": rule.id,
        "shortDescription": { "text": rule.finds },
        "help": { "text": rule.cure },
        "helpUri": format!("{RULES_PAGE}#{}", rule.id),
    });
    if !rule.why.is_empty() {
        described["fullDescription"] = json!({ "text": rule.why });
    }
    described
}

/// Returns the URI of a file, relative to `folder` if the file is below it.
fn uri(path: &Path, folder: &Path) -> String {
    let below = path.strip_prefix(folder).unwrap_or(path);
    let steps = below.components().filter(|step| *step != Component::CurDir);
    let steps = steps.collect::<std::path::PathBuf>();
    let scheme = if steps.is_absolute() { "file://" } else { "" };
    let path = steps.to_string_lossy();
    format!("{scheme}{}", utf8_percent_encode(&path, ESCAPED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::diagnostic::Source;

    #[test]
    fn paths_of_files_are_relative_uris() {
        let folder = Path::new("/work/repo");
        for (path, expected) in [
            ("fanout.yaml", "fanout.yaml"),
            ("./conf/a b.yaml", "conf/a%20b.yaml"),
            ("../other/ü.yaml", "../other/%C3%BC.yaml"),
            ("a:b.yaml", "a%3Ab.yaml"),
            ("/work/repo/conf/fanout.yaml", "conf/fanout.yaml"),
            ("/etc/fanout.yaml", "file:///etc/fanout.yaml"),
        ] {
            assert_eq!(uri(Path::new(path), folder), expected);
        }
    }

    #[test]
    fn a_region_counts_characters_and_the_message_has_the_cure() {
        let position = Position {
            source: 0,
            line: 2,
            column: 4,
        };
        let report = Report::new(
            vec![Source::file(
                "a.yaml",
                [(2, "ö: grün!".chars().collect())].into(),
            )],
            vec![Diagnostic {
                severity: Severity::Warning,
                code: "unused",
                message: "no one uses it".into(),
                path: "a.b".into(),
                position,
                first: None,
                help: Some("remove it".into()),
            }],
        );
        let log: Value = serde_json::from_str(&report.to_sarif(Path::new("/"))).unwrap();
        assert_eq!(
            log["runs"][0]["results"][0],
            json!({
                "ruleId": "unused",
                "level": "warning",
                "message": { "text": "no one uses it\nHelp: remove it" },
                "locations": [{
                    "physicalLocation": {
                        "artifactLocation": { "uri": "a.yaml" },
                        "region": { "startLine": 2, "startColumn": 4, "endLine": 2, "endColumn": 9 },
                    },
                    "logicalLocations": [{ "fullyQualifiedName": "a.b" }],
                }],
            })
        );
    }
}
