//! The URL of a JWK Set.

use std::{fmt, net::IpAddr};

use http::{
    Uri,
    uri::{PathAndQuery, Scheme},
};
use tower_fanout_layers::ConfigError;

/// The URL of a JWK Set: `https`, or `http` on a loopback host. `Debug` shows only scheme, host and port,
/// because the rest may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({})", self.endpoint())
    }
}

impl JwksUrl {
    /// Accepts `url`, such as `https://idp.example/keys`. The scheme `http` is accepted only for `localhost` and
    /// loopback addresses. To fetch keys over `https`, [`Jwks::start`](super::Jwks::start) requires the
    /// feature `tls`, and [`Jwks::start_with`](super::Jwks::start_with) a client that supports TLS.
    ///
    /// # Errors
    /// Returns an error if `url` has another scheme or no host, or contains credentials.
    pub fn new(url: Uri) -> Result<Self, ConfigError> {
        let is = |scheme| url.scheme() == Some(&scheme);
        let authority = url.authority();
        let message = match authority.filter(|authority| !authority.host().is_empty()) {
            None => "a JWKS URL must have a host",
            Some(authority) if authority.as_str().contains('@') => {
                "a JWKS URL must not contain credentials"
            }
            Some(authority)
                if is(Scheme::HTTPS) || is(Scheme::HTTP) && is_loopback(authority.host()) =>
            {
                return Ok(Self(url));
            }
            Some(_) => "a JWKS URL must use https, or http on a loopback host",
        };
        Err(ConfigError::new("url", message).of("JwksUrl"))
    }

    /// Returns the URL without its path and query.
    #[must_use]
    pub fn endpoint(&self) -> Uri {
        self.split().0
    }

    /// Returns the host.
    pub(super) fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }

    /// Returns the URL without its path and query, and the request target with them.
    pub(super) fn split(&self) -> (Uri, Uri) {
        let mut endpoint = self.0.clone().into_parts();
        let target = endpoint
            .path_and_query
            .replace(PathAndQuery::from_static("/"));
        (
            Uri::from_parts(endpoint).unwrap_or_default(),
            target.map(Uri::from).unwrap_or_default(),
        )
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<JwksUrl, ConfigError> {
        JwksUrl::new(text.parse().unwrap())
    }

    #[test]
    fn fault_b1_accepts_only_https_and_http_on_a_loopback_host() {
        for good in [
            "https://idp.example/keys",
            "https://idp.example:8443/keys?policy=x",
            "http://127.0.0.1:8080/keys",
            "http://127.3.2.1/keys",
            "http://[::1]:8080/keys",
            "http://localhost/keys",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://idp.example/keys",
            "http://10.0.0.1/keys",
            "http://localhost.example/keys",
            "http://[::2]/keys",
            "https://me:secret@idp.example/keys",
            "https://me@idp.example/keys",
            "http://localhost@idp.example/keys",
            "ftp://idp.example/keys",
            "idp.example:443",
            "/keys",
        ] {
            let error = url(bad).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{bad}");
        }
    }

    #[test]
    fn splits_the_url_into_endpoint_and_target() {
        for (whole, endpoint, target) in [
            ("https://a:1/keys?p=1", "https://a:1/", "/keys?p=1"),
            ("https://a", "https://a/", "/"),
        ] {
            let whole = url(whole).unwrap();
            let (found_endpoint, found_target) = (whole.endpoint(), whole.split().1);
            assert_eq!(
                (found_endpoint.to_string(), found_target.to_string()),
                (endpoint.into(), target.into())
            );
        }
    }
}
