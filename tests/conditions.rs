//! Checks the examples of `docs/conditions.md`.
#![allow(missing_docs)]

use std::collections::HashMap;

use tower_fanout_json::{
    condition::{Condition, EvalError},
    template::{Found, Lookup, Reference},
};

const PAGE: &str = include_str!("../docs/conditions.md");

/// Texts by the names of their references.
struct Request(HashMap<String, String>);

impl Lookup for Request {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        let text = self.0.get(&reference.to_string())?;
        Some(Found::Text(text.into()))
    }
}

/// Returns the rows of the tables of a section, without their heads.
fn rows(section: &str) -> Vec<Vec<String>> {
    let (_, after) = PAGE.split_once(&format!("\n## {section}\n")).unwrap();
    let text = after.split("\n## ").next().unwrap();
    let cells = |line: &str| {
        let line = line.replace("\\|", "\u{0}");
        let cells = line.trim_matches('|').split('|');
        cells
            .map(|cell| cell.trim().replace('\u{0}', "|"))
            .collect()
    };
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    let is_body = |row: &&[String]| !row[0].starts_with("---");
    rows[1..]
        .iter()
        .map(Vec::as_slice)
        .filter(is_body)
        .map(<[_]>::to_vec)
        .collect()
}

/// Returns the parts of `text` in code font.
fn spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

#[test]
fn each_row_about_missing_values_has_its_result() {
    let rows = rows("Missing values and errors");
    assert!(rows.len() >= 7);
    for row in rows {
        let mut texts = HashMap::from([("tier".to_owned(), "basic".to_owned())]);
        for span in spans(&row[1]) {
            if let Some((name, value)) =
                span.strip_prefix('?').and_then(|pair| pair.split_once('='))
            {
                texts.insert(format!("query.{name}"), value.to_owned());
            } else if row[1].contains(&format!("tier `{span}`")) {
                texts.insert("tier".to_owned(), span.to_owned());
            }
        }
        let condition = Condition::parse(spans(&row[0])[0]).unwrap();
        let result = match condition.holds(&Request(texts)) {
            Ok(true) => "holds",
            Ok(false) => "does not hold",
            Err(EvalError::Missing(_)) => "error: missing value",
            Err(EvalError::Unusable(_)) => "error: unusable value",
            Err(error) => panic!("{error}"),
        };
        assert_eq!(result, row[2], "{}", row[0]);
    }
}

#[test]
fn each_example_of_an_operation_is_a_condition_or_a_value() {
    let mut examples = 0;
    for row in rows("Operators and functions") {
        let roots = [
            "query.", "header.", "header[", "route.", "jwt.", "body.", "tier ",
        ];
        let is_whole = |span: &&str| {
            roots.iter().any(|root| span.contains(root))
                && !span.starts_with('.')
                && !span.contains('…')
        };
        for span in spans(&row[1]).into_iter().filter(is_whole) {
            if let Err(error) = Condition::parse(span) {
                panic!("{span}: {error}");
            }
            examples += 1;
        }
    }
    assert!(examples >= 15, "{examples}");
}

#[test]
fn each_condition_of_the_former_language_is_shown_as_the_page_says() {
    let mut examples = 0;
    for row in rows("From the former language") {
        let (was, is) = (spans(&row[0]), spans(&row[1]));
        for (was, is) in was.iter().zip(&is) {
            // The others are parts of conditions.
            let Err(error) = Condition::parse(was) else {
                panic!("{was} is a condition in CEL");
            };
            if error.message.ends_with("is not CEL") {
                assert_eq!(error.help, Some(format!("write {is}")), "{was}");
                examples += 1;
            }
        }
    }
    assert!(examples >= 8, "{examples}");
}

#[test]
fn the_page_shows_the_message_about_types() {
    let error = Condition::parse("query.page == 1").unwrap_err();
    assert!(PAGE.contains(&format!("error[condition]: {}\n", error.message)));
    assert!(PAGE.contains(&format!("= help: {}\n", error.help.unwrap())));
}
