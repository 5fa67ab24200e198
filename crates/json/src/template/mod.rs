//! Templates for requests, and for single texts, with placeholders such as `/users/{route.id}`.
//!
//! A placeholder names the source of its value and may have a default: `{query.page|1}`. `{{` and
//! `}}` are literal braces.
//!
//! | placeholder | value |
//! |---|---|
//! | `{body.a.b}`, `{jwt.a.b}` | a member of the caller's body or token, with a path of one or more steps |
//! | `{query.name}`, `{header.name}`, `{route.name}` | a parameter or header of the caller's request, with exactly one step |
//! | `{tier}` | the caller's tier, without a path |
//! | `{node.a.b}` | a member of the answer of the node named `node`, with a path of one or more steps |
//!
//! - Dots separate steps. A step must not be empty, and must not contain `{`, `}`, `/` or a space. Dots
//!   and `|` cannot be escaped, so a name that contains them cannot be used. Hyphens are allowed.
//! - The name of a header must be one that a request can have (RFC 9110).
//! - The step `0` is the first item of an array, if the [`Lookup`] reads the path with
//!   [`Json::get`](crate::Json::get).
//! - The default is all text after the first `|`, white space included. An empty default is an empty
//!   text. A default cannot contain `}`.
//!
//! Values are inserted in one pass, each escaped for its position. A value can therefore never add
//! a path segment, a query key or a header, and its content is never interpreted as a placeholder.
//! Templates have a path and a query only, so no value can choose the host.
//!
//! Some values cannot be escaped. A request with one of them is not made, and rendering fails with
//! [`RenderError::Unusable`]:
//!
//! - In a path, a value that makes its segment empty or a dot segment (`.` or `..`). A slash is allowed,
//!   because it is percent-encoded.
//! - In a header, a value with characters other than visible ASCII and spaces.
//! - In a position for text, an object, an array, or a string with a lone surrogate.
//! - In any position, a value that is [`Found::Unusable`].
//!
//! All other values can be used in a query and in a body. No default replaces a value that cannot be used.
//!
//! A body is a JSON document. A string that consists of exactly one placeholder is replaced by the
//! value with its JSON type. Within a longer string, a value is inserted as text.
//!
//! In a position for text, `null` counts as missing, and the default is used. A default is text. In place of a whole string in a body, a default that is a number, `true`,
//! `false` or `null` is inserted with that type.
//!
//! ```
//! use http::Method;
//! use serde_json::json;
//! use tower_fanout_json::template::{Found, Lookup, Reference, RequestTemplate};
//!
//! struct Seven;
//!
//! impl Lookup for Seven {
//!     fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
//!         (reference.path == ["id"]).then(|| Found::Text("a/7".into()))
//!     }
//! }
//!
//! let template = RequestTemplate::new(Method::POST, "/users/{route.id}")?
//!     .body(&json!({"who": "{route.id}", "note": "for {route.id}", "page": "{query.page|1}"}))?;
//! let request = template.render(&Seven)?;
//! assert_eq!(request.uri(), "/users/a%2F7");
//! assert_eq!(request.body(), r#"{"note":"for a/7","page":1,"who":"a/7"}"#);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Use in a plan
//!
//! The function that makes the request of a node, the argument of
//! [`PlanBuilder::node`](tower_fanout::PlanBuilder::node), renders the template. Its [`Lookup`] reads
//! the caller's request and the answers of nodes. A `Lookup` that uses [`Reference::node`], like this
//! one, requires [`RequestTemplate::resolve`] before the first rendering. A `Lookup` that uses only the
//! name in [`Root::Node`] does not.
//!
//! ```
//! use bytes::Bytes;
//! use http::{Method, Request};
//! use tower::{BoxError, ServiceExt, service_fn};
//! use tower_fanout::{Answers, BranchError, FanOut, Plan};
//! use tower_fanout_json::{Json, template::{Found, Lookup, Reference, RequestTemplate, Root}};
//!
//! struct Source<'a> {
//!     id: &'a str,
//!     answers: &'a Answers,
//! }
//!
//! impl Lookup for Source<'_> {
//!     fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
//!         match &reference.root {
//!             Root::Route if reference.path == ["id"] => Some(Found::Text(self.id.into())),
//!             Root::Node(_) => {
//!                 let answer: &Json = self.answers.at(reference.node?)?;
//!                 answer.get(&reference.path).map(Found::Json)
//!             }
//!             _ => None,
//!         }
//!     }
//! }
//!
//! fn make(
//!     template: RequestTemplate,
//! ) -> impl Fn(&String, &Answers) -> Result<Request<Bytes>, BranchError> {
//!     move |id, answers| Ok(template.render(&Source { id, answers })?)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! // The service answers with the path of the request.
//! let service = service_fn(|request: Request<Bytes>| async move {
//!     let answer = format!(r#"{{"path": "{}", "teams": [3]}}"#, request.uri());
//!     Ok::<_, BoxError>(Json::parse(answer.into())?)
//! });
//! let user = RequestTemplate::new(Method::GET, "/users/{route.id}")?;
//! let mut team = RequestTemplate::new(Method::GET, "/teams/{user.teams.0}")?;
//! let names = ["user", "team"];
//! team.resolve(|name| names.iter().position(|known| *known == name));
//!
//! let mut plan = Plan::builder();
//! plan.node("user", service, make(user));
//! plan.node("team", service, make(team)).after_named("user").reads("user");
//! let response = FanOut::new(plan.build()?).oneshot("7".to_owned()).await?;
//! let team: &Json = response.at(1).unwrap();
//! assert_eq!(team.as_raw(), r#"{"path": "/teams/3", "teams": [3]}"#);
//! # Ok(())
//! # }
//! ```

