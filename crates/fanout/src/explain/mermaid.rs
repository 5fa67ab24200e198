//! Formats an explanation as a diagram.

use std::fmt::Write;

use tower_fanout_layers::config::duration::written;

use super::{Explanation, NodeExplanation};

impl Explanation {
    /// Returns a [Mermaid](https://mermaid.js.org/syntax/flowchart.html) flowchart of the nodes
    /// that are selected, from left to right.
    ///
    /// Optional nodes and soft dependencies are dashed, skipped nodes are grey and show the reason,
    /// and the critical path is thick. Nodes that run show their expected time and the time they
    /// may use. A comment holds the summary of the request.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut text = format!("flowchart LR\n  %% {}\n", self.summary());
        let nodes = || {
            self.nodes
                .iter()
                .enumerate()
                .filter(|(_, node)| is_asked_for(node))
        };
        for (index, node) in nodes() {
            let class = match (node.selected, node.required) {
                (true, true) => "",
                (true, false) => ":::optional",
                (false, _) => ":::skipped",
            };
            let _ = writeln!(text, "  n{index}[\"{}\"]{class}", label(node));
        }
        for (index, node) in nodes() {
            let before = node.depends_on.iter();
            for &(other, hard) in before.filter(|(other, _)| is_asked_for(&self.nodes[*other])) {
                let edge = match (hard, self.is_critical_edge(other, index)) {
                    (true, true) => "==>",
                    (true, false) => "-->",
                    (false, _) => "-.->",
                };
                let _ = writeln!(text, "  n{other} {edge} n{index}");
            }
        }
        let critical = self.critical_path.iter().map(|node| format!("n{node}"));
        let critical: Vec<_> = critical.collect();
        if !critical.is_empty() {
            let _ = writeln!(text, "  class {} critical", critical.join(","));
        }
        text.push_str("  classDef critical stroke-width:3px\n");
        text.push_str("  classDef optional stroke-dasharray: 5 5\n");
        text.push_str("  classDef skipped fill:#eee,stroke:#bbb,color:#888\n");
        text
    }

    /// Returns `true` if `node` follows `other` on the critical path.
    fn is_critical_edge(&self, other: usize, node: usize) -> bool {
        let mut steps = self.critical_path.windows(2);
        steps.any(|step| step == [other, node])
    }
}

/// Returns `true` if `node` runs or is skipped.
fn is_asked_for(node: &NodeExplanation) -> bool {
    node.selected || node.skip_reason.is_some()
}

/// Returns the name of a node, with its times or its skip reason on a second line.
fn label(node: &NodeExplanation) -> String {
    let skipped = node
        .skip_reason
        .map(|why| format!("skipped ({})", why.as_str()));
    let expected = node
        .expected
        .map(|time| format!("expected {}", written(time)));
    let budget = node.budget.map(|time| format!("budget {}", written(time)));
    let times = expected.into_iter().chain(budget).filter(|_| node.selected);
    let known: Vec<_> = skipped.into_iter().chain(times).collect();
    let line = if known.is_empty() { "" } else { "<br>" };
    escaped(&node.name) + line + &known.join(", ")
}

/// Escapes a name for a label. Characters other than letters and digits become numeric entities, so
/// that none acts as a quote, a tag or Markdown. A single `-`, `_`, `.` or space between two
/// letters or digits is kept.
fn escaped(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let is_plain = |index: Option<usize>| {
        let letter = index.and_then(|index| letters.get(index));
        letter.is_some_and(|letter| letter.is_alphanumeric())
    };
    let mut text = String::with_capacity(name.len());
    for (index, &letter) in letters.iter().enumerate() {
        let within = is_plain(index.checked_sub(1)) && is_plain(Some(index + 1));
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
    fn labels_show_names_unchanged() {
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
