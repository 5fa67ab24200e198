//! Dotted paths of field filters.

/// The steps of a path, at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(Vec<String>);

impl Path {
    /// Parses a dotted path.
    ///
    /// # Errors
    /// Returns the reason if a step is empty, looks as if it was meant in another path language, or has a
    /// backslash before a character that needs none.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let (mut steps, mut step) = (Vec::new(), Vec::new());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '.' => steps.push(std::mem::take(&mut step)),
                '\\' => {
                    let next = chars.next().filter(|next| can_be_escaped(*next));
                    step.push((next.ok_or(ESCAPE)?, true));
                }
                char => step.push((char, false)),
            }
        }
        steps.push(step);
        if text.starts_with('/') {
            return Err(SYNTAX);
        }
        match steps.iter().find_map(|step| problem(step)) {
            Some(reason) => Err(reason),
            None => Ok(Self(
                steps
                    .into_iter()
                    .map(|step| step.into_iter().map(|(char, _)| char).collect())
                    .collect(),
            )),
        }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns the first step.
    pub(super) fn into_first(self) -> Option<String> {
        self.0.into_iter().next()
    }

    /// Returns the path with its last step replaced by `name`. Returns `None` if `name` has several
    /// steps.
    pub(super) fn renamed(&self, name: Self) -> Option<Self> {
        let mut steps = self.0.clone();
        steps.pop();
        let parents = steps.len();
        steps.extend(name.0);
        (steps.len() == parents + 1).then_some(Self(steps))
    }

    /// Returns `true` if the path is `other` or leads through it.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

const ESCAPE: &str =
    "a backslash must precede a dot, a backslash, white space or one of * $ [ ] / + - 0";
const SYNTAX: &str = "*, $, [, ] and a leading / have no meaning: a path such as l.pin leads through arrays \
                      by itself; write a backslash before such a character of a name";
const WHITE_SPACE: &str = "a step must not begin or end with white space; write a backslash before \
                           white space of a name";
const NUMBER: &str = "an index has no sign and no leading zero; write a backslash before the first character \
                      of a name such as 007";

/// Returns `true` if a backslash may precede `char`, which is then a part of a name.
fn can_be_escaped(char: char) -> bool {
    r".\*$[]/+-0".contains(char) || char.is_whitespace()
}

/// Returns the reason for which `step` is not valid. Each character is `true` if it is escaped.
fn problem(step: &[(char, bool)]) -> Option<&'static str> {
    let (Some(first), Some(last)) = (step.first(), step.last()) else {
        return Some("a step must not be empty");
    };
    let is_white = |(char, escaped): &(char, bool)| char.is_whitespace() && !escaped;
    let digits = |rest: &[(char, bool)]| {
        !rest.is_empty() && rest.iter().all(|(char, _)| char.is_ascii_digit())
    };
    match first {
        _ if is_white(first) || is_white(last) => Some(WHITE_SPACE),
        // Names such as `$ref` are common.
        ('$', false) if step.len() == 1 => Some(SYNTAX),
        _ if step
            .iter()
            .any(|(char, escaped)| !escaped && "*[]".contains(*char)) =>
        {
            Some(SYNTAX)
        }
        ('0' | '+' | '-', false) if digits(&step[1..]) => Some(NUMBER),
        _ => None,
    }
}

/// Returns the message for a text that is not a path, for `reason`.
pub(super) fn expected(text: &str, reason: &str) -> String {
    format!("expected a path such as data.items, got \"{text}\": {reason}")
}
