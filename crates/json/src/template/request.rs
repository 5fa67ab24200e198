//! A whole request as a template.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower_fanout::BranchError;
use tower_fanout_http::forward::is_managed;

use super::{
    Bounded, Lookup, Part, Reference, Root, Template, TemplateError, body::BodyTemplate,
    lookup::BeforeNodes, verbatim,
};

/// The longest path, in bytes: 8 KiB, more than servers commonly take
/// ([RFC 9112 §3](https://www.rfc-editor.org/rfc/rfc9112#section-3) asks for 8000 at least).
const MAX_PATH: usize = 8 << 10;

/// The longest path and query together, in bytes: what a [`Uri`] can hold.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// The longest value of a header, in bytes: 8 KiB.
const MAX_HEADER: usize = 8 << 10;

/// All but the unreserved characters ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request that is made from values. It has a path and a query; where it goes is none of its
/// business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTemplate {
    method: Method,
    path: Template,
    /// How many segments of the path are empty as it is written.
    empty_segments: usize,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    body: Option<BodyTemplate>,
}

/// Why a request cannot be made from these values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenderError {
    /// There is no such value, and no default.
    Missing(Reference),
    /// A value would change the path, or cannot stand in a header.
    Unusable,
    /// The request would be too large.
    TooLarge {
        /// What of it.
        what: &'static str,
        /// The most that it may have, in bytes.
        max: usize,
    },
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reference) => write!(f, "there is no value for {{{reference}}}"),
            Self::Unusable => f.write_str("a value cannot stand where it would be sent"),
            Self::TooLarge { what, max } => {
                write!(f, "{what} would be larger than {max} bytes")
            }
        }
    }
}

impl Error for RenderError {}

impl From<RenderError> for BranchError {
    fn from(error: RenderError) -> Self {
        Self::template(error.to_string())
    }
}

