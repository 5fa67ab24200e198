//! Requests that are made from values: `/users/{route.id}`.
//!
//! A placeholder names where its value comes from, and may have a default: `{query.page|1}`. `{{` and
//! `}}` are braces. Values are put in place in one pass, each escaped for its position, so a value
//! can never add a path segment, a query key or a header, and what is in it is never read as a
//! placeholder. There is no placeholder for a host: requests have a path and a query only.
//!
//! A body is a JSON document. A string in it that is one placeholder and nothing else takes the value
//! with the type that it has; in a longer string a value is text. Where text is written, null,
//! objects and arrays are no values, and the default stands in. A default is text; in the place of a
//! whole string it is a number, `true`, `false` or `null` if it reads as one.
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

mod body;
mod lookup;
mod request;

use std::{borrow::Cow, error::Error, fmt};

pub use self::{
    lookup::{Found, Lookup},
    request::{RenderError, RequestTemplate},
};

/// Text with placeholders. Its `Debug` has these alone, as the text may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug("Template", self.references(), f)
    }
}

/// Shows `references` by their names.
fn debug<'r>(
    what: &str,
    references: impl Iterator<Item = &'r Reference>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let names: Vec<_> = references.map(Reference::to_string).collect();
    f.debug_tuple(what).field(&names).finish()
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Reference),
}

/// A placeholder: where a value comes from, and what stands in for it, which is not in its `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reference {
    /// Where it comes from.
    pub root: Root,
    /// The way to it from there.
    pub path: Vec<String>,
    /// What is taken if there is none.
    pub default: Option<String>,
    /// The index of the node in its plan, once it is [resolved](RequestTemplate::resolve); `None` for
    /// the other roots.
    pub node: Option<usize>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The caller's body.
    Body,
    /// The caller's query.
    Query,
    /// The caller's headers.
    Header,
    /// The claims of the caller's token.
    Jwt,
    /// The parameters in the route's path.
    Route,
    /// The caller's tier.
    Tier,
    /// The answer of another node.
    Node(String),
}

impl Root {
    /// The names that no node can have.
    pub const RESERVED: [&'static str; 6] = ["body", "query", "header", "jwt", "route", "tier"];

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

/// A template that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError(Cow<'static, str>);

impl TemplateError {
    fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for TemplateError {}

impl Template {
    /// Reads `text`.
    ///
    /// # Errors
    /// A brace has no partner, or a placeholder no name.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            literal.push_str(&rest[..brace]);
            let (opens, after) = (rest.as_bytes()[brace] == b'{', &rest[brace + 1..]);
            let doubled = if opens { '{' } else { '}' };
            if let Some(after) = after.strip_prefix(doubled) {
                literal.push(doubled);
                rest = after;
            } else if let (true, Some(end)) = (opens, after.find('}')) {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Value(Reference::parse(&after[..end])?));
                rest = &after[end + 1..];
            } else {
                return Err(TemplateError::new(format!(
                    "a \"{doubled}\" has no partner; write it twice to mean it"
                )));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts })
    }

    /// Its placeholders, in order.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(reference) => Some(reference),
            Part::Text(_) => None,
        })
    }

    fn references_mut(&mut self) -> impl Iterator<Item = &mut Reference> {
        self.parts.iter_mut().filter_map(|part| match part {
            Part::Value(reference) => Some(reference),
            Part::Text(_) => None,
        })
    }

    /// Writes the text with all values in place to `out`: its own text as `own` writes it, each value
    /// as `escape` does.
    fn render(
        &self,
        source: &impl Lookup,
        own: Escape,
        escape: Escape,
        out: &mut Bounded,
    ) -> Result<(), RenderError> {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => out.push(text, own),
            Part::Value(reference) => out.push(&reference.text(source)?, escape),
        })
    }
}

/// Writes text as it must stand in its position; what it writes is no shorter.
type Escape = fn(&str, &mut String);

/// The position takes text as it is.
fn verbatim(text: &str, out: &mut String) {
    out.push_str(text);
}

/// Text that may grow up to a size.
struct Bounded {
    text: String,
    what: &'static str,
    max: usize,
}

impl Bounded {
    /// Nothing yet; `what` it is, and how many bytes it may have.
    const fn new(what: &'static str, max: usize) -> Self {
        let text = String::new();
        Self { text, what, max }
    }

    /// Adds `text` as `escape` writes it.
    fn push(&mut self, text: &str, escape: Escape) -> Result<(), RenderError> {
        if self.text.len() + text.len() <= self.max {
            escape(text, &mut self.text);
            if self.text.len() <= self.max {
                return Ok(());
            }
        }
        Err(RenderError::TooLarge {
            what: self.what,
            max: self.max,
        })
    }

    fn into_text(self) -> String {
        self.text
    }
}

impl Reference {
    /// A whole root, without a default.
    pub(crate) const fn to(root: Root) -> Self {
        Self {
            root,
            path: Vec::new(),
            default: None,
            node: None,
        }
    }

    /// Its value as text in `source`, or its default.
    fn text<'v>(&'v self, source: &'v impl Lookup) -> Result<Cow<'v, str>, RenderError> {
        let found = source.lookup(self).and_then(Found::into_text);
        found
            .or_else(|| self.default.as_deref().map(Cow::Borrowed))
            .ok_or_else(|| RenderError::Missing(self.clone()))
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        let (path, default) = match text.split_once('|') {
            Some((path, default)) => (path, Some(default.to_owned())),
            None => (text, None),
        };
        let mut steps = path.split('.').map(str::trim);
        let root = Root::parse(steps.next().unwrap_or_default());
        let path: Vec<_> = steps.map(str::to_owned).collect();
        let named = |name: &str| !name.is_empty() && !name.contains(['{', '}', '/', ' ']);
        let rooted = named(&root.to_string());
        if !rooted || !path.iter().all(|step| named(step)) {
            return Err(TemplateError::new(format!(
                "{{{text}}} is no placeholder such as {{user.id}}"
            )));
        }
        match (&root, path.len()) {
            (Root::Tier, 0)
            | (Root::Body | Root::Jwt | Root::Node(_), 1..)
            | (Root::Query | Root::Header | Root::Route, 1) => Ok(Self {
                root,
                path,
                default,
                node: None,
            }),
            (Root::Tier, _) => Err(TemplateError::new("{tier} is a word by itself")),
            (Root::Query | Root::Header | Root::Route, _) => Err(TemplateError::new(format!(
                "{{{root}.name}} takes one name"
            ))),
            _ => Err(TemplateError::new(format!(
                "{{{root}}} must say which value: {{{root}.name}}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_and_braces_are_told_apart() {
        let template = Template::parse("/a/{{x}}/{user.address.city|Rome}/{tier}").unwrap();
        let references: Vec<_> = template.references().map(ToString::to_string).collect();
        assert_eq!(references, ["user.address.city", "tier"]);
        assert_eq!(
            template.references().next().unwrap().default.as_deref(),
            Some("Rome")
        );
        assert!(template.parts[0] == Part::Text("/a/{x}/".into()));
    }

    #[test]
    fn what_is_no_placeholder_is_refused() {
        for text in [
            "{",
            "}",
            "{}",
            "{a b.c}",
            "{user}",
            "{tier.x}",
            "{query}",
            "{query.a.b}",
            "{user..id}",
            "x}y",
            "{a{b}",
        ] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
