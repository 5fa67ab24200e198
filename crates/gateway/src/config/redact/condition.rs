//! Which parts of a condition may be shown.

use std::ops::Range;

use tower_fanout_json::template::Root;

use super::{
    Redactor, SHORT,
    form::{LONGEST_WORD, is_plain, is_variable},
    is_part,
};

impl Redactor {
    /// Returns the ranges of a condition that may not be shown: literals and unknown names. The names of tiers and members
    /// are visible, in brackets only if they consist of words.
    pub(super) fn hidden_of_condition(&self, text: &str) -> Vec<Range<usize>> {
        let (mut hidden, mut at) = (Vec::new(), 0);
        while let Some(one) = text[at..].chars().next() {
            at = match one {
                '"' | '\'' => self.hide_literal(text, at, one, &mut hidden),
                _ if is_part(one) && one != '-' => self.hide_name(text, at, &mut hidden),
                _ => at + one.len_utf8(),
            };
        }
        hidden
    }

    /// Adds the ranges of the literal at `at` of a condition that may not be shown. Returns the end of the literal.
    fn hide_literal(
        &self,
        text: &str,
        at: usize,
        quote: char,
        hidden: &mut Vec<Range<usize>>,
    ) -> usize {
        let (before, start) = (&text[..at], at + 1);
        let end = start + end_of_literal(&text[start..], before.ends_with('\\'), quote);
        let literal = &text[start..end];
        let after = text[end..].trim_start_matches(['\\', quote]).trim_start();
        let map = before.trim_end_matches('\\').strip_suffix('[');
        let is_index = map.is_some_and(|map| map.ends_with(is_part));
        let is_name = (is_index || after.starts_with("in header")) && is_plain(literal)
            || is_tier(before, after) && literal.chars().all(is_part);
        let is_short = literal.len() <= SHORT;
        let mut words = literal.split(|one| !is_part(one));
        if Root::RESERVED.contains(&words.next().unwrap_or_default()) {
            // A condition may be in quotes by mistake.
            let inside = self.hidden_of_condition(literal).into_iter();
            hidden.extend(inside.map(|range| start + range.start..start + range.end));
        } else if !is_name && !is_short && !is_variable(literal) && !self.is_known(literal) {
            hidden.push(start..end);
        }
        let end = end + usize::from(text[end..].starts_with('\\'));
        end + usize::from(text[end..].starts_with(quote))
    }

    /// Adds the range of the name or number at `at` of a condition if it may not be shown. Returns its end.
    fn hide_name(&self, text: &str, at: usize, hidden: &mut Vec<Range<usize>>) -> usize {
        let is_member = text[..at].ends_with('.');
        // A name with a dash is a subtraction, but may be meant as a name.
        let is_end = |one: char| !is_part(one) || one == '-' && !is_member;
        let end = at + text[at..].find(is_end).unwrap_or(text.len() - at);
        let word = &text[at..end];
        let longest = match word.bytes().any(|byte| byte.is_ascii_digit()) {
            true => SHORT,
            false => LONGEST_WORD,
        };
        let is_name = is_member || is_tier(&text[..at], text[end..].trim_start());
        if !is_name && word.len() > longest && !self.is_near(word) {
            hidden.push(at..end);
        }
        end
    }
}

/// Returns the length of a literal before its closing quote. YAML escapes both quotes inside of its own.
fn end_of_literal(text: &str, is_escaped: bool, quote: char) -> usize {
    if is_escaped {
        return text.find(&format!("\\{quote}")).unwrap_or(text.len());
    }
    let mut is_escaped = false;
    let end = text.find(|one| {
        let is_end = one == quote && !is_escaped;
        is_escaped = one == '\\' && !is_escaped;
        is_end
    });
    end.unwrap_or(text.len())
}

/// Returns `true` if a condition compares the tier with what is between `before` and `after`.
fn is_tier(before: &str, after: &str) -> bool {
    let before = before.trim_end_matches(['\\', '"', '\'']).trim_end();
    let ends = |left: &str| {
        let before = left.trim_end().strip_suffix("tier");
        before.is_some_and(|before| !before.ends_with(|one| is_part(one) || one == '.'))
    };
    let left = before.trim_end_matches(['=', '!']);
    let list = before
        .rsplit_once('[')
        .filter(|(_, items)| !items.contains(']'));
    let list = list.and_then(|(left, _)| left.trim_end().strip_suffix(" in"));
    let list = list.map(|left| left.trim_end().trim_end_matches(" not"));
    let right = after.trim_start_matches(['=', '!']);
    let rest = right.trim_start().strip_prefix("tier");
    left != before && ends(left)
        || list.is_some_and(ends)
        || right != after && rest.is_some_and(|rest| !rest.starts_with(is_part))
}