impl RequestTemplate {
    /// A request with `path`, which begins with a slash.
    ///
    /// # Errors
    /// The path is none, or is not a template.
    pub fn new(method: Method, path: &str) -> Result<Self, TemplateError> {
        let path = Template::parse(path)?;
        let text = path.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Value(_) => "v",
        });
        let sample: String = text.collect();
        if !sample.starts_with('/') || sample.contains(['?', '#']) || sample.parse::<Uri>().is_err()
        {
            return Err(TemplateError::new(
                "a path begins with \"/\" and has no query: that is given apart",
            ));
        }
        if sample.starts_with("//") || sample.split('/').any(is_dots) {
            return Err(TemplateError::new(
                "a path has no empty host and no \".\" or \"..\" segments",
            ));
        }
        if !is_percent_encoded(&path) {
            return Err(TemplateError::new(
                "a \"%\" in a path begins two hex digits; write %25 to mean it",
            ));
        }
        Ok(Self {
            method,
            path,
            empty_segments: empty_segments(&sample),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
        })
    }

    /// Adds a pair to the query. Both are given as they are meant, not encoded.
    ///
    /// # Errors
    /// The value is not a template.
    pub fn query(mut self, name: &str, value: &str) -> Result<Self, TemplateError> {
        self.query.push((name.to_owned(), Template::parse(value)?));
        Ok(self)
    }

    /// Adds a header.
    ///
    /// # Errors
    /// The value is not a template, or the header is not one that can be chosen.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, TemplateError> {
        let header = HeaderName::try_from(name)
            .map_err(|_| TemplateError::new("this is no name of a header"))?;
        if is_managed(&header) {
            return Err(TemplateError::new(format!(
                "the header {header} is set by the gateway itself"
            )));
        }
        let value = Template::parse(value)?;
        if !value.parts.iter().all(|part| match part {
            Part::Text(text) => is_visible(text),
            Part::Value(_) => true,
        }) {
            return Err(TemplateError::new(
                "a header has visible ASCII and spaces only",
            ));
        }
        self.headers.push((header, value));
        Ok(self)
    }

    /// Sends `document` as JSON, with values in place of its placeholders. Its content type is
    /// `application/json`, unless a header says otherwise.
    ///
    /// # Errors
    /// A string in it is not a template, the name of a member has a placeholder, or the method is one
    /// that has no body.
    pub fn body(mut self, document: &serde_json::Value) -> Result<Self, TemplateError> {
        if matches!(self.method, Method::GET | Method::HEAD) {
            return Err(TemplateError::new(format!(
                "a {} has no body: say which method is meant",
                self.method
            )));
        }
        self.body = Some(BodyTemplate::new(document)?);
        Ok(self)
    }

    /// All its placeholders.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        let query = self.query.iter().map(|(_, template)| template);
        let headers = self.headers.iter().map(|(_, template)| template);
        std::iter::once(&self.path)
            .chain(query)
            .chain(headers)
            .flat_map(Template::references)
            .chain(self.body.iter().flat_map(BodyTemplate::references))
    }

    /// Whether its method changes nothing ([RFC 9110 §9.2.1](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1)).
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// Resolves the names of nodes in placeholders: `index_of` returns the index of a node in its plan.
    pub fn resolve(&mut self, index_of: impl Fn(&str) -> Option<usize>) {
        let query = self.query.iter_mut().map(|(_, template)| template);
        let headers = self.headers.iter_mut().map(|(_, template)| template);
        let references = std::iter::once(&mut self.path)
            .chain(query)
            .chain(headers)
            .flat_map(Template::references_mut)
            .chain(self.body.iter_mut().flat_map(BodyTemplate::references_mut));
        for reference in references {
            if let Root::Node(name) = &reference.root {
                reference.node = index_of(name);
            }
        }
    }

    /// Checks what the caller has to provide, before any node has answered. Returns the request if it
    /// reads no answers of nodes. Returns `None` if it does: they are assumed to be present and usable.
    ///
    /// # Errors
    /// As of [`render`](Self::render).
    pub fn prepare(&self, source: &impl Lookup) -> Result<Option<Request<Bytes>>, RenderError> {
        let request = self.render(&BeforeNodes(source))?;
        let reads_nodes = |reference: &Reference| matches!(reference.root, Root::Node(_));
        Ok((!self.references().any(reads_nodes)).then_some(request))
    }

    /// The request with the values of `source` in place.
    ///
    /// # Errors
    /// A value is missing, cannot stand where it would be, or is too large.
    pub fn render(&self, source: &impl Lookup) -> Result<Request<Bytes>, RenderError> {
        let target = self.target(source)?;
        let body = self.body.as_ref().map(|body| body.render(source));
        let mut request = Request::new(Bytes::from(body.transpose()?.unwrap_or_default()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target.try_into().map_err(|_| RenderError::Unusable)?;
        for (name, value) in &self.headers {
            let value = header_value(value, source)?;
            request.headers_mut().append(name, value);
        }
        if self.body.is_some() && !request.headers().contains_key(CONTENT_TYPE) {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        Ok(request)
    }

    /// The path, and the query if there is one.
    fn target(&self, source: &impl Lookup) -> Result<String, RenderError> {
        let mut path = Bounded::new("the path", MAX_PATH);
        self.path.render(source, verbatim, encode, &mut path)?;
        if path.text.split('/').any(is_dots) || empty_segments(&path.text) > self.empty_segments {
            return Err(RenderError::Unusable);
        }
        let mut target = Bounded {
            text: path.into_text(),
            what: "the path with its query",
            max: MAX_TARGET,
        };
        for (place, (name, value)) in self.query.iter().enumerate() {
            target.push(if place == 0 { "?" } else { "&" }, verbatim)?;
            target.push(name, encode)?;
            target.push("=", verbatim)?;
            value.render(source, encode, encode, &mut target)?;
        }
        Ok(target.into_text())
    }
}

fn header_value(template: &Template, source: &impl Lookup) -> Result<HeaderValue, RenderError> {
    let mut value = Bounded::new("a header", MAX_HEADER);
    template.render(source, verbatim, verbatim, &mut value)?;
    if !is_visible(&value.text) {
        return Err(RenderError::Unusable);
    }
    HeaderValue::try_from(value.into_text()).map_err(|_| RenderError::Unusable)
}

/// Visible ASCII and spaces only, so no header can end in it.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn encode(value: &str, out: &mut String) {
    out.extend(utf8_percent_encode(value, RESERVED));
}

/// A segment that means this or the parent folder, to servers that decode it first too
/// ([URL §4.4](https://url.spec.whatwg.org/#single-dot-path-segment)).
fn is_dots(segment: &str) -> bool {
    let rest = after_dot(segment);
    rest == Some("") || rest.and_then(after_dot) == Some("")
}

/// What comes after a dot, encoded or not.
fn after_dot(text: &str) -> Option<&str> {
    let mut dots = [".", "%2e", "%2E"].into_iter();
    dots.find_map(|dot| text.strip_prefix(dot))
}

/// How many segments are empty. A value that makes one more would let a server take the path for a
/// shorter one.
fn empty_segments(path: &str) -> usize {
    path.split('/').filter(|segment| segment.is_empty()).count()
}

/// Whether each `%` of the text begins two hex digits, so that no value can complete it.
fn is_percent_encoded(path: &Template) -> bool {
    path.parts.iter().all(|part| match part {
        Part::Text(text) => text.split('%').skip(1).all(|after| {
            let digits = after.bytes().take(2);
            digits.filter(u8::is_ascii_hexdigit).count() == 2
        }),
        Part::Value(_) => true,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Found, *};

    /// Every placeholder has the same value.
    struct Same<'v>(Option<&'v str>);

    impl Lookup for Same<'_> {
        fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
            self.0.map(|value| Found::Text(value.into()))
        }
    }

    fn template() -> RequestTemplate {
        RequestTemplate::new(Method::GET, "/users/{route.id}/orders")
            .and_then(|template| template.query("since", "{query.since}"))
            .and_then(|template| template.query("page", "{query.page|1}"))
            .and_then(|template| template.header("x-subject", "{jwt.sub}"))
            .unwrap()
    }

    #[test]
    fn fault_i1_a_value_that_is_a_dot_segment_is_refused() {
        for dots in [".", ".."] {
            assert_eq!(
                template().render(&Same(Some(dots))).unwrap_err(),
                RenderError::Unusable
            );
        }
    }

    #[test]
    fn fault_i4_a_missing_value_is_named_and_a_default_stands_in() {
        let error = template().render(&Same(None)).unwrap_err();
        assert_eq!(error.to_string(), "there is no value for {route.id}");
        let template = RequestTemplate::new(Method::GET, "/p/{query.page|1}").unwrap();
        assert_eq!(template.render(&Same(None)).unwrap().uri(), "/p/1");
    }

    #[test]
    fn a_header_value_of_more_than_visible_ascii_is_refused() {
        let template = RequestTemplate::new(Method::GET, "/")
            .unwrap()
            .header("x-name", "{jwt.name}")
            .unwrap();
        for value in ["a\r\nb: c", "\0", "é", "a\tb"] {
            assert_eq!(
                template.render(&Same(Some(value))).unwrap_err(),
                RenderError::Unusable
            );
        }
        assert!(template.render(&Same(Some("Ada L."))).is_ok());
        assert!(template.header("x-text", "é{jwt.name}").is_err());
    }

    #[test]
    fn fault_i5_i10_i11_a_template_cannot_name_a_host_or_a_managed_header() {
        for path in [
            "users",
            "http://{query.host}/",
            "//{query.host}/x",
            "/a?x={query.x}",
            "/../x",
            "/a b",
            "",
        ] {
            assert!(RequestTemplate::new(Method::GET, path).is_err(), "{path}");
        }
        let template = RequestTemplate::new(Method::GET, "/").unwrap();
        for header in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "x-fanout-depth",
            "traceparent",
            "baggage",
            "x-correlation-id",
            "a b",
        ] {
            assert!(template.clone().header(header, "x").is_err(), "{header}");
        }
    }
}
