//! Templates for whole requests.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use tower_fanout_http::forward::is_managed;

use super::{
    Bounded, Found, Lookup, Part, Reference, RenderError, Root, Template, TemplateError, body,
    lookup::{BeforeNodes, Values},
    verbatim,
};

/// Maximum length of a rendered path: 8 KiB, which is more than servers commonly accept.
/// [RFC 9112 §3](https://www.rfc-editor.org/rfc/rfc9112#section-3) recommends at least 8000 bytes.
const MAX_PATH: usize = 8 << 10;

/// Maximum length of the path and the query together, in bytes. A [`Uri`] cannot hold more.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// Maximum length of a rendered header value: 8 KiB.
const MAX_HEADER: usize = 8 << 10;

/// Maximum size of a rendered body: 1 MiB.
const MAX_BODY: usize = 1 << 20;

/// The characters that values are percent-encoded for: all except the unreserved ones
/// ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The ASCII characters that a path contains only in encoded form
/// ([RFC 3986 §3.3](https://www.rfc-editor.org/rfc/rfc3986#section-3.3)), without `%`, which begins an escape.
const NOT_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The position of a placeholder, which decides about the values that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// In a segment of the path: text, a number or a boolean. The segment must not become empty, `.` or `..`.
    Path,
    /// In a query parameter or within a string of the body: text, a number or a boolean.
    Text,
    /// In a header: text of visible ASCII characters and spaces, a number or a boolean.
    Header,
    /// In place of a whole string of the body: any JSON value.
    Json,
}

/// A template for a request.
///
/// The request has a path and a query, but no scheme and no host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTemplate {
    method: Method,
    path: Template,
    /// Number of empty segments in the path of the template.
    empty_segments: usize,
    query: Vec<(String, Template)>,
    headers: Vec<(HeaderName, Template)>,
    body: Option<Template>,
    /// The placeholders, in the order in which they were added.
    references: Vec<Reference>,
}

