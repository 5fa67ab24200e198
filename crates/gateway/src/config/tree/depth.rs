//! Refuses files with very many open brackets before they are parsed, which takes quadratic time for them.

use super::super::{diagnostic::Position, syntax::SyntaxError};

/// Maximum number of open brackets. No file that the parser accepts has nearly as many.
const MOST_BRACKETS: usize = 1_000;

/// Returns an error at the first bracket that is nested too deeply.
///
/// Brackets in texts count too, as texts are known only when the file is parsed. A text has no thousand brackets that it
/// does not close.
pub(super) fn check_depth(text: &str) -> Result<(), SyntaxError> {
    let mut depth = 0_usize;
    for (index, line) in text.lines().enumerate() {
        for (column, one) in line.chars().enumerate() {
            match one {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MOST_BRACKETS {
                return Err(SyntaxError {
                    position: Position {
                        line: index + 1,
                        column: column + 1,
                        ..Position::START
                    },
                    message: "lists and maps are nested too deeply".to_owned(),
                    help: Some("use fewer levels"),
                    is_exact: true,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Tree;

    #[test]
    fn fault_j7_refuses_deep_nesting_before_it_is_parsed() {
        for (open, close) in [("{a: ", "}"), ("[", "]"), ("[{a: ", "}]"), ("{\n", "}")] {
            // The parser would take hours for the second file.
            for levels in [2_000, 500_000] {
                let text = format!("a: {}{}", open.repeat(levels), close.repeat(levels));
                let error = Tree::parse(&text).unwrap_err();
                assert_eq!(error.message, "lists and maps are nested too deeply");
                // The error is at the bracket, and not after the rest of the file.
                let position = error.position;
                assert!(
                    position.line <= 1_001 && position.column <= 5_000,
                    "{position:?}"
                );
            }
        }
        let text = "[".repeat(900) + &"]".repeat(900);
        let many = "{a: [b]}, ".repeat(5_000);
        assert!(Tree::parse(&format!("a: '{text}'\nb: [{many}]")).is_ok());
    }
}
