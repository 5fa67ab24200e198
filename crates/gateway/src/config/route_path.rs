//! The paths of routes: what the router matches, and what the file may contain.

use std::fmt;

use tower_fanout_json::template::encode_path;

/// Maximum number of parameters of a path. The router, matchit 0.8, names them `a` to `y` and panics at the
/// 26th (`normalize_params` in its `tree.rs`).
const MAX_PARAMETERS: usize = 25;

/// Path of the built-in API.
pub(crate) const ORCHESTRATE: &str = "/api/v1/analysis/orchestrate";

/// Names that the gateway itself uses in metrics, or for the operations of its OpenAPI document.
pub(crate) const RESERVED_NAMES: [&str; 8] = [
    "livez",
    "readyz",
    "openapi",
    "docs",
    "orchestrate",
    "orchestrateTest",
    "orchestrateHealth",
    "orchestrateHealthPost",
];

/// Paths that the gateway itself always serves.
const RESERVED: [&str; 4] = ["/livez", "/readyz", "/openapi.json", "/docs"];

/// Returns `true` if the gateway itself may serve `path`: other routes serve some of these paths.
pub(crate) fn is_built_in(path: &str) -> bool {
    let mut own = RESERVED.into_iter().chain([ORCHESTRATE]);
    own.any(|own| is_below(path, own))
}

fn is_below(path: &str, other: &str) -> bool {
    let rest = path.strip_prefix(other);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns `true` for a character that the name of a parameter can have.
fn is_of_name(one: char) -> bool {
    !one.is_ascii() || one.is_ascii_alphanumeric() || "_-".contains(one)
}

/// The path of a route, such as `/pages/{id}`.
///
/// Two paths are equal if they match the same requests: the names of parameters make no difference.
#[derive(Clone, Debug)]
pub(crate) struct RoutePath {
    text: String,
    pattern: String,
    parameters: Vec<String>,
}

impl RoutePath {
    /// Parses the path of a route. A segment is a parameter in braces or literal text, which is
    /// percent-encoded for the router.
    ///
    /// # Errors
    /// Returns what was expected if `text` is no path, or if no request reaches the route.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let segments = text.strip_prefix('/');
        let segments = segments.ok_or("a path that begins with \"/\", such as \"/pages/{id}\"")?;
        let mut path = Self {
            text: text.to_owned(),
            pattern: String::new(),
            parameters: Vec::new(),
        };
        for segment in segments.split('/') {
            path.pattern.push('/');
            let inner = segment.strip_prefix('{');
            match inner.and_then(|inner| inner.strip_suffix('}')) {
                Some(name) => path.add_parameter(name)?,
                None => path.add_literal(segment)?,
            }
        }
        let reserved = RESERVED
            .into_iter()
            .find(|reserved| is_below(&path.text, reserved));
        match reserved {
            Some(reserved) => Err(format!(
                "another path, as the gateway itself serves {reserved}"
            )),
            None => Ok(path),
        }
    }

    fn add_parameter(&mut self, name: &str) -> Result<(), String> {
        if name.contains('*') {
            return Err("a parameter for one segment, such as {id}".into());
        }
        if name.is_empty() || name.contains(['{', '}']) {
            return Err("parameters such as {id}".into());
        }
        // A placeholder such as {route.id} can have no other name.
        if !name.chars().all(is_of_name) {
            return Err("parameters with letters, digits, _ and - in their names".into());
        }
        if self.parameters.iter().any(|other| other == name) {
            return Err("parameters with different names".into());
        }
        if self.parameters.len() == MAX_PARAMETERS {
            return Err(format!("at most {MAX_PARAMETERS} parameters"));
        }
        // The router knows parameters by position, because other routes may name them differently.
        self.pattern += &format!("{{{}}}", self.parameters.len());
        self.parameters.push(name.to_owned());
        Ok(())
    }

    fn add_literal(&mut self, segment: &str) -> Result<(), &'static str> {
        if segment.starts_with(':') {
            return Err("parameters in braces, such as {id}");
        }
        if matches!(segment, "." | "..") {
            return Err("segments other than \".\" and \"..\", which servers remove");
        }
        if segment.contains(['{', '}']) {
            return Err("a parameter that is a whole segment, such as {id}");
        }
        if segment.contains('%') {
            return Err("a path that is not percent-encoded");
        }
        if segment.contains(['?', '#', '*', '\\']) {
            return Err("literal segments without ?, #, * and \\");
        }
        // Nothing is left that has more than one meaning.
        self.pattern += &encode_path(segment).map_err(|_| "literal text of a path")?;
        Ok(())
    }

    /// Returns a suggestion for a path in the language of another router.
    pub(super) fn suggestion(text: &str) -> Option<String> {
        let segments = text.split('/').map(|segment| {
            let inner = segment
                .strip_prefix('{')
                .and_then(|one| one.strip_suffix('}'));
            let inner = inner.or_else(|| segment.strip_prefix(':'));
            let inner = inner.or_else(|| Some(segment).filter(|one| one.contains('*')));
            let Some(inner) = inner else {
                return segment.to_owned();
            };
            let name = inner.trim_start_matches(|one| !is_of_name(one));
            match name
                .split(|one| !is_of_name(one))
                .next()
                .unwrap_or_default()
            {
                "" => "{rest}".to_owned(),
                name => format!("{{{name}}}"),
            }
        });
        let suggested = segments.collect::<Vec<_>>().join("/");
        let is_other = suggested != text && Self::parse(&suggested).is_ok();
        is_other
            .then(|| format!("a parameter is one whole segment of any text: write \"{suggested}\""))
    }

    /// Returns `true` if this is the literal path `other` or begins with it and a slash.
    pub(super) fn is_below(&self, other: &str) -> bool {
        is_below(&self.text, other)
    }

    /// Returns the segments as the file has them, with `None` for a parameter.
    pub(super) fn segments(&self) -> impl Iterator<Item = Option<&str>> {
        let segments = self.text.split('/');
        segments.map(|segment| (!segment.starts_with('{')).then_some(segment))
    }

    /// Returns the names of the parameters, in the order of their positions.
    pub(crate) fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Returns the path for the router: percent-encoded, with numbers as the names of parameters.
    pub(crate) fn pattern(&self) -> &str {
        &self.pattern
    }
}

impl PartialEq for RoutePath {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

/// Formats the path as the file has it.
impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