impl RequestTemplate {
    /// Creates a template with `method` and `path`, without a query, headers and a body.
    ///
    /// Literal text of the path is encoded as by [`encode_path`].
    ///
    /// # Errors
    /// Returns an error if `path` is not a valid template or not the path of a URI: it must begin with one
    /// slash, must not contain a query, a fragment, a `.` or `..` segment, a backslash, or a `%` without two
    /// hex digits, and its encoded text must be at most 8 KiB long. The same holds for the path with the
    /// defaults of its placeholders.
    pub fn new(method: Method, path: &str) -> Result<Self, TemplateError> {
        let mut references = Vec::new();
        let written = path;
        let mut path = Template::parse(path, &mut references)?;
        for part in &mut path.parts {
            if let Part::Text(text) = part {
                *text = encode_path(text).map_err(|error| error.got(written))?;
            }
        }
        let length = path.texts().map(str::len).sum::<usize>();
        if length > MAX_PATH {
            return Err(TemplateError::new(format!(
                "a path must be at most {MAX_PATH} bytes long, percent-encoded, got {length} bytes"
            )));
        }
        let text = path.parts.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            // Rendering rejects values that change the structure of the path, so any other will do.
            Part::Value(_) | Part::Json(_) => "v",
        });
        let sample: String = text.collect();
        if !sample.starts_with('/') {
            return Err(TemplateError::new("a path must begin with \"/\"").got(written));
        }
        if sample.starts_with("//") {
            return Err(TemplateError::new("a path must not begin with \"//\"").got(written));
        }
        if sample.split('/').any(is_dots) {
            let message = "expected segments other than \".\" and \"..\", which servers remove";
            return Err(TemplateError::new(message).got(written));
        }
        let template = Self {
            method,
            path,
            empty_segments: empty_segments(&sample),
            query: Vec::new(),
            headers: Vec::new(),
            body: None,
            references,
        };
        let target = template.target(&template.defaults());
        target.map_err(|error| {
            unusable_default(error, "would make an empty, \".\" or \"..\" segment")
        })?;
        Ok(template)
    }

    /// Returns the placeholders with their defaults. Those without a default have a value that fits everywhere.
    fn defaults(&self) -> Values<'_, OnlyDefaults> {
        Values {
            references: &self.references,
            source: &OnlyDefaults,
        }
    }

    /// Adds a query parameter. `name` and `value` are not percent-encoded; rendering encodes them.
    ///
    /// # Errors
    /// Returns an error if `value` is not a valid template.
    pub fn query(mut self, name: &str, value: &str) -> Result<Self, TemplateError> {
        let value = Template::parse(value, &mut self.references)?;
        self.query.push((name.to_owned(), value));
        Ok(self)
    }

    /// Adds a header. Several headers with the same name are all sent.
    ///
    /// # Errors
    /// Returns an error if `name` is not a valid header name, or if `value` is not a valid template or
    /// contains characters other than visible ASCII and spaces, in its text or in a default.
    ///
    /// Returns an error, too, for the headers that the client and its layers set themselves: `host`,
    /// `content-length`, `expect`, `accept-encoding`, `x-request-timeout-ms`, `x-correlation-id`, `traceparent`, `tracestate`, `baggage`, all that
    /// begin with `x-fanout-`, and the hop-by-hop headers `connection`, `keep-alive`,
    /// `proxy-connection`, `proxy-authenticate`, `proxy-authentication-info`, `proxy-authorization`,
    /// `te`, `trailer`, `transfer-encoding` and `upgrade`.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, TemplateError> {
        let header =
            HeaderName::try_from(name).map_err(|_| TemplateError::new("invalid header name"))?;
        if is_managed(&header) {
            return Err(TemplateError::new(format!(
                "the gateway sets the header \"{header}\" itself; remove it from the request"
            )));
        }
        let value = Template::parse(value, &mut self.references)?;
        if !value.texts().all(is_visible) {
            return Err(TemplateError::new(
                "a header value must contain only visible ASCII characters and spaces",
            ));
        }
        header_value(&value, &self.defaults()).map_err(|error| {
            unusable_default(
                error,
                "must contain only visible ASCII characters and spaces",
            )
        })?;
        self.headers.push((header, value));
        Ok(self)
    }

    /// Sets the body to the JSON document `document`, whose strings may have placeholders.
    ///
    /// The content type is `application/json` unless the template has a `content-type` header.
    ///
    /// # Errors
    /// Returns an error if a string is not a valid template, if a member name has a placeholder, or
    /// if the method is `GET` or `HEAD`.
    pub fn body(mut self, document: &serde_json::Value) -> Result<Self, TemplateError> {
        if matches!(self.method, Method::GET | Method::HEAD) {
            return Err(TemplateError::new(format!(
                "a {} request must not have a body; set another method, such as POST",
                self.method
            )));
        }
        self.body = Some(body::parse(document, &mut self.references)?);
        Ok(self)
    }

    /// Returns all placeholders, in the order in which they were added.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.references.iter()
    }

    /// Returns the method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.method
    }

    /// Returns each use of a placeholder with its position. A placeholder that is used several times is
    /// returned several times.
    pub fn uses(&self) -> impl Iterator<Item = (&Reference, Position)> {
        let query = self.query.iter().map(|(_, value)| value);
        let headers = self.headers.iter().map(|(_, value)| value);
        placeholders(&self.path, Position::Path)
            .chain(query.flat_map(|value| placeholders(value, Position::Text)))
            .chain(headers.flat_map(|value| placeholders(value, Position::Header)))
            .chain(
                self.body
                    .iter()
                    .flat_map(|body| placeholders(body, Position::Text)),
            )
            .map(|(index, position)| (&self.references[index], position))
    }

    /// Returns `true` if the method is safe
    /// ([RFC 9110 §9.2.1](https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1)).
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.method.is_safe()
    }

    /// Sets [`Reference::node`] of all placeholders that name a node.
    ///
    /// `index_of` returns the index of a node in its plan by name, like
    /// [`Plan::index_of`](tower_fanout::Plan::index_of). If it returns `None`, the field is `None`. An
    /// unknown name is not an error here. If the [`Lookup`] then returns no value for the placeholder,
    /// rendering uses the default or fails with [`RenderError::Missing`].
    ///
    /// Call this before rendering if the `Lookup` uses [`Reference::node`]. The
    /// [module](super#use-in-a-plan) has an example.
    pub fn resolve(&mut self, index_of: impl Fn(&str) -> Option<usize>) {
        for reference in &mut self.references {
            if let Root::Node(name) = &reference.root {
                reference.node = index_of(name);
            }
        }
    }

    /// Returns the request of a template without placeholders, which is always the same. Returns `None` if the
    /// template has placeholders.
    #[must_use]
    pub fn fixed(&self) -> Option<Request<Bytes>> {
        // The text of the template was checked, so without values it always renders.
        let request = || self.render(&OnlyDefaults).ok();
        self.references.is_empty().then(request).flatten()
    }

    /// Checks the values of `source` before any node has responded. Returns the finished request if
    /// the template reads no responses of nodes, and `None` if it does.
    ///
    /// A value from the response of a node is assumed to exist and to be usable in its position. A
    /// later call of [`render`](Self::render) can therefore still fail on such a value.
    ///
    /// # Errors
    /// Returns a [`RenderError`] if another value is missing or not allowed in its position, or if a
    /// part of the request would be too large.
    pub fn prepare(&self, source: &impl Lookup) -> Result<Option<Request<Bytes>>, RenderError> {
        let request = self.render(&BeforeNodes(source))?;
        let reads_nodes = |reference: &Reference| matches!(reference.root, Root::Node(_));
        Ok((!self.references().any(reads_nodes)).then_some(request))
    }

    /// Returns the request with the values of `source`.
    ///
    /// # Errors
    /// Returns a [`RenderError`] if a value is missing or not allowed in its position, or if a part
    /// of the request would be too large.
    pub fn render(&self, source: &impl Lookup) -> Result<Request<Bytes>, RenderError> {
        let values = &Values {
            references: &self.references,
            source,
        };
        let target = self.target(values)?;
        let mut body = Bounded::new("the body", MAX_BODY);
        if let Some(template) = &self.body {
            template.render(values, verbatim, body::escape, &mut body)?;
        }
        let mut request = Request::new(Bytes::from(body.text));
        *request.method_mut() = self.method.clone();
        // The text of the template was checked, so only a value can make the target invalid.
        *request.uri_mut() = target
            .try_into()
            .map_err(|_| RenderError::Unusable(self.references.clone()))?;
        for (name, value) in &self.headers {
            let value = header_value(value, values)?;
            request.headers_mut().append(name, value);
        }
        if self.body.is_some() && !request.headers().contains_key(CONTENT_TYPE) {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(CONTENT_TYPE, json);
        }
        Ok(request)
    }

    /// Returns the path and query.
    fn target(&self, values: &Values<'_, impl Lookup>) -> Result<String, RenderError> {
        let mut path = Bounded::new("the path", MAX_PATH);
        self.path.render(values, verbatim, encode, &mut path)?;
        // Text and values together can form a segment that neither contains, so the result is
        // checked.
        if path.text.split('/').any(is_dots) || empty_segments(&path.text) > self.empty_segments {
            return Err(RenderError::Unusable(self.unusable_in_path(values)?));
        }
        let mut target = Bounded {
            text: path.text,
            what: "the path with its query",
            max: MAX_TARGET,
        };
        for (place, (name, value)) in self.query.iter().enumerate() {
            target.push(if place == 0 { "?" } else { "&" }, verbatim)?;
            target.push(name, encode)?;
            target.push("=", verbatim)?;
            value.render(values, encode, encode, &mut target)?;
        }
        Ok(target.text)
    }

    /// Returns the placeholders in the segments of the path that are empty or dot segments because of
    /// their values.
    fn unusable_in_path(
        &self,
        values: &Values<'_, impl Lookup>,
    ) -> Result<Vec<Reference>, RenderError> {
        let (mut unusable, mut segment, mut inside) = (Vec::new(), String::new(), Vec::new());
        let mut end = |segment: &mut String, inside: &mut Vec<usize>| {
            if segment.is_empty() || is_dots(segment) {
                unusable.extend(inside.drain(..).map(|index| self.references[index].clone()));
            }
            segment.clear();
            inside.clear();
        };
        for part in &self.path.parts {
            match part {
                Part::Text(text) => {
                    for (place, text) in text.split('/').enumerate() {
                        if place > 0 {
                            end(&mut segment, &mut inside);
                        }
                        segment.push_str(text);
                    }
                }
                Part::Value(index) | Part::Json(index) => {
                    // A slash in a value is encoded, so a value is within one segment.
                    encode(&values.text(*index)?, &mut segment);
                    inside.push(*index);
                }
            }
        }
        end(&mut segment, &mut inside);
        Ok(unusable)
    }
}

