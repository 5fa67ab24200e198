//! An explanation as a diagram.

use std::fmt::Write;

use super::Explanation;

impl Explanation {
    /// The nodes that were asked for as a [Mermaid](https://mermaid.js.org/syntax/flowchart.html)
    /// flowchart, from left to right: optional nodes and dependencies that can be done without are
    /// dashed, nodes that are skipped are grey.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        let asked = |node: usize| {
            let node = &self.nodes[node];
            node.selected || node.skip_reason.is_some()
        };
        for (place, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(place, _)| asked(*place))
        {
            let class = match (node.selected, node.required) {
                (true, true) => "",
                (true, false) => ":::optional",
                (false, _) => ":::skipped",
            };
            let _ = writeln!(text, "  n{place}[\"{}\"]{class}", escaped(&node.name));
        }
        for (place, node) in self
            .nodes
            .iter()
            .enumerate()
            .filter(|(place, _)| asked(*place))
        {
            for (other, hard) in node.depends_on.iter().filter(|(other, _)| asked(*other)) {
                let edge = if *hard { "-->" } else { "-.->" };
                let _ = writeln!(text, "  n{other} {edge} n{place}");
            }
        }
        text.push_str("  classDef optional stroke-dasharray: 5 5\n");
        text.push_str("  classDef skipped fill:#eee,stroke:#bbb,color:#888\n");
        text
    }
}

/// The name as a label: what is neither a letter nor a digit is written as its number, so that
/// nothing in it is a quote, a tag or Markdown; but for a mark or a space between two of these.
fn escaped(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let is_plain = |place: Option<usize>| {
        let letter = place.and_then(|place| letters.get(place));
        letter.is_some_and(|letter| letter.is_alphanumeric())
    };
    let mut text = String::with_capacity(name.len());
    for (place, &letter) in letters.iter().enumerate() {
        let within = is_plain(place.checked_sub(1)) && is_plain(Some(place + 1));
        if letter.is_alphanumeric() || within && matches!(letter, '-' | '_' | '.' | ' ') {
            text.push(letter);
        } else {
            let _ = write!(text, "#{};", u32::from(letter));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::escaped;

    #[test]
    fn names_are_read_as_they_are() {
        for (name, label) in [
            ("user-orders_v1.2", "user-orders_v1.2"),
            ("größe", "größe"),
            ("a\"]; b", "a#34;#93;#59;#32;b"),
            ("<b>", "#60;b#62;"),
            ("1. first", "1#46;#32;first"),
            ("`_x_`", "#96;#95;x#95;#96;"),
            ("a\nb", "a#10;b"),
        ] {
            assert_eq!(escaped(name), label);
        }
    }

    proptest! {
        #[test]
        fn no_name_breaks_a_label(name in any::<String>()) {
            let label = escaped(&name);
            let breaks = label.contains(|letter: char| "\"\n\r<>&`[]{}()|:".contains(letter));
            prop_assert!(!breaks, "{}", label);
            let mut read = String::new();
            let mut rest = label.as_str();
            while let Some((plain, code)) = rest.split_once('#') {
                read.push_str(plain);
                let (code, after) = code.split_once(';').unwrap();
                read.push(char::from_u32(code.parse().unwrap()).unwrap());
                rest = after;
            }
            prop_assert_eq!(read + rest, name);
        }
    }
}
