use std::borrow::Cow;

use http::Method;
use tower_fanout_json::template::{Found, Lookup, Reference, RequestTemplate};

/// Every placeholder has the same value.
struct Everywhere<'v>(&'v str);

impl Lookup for Everywhere<'_> {
    fn lookup(&self, _: &Reference) -> Option<Found<'_>> {
        Some(Found::Text(Cow::Borrowed(self.0)))
    }
}

/// Whatever a value is, the request has the segments and the pairs of its template.
///
/// The input is a path, a line break, and the value of every placeholder.
pub fn template(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, value) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(template) = RequestTemplate::new(Method::GET, path) else {
        return;
    };
    let Ok(template) = template.query("q", "{query.q}") else {
        panic!("a query of our own");
    };
    let Ok(request) = template.render(&Everywhere(value)) else {
        return;
    };
    let same = template
        .render(&Everywhere("x"))
        .expect("a letter can stand anywhere");
    let segments = |uri: &http::Uri| uri.path().split('/').count();
    let pairs = |uri: &http::Uri| uri.query().map_or(0, |query| query.split('&').count());
    assert_eq!(segments(request.uri()), segments(same.uri()));
    assert_eq!(pairs(request.uri()), pairs(same.uri()));
    assert!(request.uri().host().is_none() && request.headers().is_empty());
    let dots = |uri: &http::Uri| uri.path().split('/').filter(|part| is_dots(part)).count();
    assert_eq!(dots(request.uri()), dots(same.uri()), "a way up");
}

fn is_dots(segment: &str) -> bool {
    let plain = segment.to_ascii_lowercase().replace("%2e", ".");
    plain == "." || plain == ".."
}