mod body;
mod lookup;
mod request;
mod text;

use std::{borrow::Cow, error::Error, fmt};

use http::HeaderName;

use self::lookup::Values;
pub use self::{
    lookup::{Found, Lookup, RenderError},
    request::{Position, RequestTemplate, encode_path},
    text::TextTemplate,
};

/// Text with placeholders, each given as its index in the list of the request.
///
/// The `Debug` output omits the text, because it may be secret.
#[derive(Clone, Default, PartialEq, Eq)]
struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A placeholder whose value is inserted as text.
    Value(usize),
    /// A placeholder whose value is inserted as JSON and keeps its type.
    Json(usize),
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template(…)")
    }
}

/// A placeholder: the source of a value, and an optional default.
///
/// The `Debug` and `Display` output omits the default.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// The source of the value.
    pub root: Root,
    /// Path to the value within the source. Empty for [`Root::Tier`].
    pub path: Vec<String>,
    /// Text that is used if the value is missing. `None` makes a missing value an error.
    pub default: Option<String>,
    /// The index of the node in its plan. `None` for the other roots, for the name of an unknown node,
    /// and until the template is [resolved](RequestTemplate::resolve).
    pub node: Option<usize>,
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The body of the caller's request.
    Body,
    /// The query of the caller's request.
    Query,
    /// The headers of the caller's request.
    Header,
    /// The claims of the caller's token.
    Jwt,
    /// The parameters in the path of the route.
    Route,
    /// The caller's tier.
    Tier,
    /// The response of the node with this name.
    Node(String),
}

impl Root {
    /// Names of the other sources, which no node may have.
    pub const RESERVED: [&'static str; 6] = ["body", "query", "header", "jwt", "route", "tier"];

    /// Returns the source called `name`. Every name that is not reserved is that of a node.
    pub(crate) fn parse(name: &str) -> Self {
        match name {
            "body" => Self::Body,
            "query" => Self::Query,
            "header" => Self::Header,
            "jwt" => Self::Jwt,
            "route" => Self::Route,
            "tier" => Self::Tier,
            node => Self::Node(node.to_owned()),
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Body => "body",
            Self::Query => "query",
            Self::Header => "header",
            Self::Jwt => "jwt",
            Self::Route => "route",
            Self::Tier => "tier",
            Self::Node(name) => name,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.root)?;
        self.path.iter().try_for_each(|step| write!(f, ".{step}"))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({self})")
    }
}

/// The error returned for text that is not a valid template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    message: Cow<'static, str>,
    column: Option<usize>,
    lone_name: Option<String>,
}

