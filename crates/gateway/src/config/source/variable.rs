//! References to environment variables in texts.

use tower_fanout_json::template::Root;

use super::{super::redact::is_plain, Environment};

/// The reason why variables in a text have no value.
#[derive(Clone, Debug)]
pub(in super::super) struct Unset {
    pub(in super::super) message: String,
    pub(in super::super) help: Option<String>,
    /// The name of the variable that is not set. `None` if a reference is not valid.
    pub(in super::super) missing: Option<String>,
}

/// A text with the values of its variables.
pub(in super::super) struct Expanded {
    pub(in super::super) value: String,
    /// `false` if the text has only escapes.
    pub(in super::super) has_variables: bool,
}

/// Expands `${VAR}`, `${VAR:-default}` and `${VAR:?message}` in one pass. As in Docker Compose, `$$` is a dollar sign,
/// but only before a brace: `$${VAR}` is the text `${VAR}`.
pub(in super::super) fn expand(text: &str, env: &Environment) -> Result<Expanded, Unset> {
    let (mut out, mut has_variables) = (String::new(), false);
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        // The dollar signs before the brace, of which each pair is one.
        let before = rest[..start].trim_end_matches('$');
        let dollars = start + 1 - before.len();
        out.push_str(before);
        out.push_str(&"$".repeat(dollars / 2));
        if dollars.is_multiple_of(2) {
            out.push('{');
            rest = &rest[start + 2..];
            continue;
        }
        has_variables = true;
        let (inside, after) = rest[start + 2..]
            .split_once('}')
            .ok_or_else(|| Unset::invalid("\"${\" without a closing \"}\""))?;
        out.push_str(value(inside, env)?);
        // Continues after the reference, so a value is never expanded itself.
        rest = after;
    }
    out.push_str(rest);
    Ok(Expanded {
        value: out,
        has_variables,
    })
}

/// Returns the value of a reference such as `VAR:-default`.
fn value<'v>(reference: &'v str, env: &'v Environment) -> Result<&'v str, Unset> {
    let (name, otherwise) = match reference.split_once(':') {
        Some((name, otherwise)) => (name, Some(otherwise)),
        None => (reference, None),
    };
    if !is_name(name) {
        let message = "a variable name must consist of ASCII letters, digits and \"_\"";
        let is_path = name
            .chars()
            .all(|one| one.is_alphanumeric() || "._-".contains(one));
        let root = name.split_once('.').filter(|_| is_path);
        let is_placeholder =
            root.is_some_and(|(root, rest)| Root::RESERVED.contains(&root) && !rest.is_empty());
        let help =
            is_placeholder.then(|| format!("write {{{name}}}, without \"$\", for a placeholder"));
        return Err(Unset {
            help,
            ..Unset::invalid(message)
        });
    }
    let otherwise = match otherwise.map(|otherwise| otherwise.split_at_checked(1)) {
        None => Err(Unset::missing(name, "")),
        Some(Some(("-", default))) if default.contains("${") => return Err(Unset::nested(name)),
        Some(Some(("-", default))) => Ok(default),
        // Text that does not consist of words may be a secret.
        Some(Some(("?", message))) if !is_plain(message) => Err(Unset::missing(name, "")),
        Some(Some(("?", message))) => Err(Unset::missing(name, &format!(": {message}"))),
        Some(_) => {
            let message = format!("expected \"-default\" or \"?message\" after \"${{{name}:\"");
            return Err(Unset::invalid(message));
        }
    };
    env.get(name).map_or(otherwise, Ok)
}

impl Unset {
    /// A variable in the default of `name`. The default is not quoted, because it may be a secret.
    fn nested(name: &str) -> Self {
        Self::invalid(format!(
            "the default of {name} must not contain a variable, which would not be expanded"
        ))
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            missing: None,
        }
    }

    fn missing(name: &str, message: &str) -> Self {
        Self {
            message: format!("environment variable {name} is not set{message}"),
            help: Some(format!(
                "set it, name a file that has it with --env-file, or write a default as in ${{{name}:-default}}; \
                 \"fanout check --allow-missing-env\" checks the rest of the file without it"
            )),
            missing: Some(name.to_owned()),
        }
    }
}

/// Returns `true` if `name` is the name of a variable.
pub(super) fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_of_dollar_signs_before_a_brace_is_one() {
        let env = Environment::from_iter([("A".to_owned(), "1".to_owned())]);
        for (text, expected, has_variables) in [
            ("${A}", "1", true),
            ("$${A}", "${A}", false),
            ("$$${A}", "$1", true),
            ("$$$${A}", "$${A}", false),
            ("$${A}${A}", "${A}1", true),
            ("$$ $A $${", "$$ $A ${", false),
            ("${B:-$$}", "$$", true),
        ] {
            let expanded = expand(text, &env).ok().unwrap();
            assert_eq!(
                (&*expanded.value, expanded.has_variables),
                (expected, has_variables),
                "{text}"
            );
        }
    }
}
