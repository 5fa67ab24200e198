//! Numbers of which YAML 1.1 and YAML 1.2 read different values.

use super::{diagnostic::Position, tree::Lines};

/// Returns the word at a position of a file.
pub(super) fn word_at<'t>(lines: &Lines<'t>, position: Position) -> &'t str {
    let mut words = lines.rest(position).split([' ', '\t', ',', ']', '}']);
    words.next().unwrap_or_default()
}

/// Returns `true` for a number with a leading zero, with underscores, or in octal, hexadecimal or binary, and for one with
/// an exponent, but without a dot or a sign of the exponent. Some YAML readers read different numbers or text.
pub(super) fn is_ambiguous(word: &str) -> bool {
    let number = word.trim_start_matches(['+', '-']);
    let digits = number.trim_start_matches(|one: char| one.is_ascii_digit() || "._".contains(one));
    let is_digits = |digits: &str| digits.bytes().all(|one| one.is_ascii_digit());
    let has_prefix = number.starts_with("0o") || number.starts_with("0b");
    let is_hexadecimal = number.strip_prefix("0x").is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|one| one.is_ascii_hexdigit())
    });
    let has_exponent = number
        .split_once(['e', 'E'])
        .is_some_and(|(base, exponent)| {
            let power = exponent.trim_start_matches(['+', '-']);
            let is_exact = base.contains('.') && power.len() < exponent.len();
            let is_base = base.bytes().any(|one| one.is_ascii_digit())
                && is_digits(&base.replacen('.', "", 1));
            is_base && !power.is_empty() && is_digits(power) && !is_exact
        });
    let is_number = digits.is_empty() && number.starts_with(|one: char| one.is_ascii_digit());
    let is_octal = number.len() > 1 && number.starts_with('0') && !number.contains('.');
    has_prefix && number.len() > 2 && is_digits(&number[2..])
        || is_hexadecimal
        || has_exponent
        || is_number && (number.contains('_') || is_octal)
}

/// Returns a number without its underscores and leading zeros.
pub(super) fn decimal(written: &str) -> String {
    let sign = if written.starts_with('-') { "-" } else { "" };
    let digits = written.replace('_', "");
    match digits.trim_start_matches(['+', '-', '0']) {
        "" => "0".to_owned(),
        digits => format!("{sign}{digits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;

    #[test]
    fn fault_j7_marks_numbers_that_yaml_readers_read_differently() {
        let marked = |text: &str| {
            let tree = Tree::parse(&format!("a: {text}")).unwrap();
            tree.any(&|tree| tree.ambiguous_number().is_some())
        };
        for text in [
            "1_000", "017", "-017", "+0_1", "08", "0o17", "0b11", "[1, 017]", "1_0.5", "0x1F",
            "-0x10", "5e-1", "1e3", "1.5e3", "+1E+3",
        ] {
            assert!(marked(text), "{text}");
        }
        for text in [
            "0",
            "-0",
            "10",
            "0.5",
            "1.50",
            "1.5e+3",
            "1e",
            "e3",
            "1e3s",
            "0x",
            "0xg",
            "'017'",
            "\"1_000\"",
            "017s",
            "a_b",
            "1.2.3",
            "0b",
            "10:30",
        ] {
            assert!(!marked(text), "{text}");
        }
    }
}