impl TemplateError {
    fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            message: message.into(),
            column: None,
            lone_name: None,
        }
    }

    /// Adds the text that has the error, before the advice of the message.
    fn got(self, text: &str) -> Self {
        Self::new(match self.message.split_once("; ") {
            Some((error, advice)) => format!("{error}, got \"{text}\"; {advice}"),
            None => format!("{}, got \"{text}\"", self.message),
        })
    }

    /// Returns the number of the character at which the mistake begins, counted from 1, or `None` if the mistake is not at
    /// a brace or a placeholder.
    #[must_use]
    pub const fn column(&self) -> Option<usize> {
        self.column
    }

    /// Returns the name in a placeholder such as `{id}`, which has only a name. Returns `None` for other mistakes.
    #[must_use]
    pub fn lone_name(&self) -> Option<&str> {
        self.lone_name.as_deref()
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for TemplateError {}

impl Template {
    /// Parses `text`, and adds its placeholders to `references`.
    ///
    /// # Errors
    /// Returns the first mistake: a brace is unmatched, or a placeholder does not name a value.
    fn parse(text: &str, references: &mut Vec<Reference>) -> Result<Self, TemplateError> {
        let (template, errors) = Self::parse_all(text, references);
        match errors.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(template),
        }
    }

    /// Parses `text` as [`parse`](Self::parse) does, and returns all mistakes. A template with mistakes lacks their text.
    fn parse_all(text: &str, references: &mut Vec<Reference>) -> (Self, Vec<TemplateError>) {
        Self::parse_each(text, |_, reference| {
            references.push(reference);
            references.len() - 1
        })
    }

    /// Parses `text`, and calls `add` for each valid placeholder, with the number of its first character, counted from 1.
    /// `add` returns the index of the placeholder.
    fn parse_each(
        text: &str,
        mut add: impl FnMut(usize, Reference) -> usize,
    ) -> (Self, Vec<TemplateError>) {
        let (mut template, mut errors) = (Self::default(), Vec::new());
        let mut rest = text;
        // No character is looked at again for each brace.
        let (mut counted, mut before) = (0, 0);
        let last = text.rfind('}');
        while let Some(brace) = rest.find(['{', '}']) {
            template.text(&rest[..brace]);
            let at = text.len() - rest.len() + brace;
            before += text[counted..at].chars().count();
            counted = at;
            let is_closed = last.is_some_and(|last| at < last);
            let (opens, after) = (rest.as_bytes()[brace] == b'{', &rest[brace + 1..]);
            let doubled = if opens { "{" } else { "}" };
            let column = before + 1;
            let mut report = |error| {
                errors.push(TemplateError {
                    column: Some(column),
                    ..error
                });
            };
            if let Some(after) = after.strip_prefix(doubled) {
                template.text(doubled);
                rest = after;
            } else if opens
                && is_closed
                && let Some(end) = after.find('}')
            {
                match Reference::parse(&after[..end]) {
                    Ok(reference) => {
                        template.parts.push(Part::Value(add(column, reference)));
                    }
                    Err(error) => report(error),
                }
                rest = &after[end + 1..];
            } else {
                report(TemplateError::new(format!(
                    "unmatched \"{doubled}\"; write \"{doubled}{doubled}\" for a literal brace"
                )));
                rest = after;
            }
        }
        template.text(rest);
        (template, errors)
    }

    /// Appends literal text.
    fn text(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// Returns the literal texts.
    fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Value(_) | Part::Json(_) => None,
        })
    }

    /// Writes the text with `values` to `out`. Literal text is written with `own`, and values that
    /// are inserted as text are written with `escape`.
    fn render(
        &self,
        values: &Values<'_, impl Lookup>,
        own: Escape,
        escape: Escape,
        out: &mut Bounded,
    ) -> Result<(), RenderError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => out.push(text, own),
            Part::Value(index) => {
                values.name_cause(*index, out.push(&values.text(*index)?, escape))
            }
            Part::Json(index) => {
                values.name_cause(*index, out.push(&values.json(*index)?, verbatim))
            }
        })
    }

    /// Returns the placeholders whose values are inserted as text.
    fn values(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(index) => Some(*index),
            Part::Text(_) | Part::Json(_) => None,
        })
    }
}

/// A function that appends text in the form that a position requires. The result is never shorter
/// than the text.
type Escape = fn(&str, &mut String);

/// Appends text unchanged, as an [`Escape`].
fn verbatim(text: &str, out: &mut String) {
    out.push_str(text);
}

/// Text with a maximum size.
struct Bounded {
    text: String,
    /// Name of the part of the request, for the error.
    what: &'static str,
    /// Maximum size in bytes.
    max: usize,
}

impl Bounded {
    /// Creates an empty text.
    const fn new(what: &'static str, max: usize) -> Self {
        let text = String::new();
        Self { text, what, max }
    }

    /// Appends `text` with `escape`.
    fn push(&mut self, text: &str, escape: Escape) -> Result<(), RenderError> {
        // Escaping never shortens text, so text that is already too long is not escaped at all.
        if self.text.len() + text.len() <= self.max {
            escape(text, &mut self.text);
            if self.text.len() <= self.max {
                return Ok(());
            }
        }
        Err(RenderError::TooLarge {
            what: self.what,
            max: self.max,
            value: None,
        })
    }
}

