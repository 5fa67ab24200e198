//! The Swagger UI. Its assets are embedded in the binary, so it works offline.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderName, Response, header};
use http_body_util::Full;
use utoipa_swagger_ui::Config;

static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// Security headers of the page. They allow its own scripts and styles, inline styles, and data URIs for
/// its icons. They forbid other sources, the referrer, and framing.
const SECURITY: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // The page depends on the configuration, which may change with a restart.
    (header::CACHE_CONTROL, "no-store"),
];

/// Returns the file at `path` below the page, or `None` if it does not exist.
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
