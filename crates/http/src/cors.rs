//! Cross-origin resource sharing
//! ([the CORS protocol of the Fetch standard](https://fetch.spec.whatwg.org/#http-cors-protocol); feature `cors`).
//!
//! [`CorsLayer`] wraps tower-http's layer. Its config rejects combinations that would allow more
//! than intended. `Access-Control-Allow-Origin` is `*` or one of the listed origins. The response to any
//! other origin does not have this header.
//!
//! ```
//! use tower_fanout_http::cors::{CorsConfig, CorsLayer};
//!
//! let shop = CorsConfig::default().origins(["https://shop.example".to_owned()]);
//! let layer = CorsLayer::new(shop).unwrap();
//! # drop(layer);
//! let hole = CorsConfig::default().origins(["*".to_owned()]).credentials(true);
//! assert!(CorsLayer::new(hole).is_err());
//! ```

use std::time::Duration;

use http::{
    HeaderName, HeaderValue, Method, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tower::Layer;
use tower_fanout_layers::{
    config,
    config::{ConfigError, Validate},
};
use tower_http::cors::{self, AllowOrigin};

use crate::correlation::CORRELATION_ID;

/// The wildcard origin, which allows every origin.
const ANY: &str = "*";

config! {
    /// Requests that pages of other origins may send, and response headers that they may read.
    ///
    /// `*` in `methods`, `headers` or `expose` is sent to the browser, which treats it as a wildcard. In
    /// `headers` the wildcard does not include `authorization` (Fetch standard).
    #[derive(Clone, Debug, PartialEq)]
    pub struct CorsConfig {
        /// Allowed origins, such as `https://shop.example` or `http://localhost:3000`, or only `*` for
        /// every origin. Empty by default.
        ///
        /// `null` is rejected, because every sandboxed page has that origin.
        pub origins: Vec<String> = Vec::new(),
        /// Allowed methods. Defaults to `GET` and `POST`.
        pub methods: Vec<Method> = vec![Method::GET, Method::POST],
        /// Allowed request headers. Defaults to `authorization`, `content-type` and `x-correlation-id`.
        pub headers: Vec<HeaderName> = vec![AUTHORIZATION, CONTENT_TYPE, CORRELATION_ID],
        /// Response headers that pages may read. Defaults to `x-correlation-id`.
        pub expose: Vec<HeaderName> = vec![CORRELATION_ID],
        /// Allows browsers to send cookies and client certificates. Defaults to `false`.
        ///
        /// Cannot be combined with `*` in any list. Bearer tokens do not need this setting.
        pub credentials: bool = false,
        /// Time for which a browser may cache the response to a preflight request, at most a day.
        /// Defaults to 10 min.
        pub max_age: Duration = Duration::from_secs(600),
    }
    limits {
        max_age: within(Duration::ZERO..=DAY),
    }
}

const DAY: Duration = Duration::from_secs(86_400);

impl CorsConfig {
    fn is_any(&self) -> bool {
        self.origins.iter().any(|origin| origin == ANY)
    }

    /// Returns the name of a list with `*` if credentials are allowed too.
    fn any_with_credentials(&self) -> Option<&'static str> {
        let any = |headers: &[HeaderName]| headers.iter().any(|header| header.as_str() == ANY);
        let fields = [
            (
                "methods",
                self.methods.iter().any(|method| method.as_str() == ANY),
            ),
            ("headers", any(&self.headers)),
            ("expose", any(&self.expose)),
        ];
        let found = fields.into_iter().find(|(_, any)| *any);
        found.map(|(field, _)| field).filter(|_| self.credentials)
    }

    /// Returns the errors of `origins`.
    fn origins_errors(&self) -> Vec<String> {
        let of_any = match self.is_any() {
            true if self.origins.len() > 1 => Some(
                "\"*\" must be the only origin; remove the others, or list all of them without \"*\"",
            ),
            true if self.credentials => {
                Some("\"*\" cannot be combined with credentials; list the origins")
            }
            _ => None,
        };
        let origins = self.origins.iter();
        let wrong = origins.filter(|origin| *origin != ANY && !is_origin(origin));
        let wrong = wrong.map(|origin| {
            format!(
                "expected an origin such as \"https://shop.example\", got \"{origin}\"; leave out the path and the default port"
            )
        });
        of_any.map(str::to_owned).into_iter().chain(wrong).collect()
    }
}

impl Validate for CorsConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let mut errors = self.check_limits();
        for message in self.origins_errors() {
            errors = errors.unless(false, "origins", message);
        }
        if let Some(field) = self.any_with_credentials() {
            errors = errors.unless(false, field, "\"*\" cannot be combined with credentials");
        }
        errors.into_vec()
    }
}