impl Reference {
    /// Creates a reference to a whole source, without a path and a default.
    pub(crate) const fn to(root: Root) -> Self {
        Self {
            root,
            path: Vec::new(),
            default: None,
            node: None,
        }
    }

    /// Parses the text between the braces of a placeholder.
    fn parse(text: &str) -> Result<Self, TemplateError> {
        let (path, default) = match text.split_once('|') {
            Some((path, default)) => (path, Some(default.to_owned())),
            None => (text, None),
        };
        if path.contains('*') {
            return Err(TemplateError::new(format!(
                "\"*\" has no meaning in the placeholder {{{text}}}; name one value"
            )));
        }
        let is_wrong = |one: char| "{}/".contains(one) || one.is_whitespace();
        let named = |name: &str| !name.is_empty() && !name.contains(is_wrong);
        let trimmed: Vec<_> = path.split('.').map(str::trim).collect();
        let written = trimmed.join(".");
        if written != path && trimmed.iter().all(|step| named(step)) {
            return Err(TemplateError::new(format!(
                "a placeholder must not have spaces, got {{{text}}}; write {{{written}}}"
            )));
        }
        let mut steps = path.split('.');
        let root = Root::parse(steps.next().unwrap_or_default());
        let path: Vec<_> = steps.map(str::to_owned).collect();
        let rooted = named(&root.to_string());
        if !rooted || !path.iter().all(|step| named(step)) {
            return Err(TemplateError::new(format!(
                "expected a placeholder such as {{user.id}}, got {{{text}}}"
            )));
        }
        let is_header = |name: &String| HeaderName::try_from(name).is_ok();
        if root == Root::Header && !path.iter().all(is_header) {
            return Err(TemplateError::new(format!(
                "expected a header name, as in {{header.x-client}}, got {{{text}}}"
            )));
        }
        match (&root, path.len()) {
            (Root::Tier, 0)
            | (Root::Body | Root::Jwt | Root::Node(_), 1..)
            | (Root::Query | Root::Header | Root::Route, 1) => Ok(Self {
                path,
                default,
                ..Self::to(root)
            }),
            (Root::Tier, _) => Err(TemplateError::new("{tier} has no members; remove the path")),
            (Root::Query | Root::Header | Root::Route, _) => Err(TemplateError::new(format!(
                "{{{root}}} takes exactly one name, as in {{{root}.name}}"
            ))),
            (Root::Node(name), _) => Err(TemplateError {
                lone_name: Some(name.clone()),
                ..TemplateError::new(format!(
                    "{{{name}}} names no value; write its source too, as in {{route.{name}}} or {{query.{name}}}"
                ))
            }),
            _ => Err(TemplateError::new(format!(
                "{{{root}}} names no value; add a path, as in {{{root}.name}}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_placeholders_and_literal_braces() {
        let mut references = Vec::new();
        let text = "/a/{{x}}/{user.address.city|Rome}/{tier}";
        let template = Template::parse(text, &mut references).unwrap();
        let names: Vec<_> = references.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["user.address.city", "tier"]);
        assert_eq!(references[0].default.as_deref(), Some("Rome"));
        assert!(template.parts[0] == Part::Text("/a/{x}/".into()));
    }

    #[test]
    fn fault_j1_reports_every_mistake_of_a_template_at_its_place() {
        let mut references = Vec::new();
        let text = "é{id|1}/{query.a}/{{/{user..x}}/{tier.x}/{";
        let (_, errors) = Template::parse_all(text, &mut references);
        let found = errors
            .iter()
            .map(|error| (error.column().unwrap(), error.lone_name()));
        let expected = [
            (2, Some("id")),
            (22, None),
            (31, None),
            (33, None),
            (42, None),
        ];
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let message = errors[0].to_string();
        assert!(
            message.ends_with("as in {route.id} or {query.id}"),
            "{message}"
        );
    }

    #[test]
    fn rejects_invalid_placeholders() {
        for text in [
            "{",
            "}",
            "{}",
            "{a b.c}",
            "{user}",
            "{tier.x}",
            "{query}",
            "{query.a.b}",
            "{header.x@foo}",
            "{header.é|1}",
            "{user..id}",
            "x}y",
            "{a{b}",
        ] {
            assert!(Template::parse(text, &mut Vec::new()).is_err(), "{text}");
        }
    }
}
