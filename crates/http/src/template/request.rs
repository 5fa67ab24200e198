//! A whole request as a template.

use std::{error::Error, fmt};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower_fanout::BranchError;

use super::{Lookup, Part, Reference, Template, TemplateError};

/// All but the unreserved characters ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Headers that belong to the connection or to the message's framing
/// ([RFC 9110 §7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)), and those that are ours.
const MANAGED: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-correlation-id",
];

/// A request that is made from values. It has a path and a query; where it goes is none of its
/// business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTemplate {
    method: Method,
    path: Template,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
}

/// Why a request cannot be made from these values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RenderError {
    /// There is no such value, and no default.
    Missing(Reference),
    /// A value would change the path, or cannot stand in a header.
    Unusable,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(reference) => write!(f, "there is no value for {{{reference}}}"),
            Self::Unusable => f.write_str("a value cannot stand where it would be sent"),
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
        Ok(Self {
            method,
            path,
            query: Vec::new(),
            headers: Vec::new(),
        })
    }

    /// Adds a pair to the query.
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
        if MANAGED.contains(&header.as_str()) || header.as_str().starts_with("x-fanout-") {
            return Err(TemplateError::new(format!(
                "the header {header} is set by the gateway itself"
            )));
        }
        self.headers.push((header, Template::parse(value)?));
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
    }

    /// Whether its method changes nothing ([RFC 9110 §9.2.1](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1)).
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// The request with the values of `source` in place.
    ///
    /// # Errors
    /// A value is missing, or cannot stand where it would be.
    pub fn render(&self, source: &impl Lookup) -> Result<Request<Bytes>, RenderError> {
        let mut target = self.path.render(source, encode)?;
        if target.split('/').any(is_dots) {
            return Err(RenderError::Unusable);
        }
        for (place, (name, value)) in self.query.iter().enumerate() {
            target.push(if place == 0 { '?' } else { '&' });
            encode(name, &mut target);
            target.push('=');
            target.push_str(&value.render(source, encode)?);
        }
        let uri: Uri = target.parse().map_err(|_| RenderError::Unusable)?;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        for (name, value) in &self.headers {
            let value = value.render(source, |value, out| out.push_str(value))?;
            let visible = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
            let value = HeaderValue::from_str(&value).ok().filter(|_| visible);
            request
                .headers_mut()
                .append(name, value.ok_or(RenderError::Unusable)?);
        }
        Ok(request)
    }
}

fn encode(value: &str, out: &mut String) {
    out.extend(utf8_percent_encode(value, RESERVED));
}

/// A segment that means this or the parent folder.
fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;

    /// Every placeholder has the same value.
    struct Same<'v>(Option<&'v str>);

    impl Lookup for Same<'_> {
        fn lookup(&self, _: &Reference) -> Option<Cow<'_, str>> {
            self.0.map(Cow::Borrowed)
        }
    }

    fn template() -> RequestTemplate {
        RequestTemplate::new(Method::GET, "/users/{route.id}/orders")
            .and_then(|template| template.query("since", "{query.since}"))
            .and_then(|template| template.query("page", "{query.page|1}"))
            .and_then(|template| template.header("x-subject", "{jwt.sub}"))
            .unwrap()
    }

    fn assert_shape(value: &str) {
        let Ok(request) = template().render(&Same(Some(value))) else {
            return;
        };
        let segments: Vec<_> = request.uri().path().split('/').collect();
        assert_eq!(
            (segments.len(), segments[1], segments[3]),
            (4, "users", "orders"),
            "{value:?}"
        );
        let decoded = percent_encoding::percent_decode_str(segments[2])
            .decode_utf8()
            .unwrap();
        assert_eq!(decoded, value, "it is encoded once");
        let keys: Vec<_> = request
            .uri()
            .query()
            .unwrap()
            .split('&')
            .map(|pair| pair.split('=').next().unwrap())
            .collect();
        assert_eq!(keys, ["since", "page"], "{value:?}");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.uri().authority(), None);
    }

    #[test]
    fn fault_i1_i2_i3_i14_values_cannot_leave_their_place() {
        let values = [
            "../",
            "..%2f",
            "%2e%2e",
            "..\\",
            ";/..",
            "%00",
            "\0",
            "a/../../admin?x=1",
            "//evil",
            "http://evil/",
            "@evil",
            "a b",
            "#",
            "?x=1",
            "&y=2",
            "{route.id}",
            "{{.x}}",
            "\"",
            "'",
            "é",
            "a\nb",
            "a\r\nX: y",
            "%",
            "+",
            "",
        ];
        values.into_iter().for_each(assert_shape);
        assert_shape(&"x".repeat(10_000));
    }

    proptest! {
        #[test]
        fn fault_i1_no_value_changes_the_shape(value in "(?s).{0,40}") {
            assert_shape(&value);
        }
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
            "x-correlation-id",
            "a b",
        ] {
            assert!(template.clone().header(header, "x").is_err(), "{header}");
        }
    }
}
