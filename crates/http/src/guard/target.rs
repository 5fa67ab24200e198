//! Checks of the form and the length of a request target
//! ([RFC 9112 §3.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2)).

use http::{Method, Request, Uri};

use super::HeadError;

/// Checks that the target is a path, an absolute `http` or `https` URI, or `*` for `OPTIONS`, and
/// at most `max` bytes long.
pub(super) fn check<B>(request: &Request<B>, max: usize) -> Result<(), HeadError> {
    let uri = request.uri();
    if length(uri) > max {
        return Err(HeadError::UriTooLong);
    }
    let origin_or_absolute = match (uri.scheme_str(), uri.authority()) {
        (None, None) | (Some("http" | "https"), Some(_)) => true,
        // Only `CONNECT` has an authority without a scheme, and only proxies serve other schemes.
        _ => false,
    };
    let asterisk = is_asterisk(uri) && request.method() == Method::OPTIONS;
    // Some servers treat a backslash like a slash. A URI has only ASCII characters.
    let plain = |byte: u8| byte != b'\\' && byte.is_ascii();
    let path = uri.path().starts_with('/') && uri.path().bytes().all(plain);
    if origin_or_absolute && (asterisk || path) {
        Ok(())
    } else {
        Err(HeadError::TargetForm)
    }
}

pub(super) fn is_asterisk(uri: &Uri) -> bool {
    uri.path_and_query()
        .is_some_and(|path| path.as_str() == "*")
}

/// Returns the length of the target in bytes.
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
