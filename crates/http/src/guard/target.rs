//! What a request is about: the form and the length of its target
//! ([RFC 9112 §3.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2)).

use http::{Method, Request, Uri};

use super::Refused;

/// A path, or a whole `http` or `https` URI, as for a proxy; `*` for `OPTIONS` alone.
pub(super) fn check<B>(request: &Request<B>, max: usize) -> Result<(), Refused> {
    let uri = request.uri();
    if length(uri) > max {
        return Err(Refused::UriTooLong);
    }
    let whole = match (uri.scheme_str(), uri.authority()) {
        (None, None) | (Some("http" | "https"), Some(_)) => true,
        // An authority by itself is for `CONNECT`, and other schemes are for proxies.
        _ => false,
    };
    let asterisk = is_asterisk(uri) && request.method() == Method::OPTIONS;
    // Some servers take a backslash for a slash, and no URI has other characters than ASCII's.
    let plain = |byte: u8| byte != b'\\' && byte.is_ascii();
    let path = uri.path().starts_with('/') && uri.path().bytes().all(plain);
    if whole && (asterisk || path) {
        Ok(())
    } else {
        Err(Refused::TargetForm)
    }
}

pub(super) fn is_asterisk(uri: &Uri) -> bool {
    uri.path_and_query()
        .is_some_and(|path| path.as_str() == "*")
}

/// How many bytes the target has.
fn length(uri: &Uri) -> usize {
    let scheme = uri
        .scheme_str()
        .map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri
        .authority()
        .map_or(0, |authority| authority.as_str().len());
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    scheme + authority + path
}
