//! Removal of headers.

use http::{HeaderMap, HeaderName};

/// Removes the headers `names`, of which most messages have none.
///
/// To compare the few headers of a message with `names` takes less time than to look up each name.
pub(crate) fn remove_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    if headers.keys().any(|name| names.contains(name)) {
        for name in names {
            headers.remove(name);
        }
    }
}
