//! What pages of other origins may ask ([the Fetch standard's CORS](https://fetch.spec.whatwg.org/#http-cors-protocol)).
//!
//! The answers are tower-http's; here stand settings that cannot be combined into a hole. An origin
//! that is not listed gets no `Access-Control-Allow-Origin`, and is never reflected.
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
    config::{ConfigError, Validate},
    setters,
};
use tower_http::cors::{self, AllowOrigin};

use crate::{bounds::valid, correlation::CORRELATION_ID};

/// The origin that stands for all.
const ANY: &str = "*";

/// What pages of other origins may ask, and read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CorsConfig {
    /// The origins, as `https://shop.example` or `http://localhost:3000`, or `*` alone for every
    /// one; none by default. `null` is none: every sandboxed page has it.
    pub origins: Vec<String>,
    /// The methods they may use; `GET` and `POST` by default.
    pub methods: Vec<Method>,
    /// The headers they may send; `authorization`, `content-type` and `x-correlation-id` by default.
    pub headers: Vec<HeaderName>,
    /// The headers of answers that they may read; `x-correlation-id` by default.
    pub expose: Vec<HeaderName>,
    /// Whether browsers send cookies and certificates along; not by default, and not together with
    /// the origin `*`. A bearer token needs no such thing.
    pub credentials: bool,
    /// How long a browser may remember all this; 10 min by default, at most a day.
    pub max_age: Duration,
}

setters! {
    CorsConfig {
        origins: Vec<String>,
        methods: Vec<Method>,
        headers: Vec<HeaderName>,
        expose: Vec<HeaderName>,
        credentials: bool,
        max_age: Duration,
    }
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            methods: vec![Method::GET, Method::POST],
            headers: vec![AUTHORIZATION, CONTENT_TYPE, CORRELATION_ID],
            expose: vec![CORRELATION_ID],
            credentials: false,
            max_age: Duration::from_secs(600),
        }
    }
}

impl CorsConfig {
    fn is_any(&self) -> bool {
        self.origins.iter().any(|origin| origin == ANY)
    }

    /// Where `*` would stand for all methods or headers, and browsers send credentials along.
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

    fn wrong_origins(&self) -> Option<&'static str> {
        if self.is_any() && self.origins.len() > 1 {
            return Some("`*` stands for all: it stands alone");
        }
        if self.is_any() && self.credentials {
            return Some("`*` does not go with credentials: name the origins");
        }
        let all = self.is_any() || self.origins.iter().all(|origin| is_origin(origin));
        (!all).then_some("an origin is `https://host` or `http://host`, with a port if need be")
    }
}

impl Validate for CorsConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let origins = self.wrong_origins();
        let origins = origins.map(|wrong| ConfigError::new("origins", wrong));
        let any = self.any_with_credentials();
        let any = any.map(|field| ConfigError::new(field, "`*` does not go with credentials"));
        let long = self.max_age > Duration::from_secs(86_400);
        let long = long.then(|| ConfigError::new("max_age", "more than a day"));
        origins.into_iter().chain(any).chain(long).collect()
    }
}

/// Whether browsers write an origin like this ([RFC 6454 §6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2)):
/// in lower case, without a path, and without the port that goes without saying.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else {
        return false;
    };
    let scheme = uri.scheme_str().unwrap_or_default();
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let usual = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = format!("{scheme}://{authority}") == text && text.to_ascii_lowercase() == text;
    plain && crate::guard::is_authority(authority.as_bytes()) && !authority.ends_with(usual)
}

/// The layer that answers preflight requests and marks answers; above authentication, as a preflight
/// request bears no token.
///
/// It answers every `OPTIONS` itself.
#[derive(Clone, Debug)]
pub struct CorsLayer(cors::CorsLayer);

impl CorsLayer {
    /// Creates a layer that allows what `config` says.
    ///
    /// # Errors
    /// A value of `config` is not valid, or two of them together allow more than intended.
    pub fn new(config: CorsConfig) -> Result<Self, ConfigError> {
        let config = valid(config)?;
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
    async fn fault_d36_only_listed_origins_are_allowed() {
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
                let said = headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS);
                assert_eq!(said, credentials);
                assert!(headers[VARY].to_str().unwrap().contains("origin"));
            }
        }
    }

    #[tokio::test]
    async fn fault_d36_by_default_no_origin_is_allowed_and_a_star_bears_no_credentials() {
        let none = headers(&CorsConfig::default(), Method::GET, "https://shop.example").await;
        assert!(!none.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let any = shop().origins(["*".to_owned()]);
        let any = headers(&any, Method::GET, "https://evil.example").await;
        assert_eq!(any[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!any.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn fault_d36_settings_that_are_a_hole_are_refused() {
        let refused = |origins: &[&str], credentials| {
            let origins: Vec<_> = origins.iter().map(|&origin| origin.to_owned()).collect();
            let config = CorsConfig::default().origins(origins);
            CorsLayer::new(config.credentials(credentials)).is_err()
        };
        assert!(refused(&["*"], true) && refused(&["*", "https://a.example"], false));
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
            assert!(refused(&[bad], false), "{bad}");
        }
        for good in [
            "https://a.example",
            "http://localhost:3000",
            "https://[::1]:8443",
        ] {
            assert!(!refused(&[good], true), "{good}");
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
