//! The Swagger UI, with its assets in the binary: it works offline.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderName, Response, header};
use http_body_util::Full;
use utoipa_swagger_ui::Config;

static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// What a browser is told of the page. Its own scripts and styles run, with styles in line and data
/// URIs for its icons; nothing is loaded from elsewhere or told to others, and nobody frames it.
const SECURITY: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // It is made anew with the configuration.
    (header::CACHE_CONTROL, "no-store"),
];

/// The file at `path` below the page; none if there is no such file.
#[must_use]
pub(crate) fn page(path: &str) -> Option<Response<Full<Bytes>>> {
    let file = utoipa_swagger_ui::serve(path, Arc::clone(&CONFIG)).ok()??;
    let mut response = Response::builder().header(header::CONTENT_TYPE, file.content_type);
    for (name, value) in SECURITY {
        response = response.header(name, value);
    }
    let bytes = Bytes::from(file.bytes.into_owned());
    response.body(Full::new(bytes)).ok()
}