/// A source without values, of which only the defaults of placeholders are used.
struct OnlyDefaults;

impl Lookup for OnlyDefaults {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        reference.default.is_none().then(|| Found::Text("v".into()))
    }
}

/// Returns the error for a placeholder whose default cannot be sent, because it breaks `rule`.
fn unusable_default(error: RenderError, rule: &str) -> TemplateError {
    match error {
        RenderError::Unusable(references) => {
            let named = references
                .iter()
                .map(|reference| format!("{{{reference}}}"));
            let named = named.collect::<Vec<_>>().join(" and ");
            TemplateError::new(format!("the default of {named} {rule}"))
        }
        error => TemplateError::new(error.to_string()),
    }
}

/// Percent-encodes the characters of `text` that a path contains only in encoded form
/// ([RFC 3986 §3.3](https://www.rfc-editor.org/rfc/rfc3986#section-3.3)). Escapes such as `%20` stay.
///
/// ```
/// use tower_fanout_json::template::encode_path;
///
/// assert_eq!(encode_path("/café/a b%20c")?, "/caf%C3%A9/a%20b%20c");
/// assert!(encode_path("/100%").is_err());
/// # Ok::<(), tower_fanout_json::template::TemplateError>(())
/// ```
///
/// # Errors
/// Returns an error for text with more than one meaning: `?` or `#`, which end a path, a backslash, which many
/// servers take for a slash, or a `%` without two hex digits.
pub fn encode_path(text: &str) -> Result<String, TemplateError> {
    if text.contains(['?', '#']) {
        return Err(TemplateError::new(
            "a path must have no query and no fragment; set parameters with \"query\"",
        ));
    }
    if text.contains('\\') {
        return Err(TemplateError::new(
            "a path must have no \"\\\", which servers may take for \"/\"; write \"%5C\" for a backslash",
        ));
    }
    // Two hex digits follow each percent sign, so that no value can complete an escape.
    if !is_percent_encoded(text) {
        return Err(TemplateError::new(
            "expected two hex digits after \"%\" in a path; write \"%25\" for a percent sign",
        ));
    }
    Ok(utf8_percent_encode(text, NOT_IN_PATHS).to_string())
}

