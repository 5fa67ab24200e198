//! The URL of a JWK Set.

use std::{error::Error, fmt, net::IpAddr};

use http::{
    Uri,
    uri::{PathAndQuery, Scheme},
};

/// The URL of a JWK Set: `https`, or `http` on a loopback host. `Debug` shows only scheme, host and port,
/// because the rest may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({})", self.endpoint())
    }
}

/// An error for a URL that keys must not be fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadJwksUrl(&'static str);

impl fmt::Display for BadJwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for BadJwksUrl {}

impl JwksUrl {
    /// Accepts `url`, such as `https://idp.example/keys`. The scheme `http` is accepted only for `localhost` and
    /// loopback addresses. To fetch keys over `https`, [`Jwks::start`](super::Jwks::start) requires the
    /// feature `tls`.
    ///
    /// # Errors
    /// Returns an error if `url` has another scheme or no host, or contains credentials.
    pub fn new(url: Uri) -> Result<Self, BadJwksUrl> {
        let authority = url.authority();
        if authority.is_none_or(|authority| authority.host().is_empty()) {
            return Err(BadJwksUrl("a JWKS URL must have a host"));
        }
        if authority.is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(BadJwksUrl("a JWKS URL must not contain credentials"));
        }
        let is_secure = url.scheme() == Some(&Scheme::HTTPS);
        let is_local = url.scheme() == Some(&Scheme::HTTP) && url.host().is_some_and(is_loopback);
        if is_secure || is_local {
            Ok(Self(url))
        } else {
            Err(BadJwksUrl(
                "a JWKS URL must use https, or http on a loopback host",
            ))
        }
    }

    /// Returns the URL without its path and query.
    #[must_use]
    pub fn endpoint(&self) -> Uri {
        self.split().0
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

    fn url(text: &str) -> Result<JwksUrl, BadJwksUrl> {
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
