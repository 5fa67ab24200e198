//! What pages of other origins may ask ([the Fetch standard's CORS](https://fetch.spec.whatwg.org/#http-cors-protocol)).
//!
//! The answers are tower-http's; here stand settings that cannot be combined into a hole. An origin
//! that is not listed gets no `Access-Control-Allow-Origin`, and is never reflected.
//!
//! ```
//! use tower_fanout_http::cors::{Cors, cors_layer};
//!
//! let cors = Cors::build(|cors| cors.origins = vec!["https://shop.example".into()]).unwrap();
//! let layer = cors_layer(&cors);
//! # drop(layer);
//! assert!(Cors::build(|cors| {
//!     cors.origins = vec!["*".into()];
//!     cors.credentials = true;
//! }).is_err());
//! ```

use std::time::Duration;

use http::{
    HeaderName, HeaderValue, Method, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tower_fanout_layers::{
    ConfigError,
    config::{Validate, Validated},
};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::correlation::CORRELATION_ID;

/// The origin that stands for all.
const ANY: &str = "*";

/// What pages of other origins may ask, and read.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct CorsSettings {
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

impl Default for CorsSettings {
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

impl CorsSettings {
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

impl Validate for CorsSettings {
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

/// Checked [`CorsSettings`].
pub type Cors = Validated<CorsSettings>;

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
pub fn cors_layer(cors: &Cors) -> CorsLayer {
    let origins = if cors.is_any() {
        AllowOrigin::any()
    } else {
        let values = cors.origins.iter();
        AllowOrigin::list(values.filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(cors.methods.clone())
        .allow_headers(cors.headers.clone())
        .expose_headers(cors.expose.clone())
        .allow_credentials(cors.credentials)
        .max_age(cors.max_age)
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

    fn shop(edit: impl FnOnce(&mut CorsSettings)) -> Cors {
        Cors::build(|cors| {
            cors.origins = vec!["https://shop.example".into()];
            edit(cors);
        })
        .unwrap()
    }

    async fn headers(cors: &Cors, method: Method, origin: &str) -> HeaderMap {
        let inner = service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        });
        let request = Request::builder()
            .method(method)
            .header(ORIGIN, origin)
            .header(ACCESS_CONTROL_REQUEST_METHOD, "POST");
        let service = cors_layer(cors).layer(inner);
        let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
        response.headers().clone()
    }

    #[tokio::test]
    async fn fault_d36_only_listed_origins_are_allowed() {
        for credentials in [false, true] {
            let cors = shop(|cors| cors.credentials = credentials);
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
        let none = headers(&Cors::default(), Method::GET, "https://shop.example").await;
        assert!(!none.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let any = shop(|cors| cors.origins = vec!["*".into()]);
        let any = headers(&any, Method::GET, "https://evil.example").await;
        assert_eq!(any[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!any.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn fault_d36_settings_that_are_a_hole_are_refused() {
        let refused = |origins: &[&str], credentials| {
            let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
            let built = Cors::build(|cors| {
                (cors.origins, cors.credentials) = (origins, credentials);
            });
            built.is_err()
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
        assert!(Cors::build(|cors| cors.max_age = Duration::from_secs(86_401)).is_err());
        let all: [fn(&mut CorsSettings); 3] = [
            |cors| cors.methods = vec![Method::from_bytes(b"*").unwrap()],
            |cors| cors.headers = vec![HeaderName::from_static("*")],
            |cors| cors.expose = vec![HeaderName::from_static("*")],
        ];
        for edit in all {
            assert!(Cors::build(edit).is_ok());
            assert!(
                Cors::build(|cors| {
                    edit(cors);
                    cors.credentials = true;
                })
                .is_err()
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cors_keeps_the_laws() {
        let layer = cors_layer(&shop(|_| {}));
        Laws::new(Http::<Full<Bytes>>::new(), |inner| layer.layer(inner))
            .check()
            .await;
    }
}