/// Returns the placeholders of `template`, whose values are inserted as text at `position` or as JSON.
fn placeholders(
    template: &Template,
    position: Position,
) -> impl Iterator<Item = (usize, Position)> {
    template.parts.iter().filter_map(move |part| match part {
        Part::Text(_) => None,
        Part::Value(index) => Some((*index, position)),
        Part::Json(index) => Some((*index, Position::Json)),
    })
}

fn header_value(
    template: &Template,
    values: &Values<'_, impl Lookup>,
) -> Result<HeaderValue, RenderError> {
    let mut value = Bounded::new("a header", MAX_HEADER);
    template.render(values, verbatim, verbatim, &mut value)?;
    let unusable = || {
        let unusable = template.values().filter(|&index| {
            let value = values.text(index);
            value.is_ok_and(|value| !is_visible(&value))
        });
        let unusable = unusable.map(|index| values.references[index].clone());
        RenderError::Unusable(unusable.collect())
    };
    if !is_visible(&value.text) {
        return Err(unusable());
    }
    HeaderValue::try_from(value.text).map_err(|_| unusable())
}

/// Returns `true` if `text` has only visible ASCII characters and spaces, and so cannot end a
/// header.
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Appends `value` percent-encoded, as an [`Escape`](super::Escape).
fn encode(value: &str, out: &mut String) {
    out.extend(utf8_percent_encode(value, RESERVED));
}

/// Returns `true` for a `.` or `..` segment, also for servers that decode percent-encoded dots
/// first ([URL §4.4](https://url.spec.whatwg.org/#single-dot-path-segment)).
fn is_dots(segment: &str) -> bool {
    let rest = after_dot(segment);
    rest == Some("") || rest.and_then(after_dot) == Some("")
}

/// Returns the text after a leading dot, which may be percent-encoded.
fn after_dot(text: &str) -> Option<&str> {
    let mut dots = [".", "%2e", "%2E"].into_iter();
    dots.find_map(|dot| text.strip_prefix(dot))
}

/// Returns the number of empty segments. With one more than in the template, a server
/// could take the path for a shorter one.
fn empty_segments(path: &str) -> usize {
    path.split('/').filter(|segment| segment.is_empty()).count()
}

/// Returns `true` if two hex digits follow each `%` of `text`.
fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let digits = after.bytes().take(2);
        digits.filter(u8::is_ascii_hexdigit).count() == 2
    })
}

#[cfg(test)]
mod tests {
    use super::{super::Found, *};

    /// A source that returns the same text for every placeholder.
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
    fn fault_i1_rejects_a_value_that_is_a_dot_segment() {
        for dots in [".", ".."] {
            let error = template().render(&Same(Some(dots))).unwrap_err();
            let RenderError::Unusable(values) = error else {
                panic!("{error}");
            };
            let values: Vec<_> = values.iter().map(Reference::to_string).collect();
            assert_eq!(values, ["route.id"]);
        }
    }