/// Returns `true` if `text` is an origin as browsers write it
/// ([RFC 6454 §6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2)): in lower case, without a
/// path, and without the default port of its scheme.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = format!("{scheme}://{authority}") == text && text.to_ascii_lowercase() == text;
    plain && crate::guard::is_authority(authority.as_bytes()) && !authority.ends_with(default_port)
}

/// A layer that responds to preflight requests and adds CORS headers to responses.
///
/// The layer responds to every `OPTIONS` request itself, so inner services never receive one. Place it
/// above authentication, because preflight requests have no token.
#[derive(Clone, Debug)]
pub struct CorsLayer(cors::CorsLayer);

impl CorsLayer {
    /// Creates a layer with `config`.
    ///
    /// # Errors
    /// Returns an error if a value of `config` is not valid, or `*` is combined with credentials.
    pub fn new(config: CorsConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        let origins = if config.is_any() {
            AllowOrigin::any()
        } else {
            let values = config.origins.iter();
            AllowOrigin::list(values.filter_map(|origin| HeaderValue::from_str(origin).ok()))
        };
        Ok(Self(
            cors::CorsLayer::new()
                .allow_origin(origins)
                .allow_methods(config.methods)
                .allow_headers(config.headers)
                .expose_headers(config.expose)
                .allow_credentials(config.credentials)
                .max_age(config.max_age),
        ))
    }
}

impl<S> Layer<S> for CorsLayer {
    type Service = cors::Cors<S>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.layer(inner)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{HeaderMap, Request, Response, header::*};
    use http_body_util::Full;
    use tower::{Layer, ServiceExt, service_fn};
    use tower_fanout_testkit::laws::{Http, Laws};

    use super::*;

    fn shop() -> CorsConfig {
        CorsConfig::default().origins(["https://shop.example".to_owned()])
    }

    async fn headers(config: &CorsConfig, method: Method, origin: &str) -> HeaderMap {
        let inner = service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let request = Request::builder()
            .method(method)
            .header(ORIGIN, origin)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let service = CorsLayer::new(config.clone()).unwrap().layer(inner);
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        response.headers().clone()
    }

    #[tokio::test]
    async fn fault_d36_allows_only_listed_origins() {
        for credentials in [false, true] {
            let cors = shop().credentials(credentials);
            for method in [Method::GET, Method::OPTIONS] {
                for other in [
                    "null",
                    "*",
                    "https://evil.example",
                    "http://shop.example",
                    "https://shop.example.evil.example",
                    "https://shop.example:8443",
                    "https://SHOP.example",
                ] {
                    let headers = headers(&cors, method.clone(), other).await;
                    assert!(
                        !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN),
                        "{other}"
                    );
                }
                let headers = headers(&cors, method, "https://shop.example").await;
                assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://shop.example");
                let allowed = headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                assert_eq!(allowed, credentials);
                assert!(headers[VARY].to_str().unwrap().contains("origin"));
            }
        }
    }

    #[tokio::test]
    async fn fault_d36_allows_no_origin_by_default_and_no_credentials_with_star() {
        let none = headers(&CorsConfig::default(), Method::GET, "https://shop.example").await;
        assert!(!none.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let any = shop().origins(["*".to_owned()]);
        let any = headers(&any, Method::GET, "https://evil.example").await;
        assert_eq!(any[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!any.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn fault_d36_rejects_configs_that_allow_too_much() {
        let rejected = |origins: &[&str], credentials| {
            let origins: Vec<_> = origins.iter().map(|&origin| origin.to_owned()).collect();
            let config = CorsConfig::default().origins(origins);
            CorsLayer::new(config.credentials(credentials)).is_err()
        };
        assert!(rejected(&["*"], true) && rejected(&["*", "https://a.example"], false));
        for bad in [
            "null",
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://*.a.example",
            "ftp://a.example",
            "https://ada@a.example",
            "https://a.example?x",
        ] {
            assert!(rejected(&[bad], false), "{bad}");
        }
        for good in [
            "https://a.example",
            "http://localhost:3000",
            "https://[::1]:8443",
        ] {
            assert!(!rejected(&[good], true), "{good}");
        }
        assert!(CorsLayer::new(shop().max_age(Duration::from_secs(86_401))).is_err());
        for config in [
            CorsConfig::default().methods([Method::from_bytes(b"*").unwrap()]),
            CorsConfig::default().headers([HeaderName::from_static("*")]),
            CorsConfig::default().expose([HeaderName::from_static("*")]),
        ] {
            assert!(CorsLayer::new(config.clone()).is_ok());
            assert!(CorsLayer::new(config.credentials(true)).is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cors_keeps_the_laws() {
        let layer = CorsLayer::new(shop()).unwrap();
        Laws::new(Http::<Full<Bytes>>::new(), |inner| layer.layer(inner))
            .check()
            .await;
    }
}
