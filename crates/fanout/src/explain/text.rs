//! Formats an explanation as a table.

use std::{fmt, time::Duration};

use tower_fanout_layers::config::duration::written;

use super::{Explanation, NodeExplanation};

/// The column titles.
const HEADER: [&str; 8] = [
    "wave", "node", "runs", "after", "start", "expected", "budget", "attempts",
];

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        let path: Vec<&str> = self.names(&self.critical_path).collect();
        writeln!(f, "critical path: {}\n", sanitized(&path.join(" → ")))?;
        self.table(f)?;
        for (index, warning) in self.warnings.iter().enumerate() {
            let line = if index == 0 { "\n" } else { "" };
            writeln!(
                f,
                "{line}warning[{}]: {}",
                warning.code,
                sanitized(&warning.message)
            )?;
            writeln!(
                f,
                "  at {}: {}",
                sanitized(&warning.location.to_string()),
                sanitized(&warning.help)
            )?;
        }
        Ok(())
    }
}

impl Explanation {
    /// Returns one line about the request as a whole.
    pub(super) fn summary(&self) -> String {
        format!(
            "strategy {}, deadline {}, expected {}, worst case {}",
            self.strategy.as_str(),
            time(self.deadline),
            time(self.expected),
            time(self.worst_case),
        )
    }

    fn table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![HEADER.map(str::to_owned)];
        for (wave, nodes) in (1..).zip(&self.waves) {
            let nodes = nodes.iter().map(|&node| &self.nodes[node]);
            rows.extend(nodes.map(|node| self.row(wave.to_string(), node)));
        }
        let others = self.nodes.iter().filter(|node| !node.selected);
        rows.extend(others.map(|node| self.row("-".into(), node)));
        let widths: Vec<usize> = (0..HEADER.len())
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        for row in rows {
            let cells = row.iter().zip(&widths);
            let line: String = cells
                .map(|(cell, &width)| format!("{cell:width$}  "))
                .collect();
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn row(&self, wave: String, node: &NodeExplanation) -> [String; 8] {
        let runs = match (node.skip_reason, node.selected, node.required) {
            (Some(reason), ..) => format!("skipped ({})", reason.as_str()),
            (None, false, _) => "not asked for".into(),
            (None, true, true) => "required".into(),
            (None, true, false) => "optional".into(),
        };
        let after = node.depends_on.iter().map(|&(other, hard)| {
            let name = sanitized(&self.nodes[other].name);
            if hard { name } else { format!("{name}?") }
        });
        let after: Vec<String> = after.collect();
        [
            wave,
            sanitized(&node.name),
            runs,
            if after.is_empty() {
                "-".into()
            } else {
                after.join(", ")
            },
            time(node.start),
            time(node.expected),
            time(node.budget),
            node.worst_case_attempts.to_string(),
        ]
    }
}

fn time(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| written(time).to_string())
}

/// Replaces characters that would break a line, control a terminal, or invisibly change how the
/// rest is read.
fn sanitized(text: &str) -> String {
    let is_unseen = |letter| {
        let joins_or_turns = matches!(letter, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}');
        joins_or_turns || matches!(letter, '\u{2066}'..='\u{2069}' | '\u{FEFF}')
    };
    let sanitized = text
        .chars()
        .map(|letter| match letter.is_control() || is_unseen(letter) {
            true => char::REPLACEMENT_CHARACTER,
            false => letter,
        });
    sanitized.collect()
}

#[cfg(test)]
mod tests {
    use super::sanitized;

    #[test]
    fn invisible_characters_are_replaced() {
        let unseen = "\n\u{1b}\u{200b}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{feff}";
        assert_eq!(sanitized(unseen), "\u{fffd}".repeat(9));
        let seen = "größe → \u{200a}\u{2010}\u{2029}\u{202f}\u{2065}\u{206a}";
        assert_eq!(sanitized(seen), seen);
    }
}
