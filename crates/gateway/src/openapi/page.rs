//! The Swagger UI, with its assets in the binary: it works offline.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use utoipa_swagger_ui::Config;

static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json")));

/// The page's own scripts and styles, and data URIs for its icons; nothing from elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                                       frame-ancestors 'none'; base-uri 'none'";

/// The file at `path` below the page; none if there is no such file.
#[must_use]
pub fn page(path: &str) -> Option<Response<Full<Bytes>>> {
    let file = utoipa_swagger_ui::serve(path, Arc::clone(&CONFIG)).ok()??;
    let response = Response::builder()
        .status(StatusCode::OK)
        .header(header::CONTENT_TYPE, file.content_type)
        .header(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .body(Full::new(Bytes::from(file.bytes.into_owned())));
    response.ok()
}