    #[test]
    fn a_template_without_placeholders_is_always_the_same_request() {
        assert!(template().fixed().is_none());
        let fixed = RequestTemplate::new(Method::POST, "/a b")
            .and_then(|template| template.query("q", "x y"))
            .and_then(|template| template.header("x-a", "1"))
            .and_then(|template| template.body(&serde_json::json!({ "a": "{{1}}" })))
            .unwrap();
        let request = fixed.fixed().unwrap();
        assert_eq!(request.uri(), "/a%20b?q=x%20y");
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(request.body(), "{\"a\":\"{1}\"}");
    }

    #[test]
    fn fault_i4_names_a_missing_value_and_uses_a_default() {
        let error = template().render(&Same(None)).unwrap_err();
        assert_eq!(error.to_string(), "missing value for {route.id}");
        let template = RequestTemplate::new(Method::GET, "/p/{query.page|1}").unwrap();
        assert_eq!(template.render(&Same(None)).unwrap().uri(), "/p/1");
    }

    #[test]
    fn fault_i4_a_value_that_is_no_text_is_not_missing() {
        struct NoText;
        impl Lookup for NoText {
            fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
                Some(Found::Unusable)
            }
        }
        let template = |path| RequestTemplate::new(Method::POST, path).unwrap();
        for template in [
            template("/{header.x}"),
            template("/{header.x|none}"),
            template("/").query("q", "{header.x}").unwrap(),
            template("/").header("x-a", "{header.x|none}").unwrap(),
            template("/").body(&"{header.x|1}".into()).unwrap(),
        ] {
            let error = template.render(&NoText).unwrap_err();
            let RenderError::Unusable(values) = error else {
                panic!("{error}");
            };
            assert_eq!(values.len(), 1);
        }
    }

    #[test]
    fn rejects_header_values_beyond_visible_ascii() {
        let template = RequestTemplate::new(Method::GET, "/")
            .unwrap()
            .header("x-name", "{jwt.name}")
            .unwrap();
        for value in ["a\r\nb: c", "\0", "é", "a\tb"] {
            let error = template.render(&Same(Some(value))).unwrap_err();
            let RenderError::Unusable(values) = error else {
                panic!("{error}");
            };
            assert_eq!(values[0].to_string(), "jwt.name");
        }
        assert!(template.render(&Same(Some("Ada L."))).is_ok());
        assert!(template.header("x-text", "é{jwt.name}").is_err());
    }

    #[test]
    fn fault_j29_encodes_literal_text_of_paths_once() {
        let uri = |path: &str| {
            let template = RequestTemplate::new(Method::GET, path)?;
            let request = template.render(&Same(Some("é/%41")));
            Ok::<_, TemplateError>(request.unwrap().uri().to_string())
        };
        for (path, expected) in [
            ("/café/日本", "/caf%C3%A9/%E6%97%A5%E6%9C%AC"),
            ("/a b\t\u{7f}c", "/a%20b%09%7Fc"),
            ("/\"<>[]^`|", "/%22%3C%3E%5B%5D%5E%60%7C"),
            ("/{{a}}", "/%7Ba%7D"),
            ("/%20%c3%A9%2F%25", "/%20%c3%A9%2F%25"),
            ("/-._~!$&'()*+,;=:@", "/-._~!$&'()*+,;=:@"),
            ("/ü{route.id} x", "/%C3%BC%C3%A9%2F%2541%20x"),
            (
                &"é".repeat(1365).replacen('é', "/", 1),
                &format!("/{}", "%C3%A9".repeat(1364)),
            ),
        ] {
            assert_eq!(uri(path).as_deref(), Ok(expected), "{path}");
        }
        for path in [
            "/a\\b",
            "/100%",
            "/%4",
            "/%zz",
            "/%é",
            "/a?b",
            "/a#b",
            "/%2{route.id}",
            "/.%2e/é",
        ] {
            assert!(uri(path).is_err(), "{path}");
        }
        let long = uri(&format!("/{}", "é".repeat(1366))).unwrap_err();
        assert!(long.to_string().contains("at most 8192 bytes"), "{long}");
    }

    #[test]
    fn fault_i5_i10_i11_a_template_cannot_name_a_host_or_a_managed_header() {
        for path in [
            "users",
            "http://{query.host}/",
            "//{query.host}/x",
            "/a?x={query.x}",
            "/../x",
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
