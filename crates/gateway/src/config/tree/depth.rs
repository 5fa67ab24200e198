//! Refuses files with very many open brackets before they are parsed, which takes quadratic time for them. The parser itself
//! refuses blocks that are nested too deeply, in linear time.

use super::super::syntax::{Certainty, SyntaxError, position_of};

/// Maximum number of open brackets. No file that the parser accepts has nearly as many.
const MOST_BRACKETS: usize = 1_000;

/// Returns an error at the first bracket that is nested too deeply.
///
/// Brackets in texts count too, as texts are known only when the file is parsed. A text has no thousand brackets that it
/// does not close.
pub(super) fn check_depth(text: &str) -> Result<(), SyntaxError> {
    let mut depth = 0_usize;
    // No other character has the bytes of a bracket.
    for (at, one) in text.bytes().enumerate() {
        match one {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MOST_BRACKETS {
            return Err(SyntaxError {
                position: position_of(text, at),
                message: "lists and maps are nested too deeply".to_owned(),
                help: Some("use fewer levels"),
                certainty: Certainty::Exact,
            });
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

    #[test]
    fn fault_j7_the_parser_refuses_deep_block_nesting() {
        let lines = |line: &str| {
            let lines = (0..1_000).map(|level| format!("{}{line}\n", " ".repeat(level)));
            lines.collect::<String>()
        };
        let on_one_line = ["- ", "? "].map(|sign| format!("a:\n  {}x", sign.repeat(20_000)));
        let on_many = ["a:", "-"].map(lines);
        for text in on_one_line.into_iter().chain(on_many) {
            // Without optimizations, the parser needs more than the stack of a test, and less than that of a main thread.
            let parsing = std::thread::Builder::new().stack_size(8 << 20);
            let parsing = parsing.spawn(move || Tree::parse(&text).unwrap_err());
            let error = parsing.unwrap().join().unwrap();
            assert_eq!(error.message, "lists and maps are nested too deeply");
            // The parser does not go on to the end of the file.
            let position = error.position;
            assert!(
                position.line <= 130 && position.column <= 300,
                "{position:?}"
            );
        }
    }
}
