use std::borrow::Cow;

use http::Method;
use tower_fanout_json::template::{Found, Lookup, Reference, RequestTemplate};

/// A lookup that finds the same value for every placeholder.
struct Everywhere<'v>(&'v str);

impl Lookup for Everywhere<'_> {
    fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
        Some(Found::Text(Cow::Borrowed(self.0)))
    }
}

/// A value cannot change the number of path segments or query pairs of a rendered request, nor add a
/// host, a header or a dot segment.
///
/// The input is a path template, a line break and the value of all placeholders.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, value) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(template) = RequestTemplate::new(Method::GET, path) else {
        return;
    };
    let Ok(template) = template.query("q", "{query.q}") else {
        panic!("the query template must be valid");
    };
    let Ok(request) = template.render(&Everywhere(value)) else {
        return;
    };
    let reference = template
        .render(&Everywhere("x"))
        .expect("a single letter must be allowed in every placeholder");
    let segments = |uri: &http::Uri| uri.path().split('/').count();
    let pairs = |uri: &http::Uri| uri.query().map_or(0, |query| query.split('&').count());
    assert_eq!(segments(request.uri()), segments(reference.uri()));
    assert_eq!(pairs(request.uri()), pairs(reference.uri()));
    assert!(request.uri().host().is_none() && request.headers().is_empty());
    let dots = |uri: &http::Uri| uri.path().split('/').filter(|part| is_dots(part)).count();
    assert_eq!(
        dots(request.uri()),
        dots(reference.uri()),
        "the value added a dot segment"
    );
}

fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}
