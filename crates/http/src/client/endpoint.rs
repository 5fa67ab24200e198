//! Where a downstream is.

use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tower_fanout_layers::config::ConfigError;

/// Whether `endpoint` can be the address of a downstream; gives its host and port.
///
/// # Errors
/// It has no host, carries credentials or a query, or is neither `http` nor, with the feature `tls`,
/// `https`.
pub fn check(endpoint: &Uri) -> Result<&Authority, ConfigError> {
    match endpoint.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => {}
        Some(scheme) if *scheme == Scheme::HTTPS => {
            if cfg!(not(feature = "tls")) {
                return Err(invalid("TLS to downstreams is not built in: use http://"));
            }
        }
        _ => {
            return Err(invalid("an endpoint begins with http:// or https://"));
        }
    }
    match endpoint.authority() {
        _ if endpoint.query().is_some() => Err(invalid("an endpoint has no query")),
        Some(authority) if authority.as_str().contains('@') => {
            Err(invalid("an endpoint carries no credentials"))
        }
        Some(authority) if !authority.host().is_empty() => Ok(authority),
        _ => Err(invalid("an endpoint has a host")),
    }
}

fn invalid(message: &str) -> ConfigError {
    ConfigError::new("endpoint", message)
}

/// What is the same in all requests to one downstream.
pub(super) struct Endpoint {
    scheme: Scheme,
    /// Without a port that goes without saying, as HTTP/2 and the `Host` header have to agree.
    authority: Authority,
    host: HeaderValue,
    /// What stands before the path of every request; without a slash at its end.
    prefix: String,
}

impl Endpoint {
    pub(super) fn new(endpoint: &Uri) -> Result<Self, ConfigError> {
        let authority = check(endpoint)?;
        let scheme = endpoint.scheme().unwrap_or(&Scheme::HTTP).clone();
        let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let text = match authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        let bad = || invalid("an endpoint has a host");
        Ok(Self {
            scheme,
            host: HeaderValue::try_from(&text).map_err(|_| bad())?,
            authority: text.try_into().map_err(|_| bad())?,
            prefix: endpoint.path().trim_end_matches('/').to_owned(),
        })
    }

    /// What a request bears as its host
    /// ([RFC 9110 §7.2](https://www.rfc-editor.org/rfc/rfc9110#section-7.2)).
    pub(super) fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    #[cfg(feature = "tls")]
    pub(super) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The name or address to connect to, without the brackets of the latter.
    pub(super) fn name(&self) -> &str {
        let host = self.authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host)
    }

    /// Where `target` is to be found.
    pub(super) fn uri(&self, target: Uri) -> Option<Uri> {
        let mut parts = target.into_parts();
        let target = parts.path_and_query.take();
        let target = target.unwrap_or(PathAndQuery::from_static("/"));
        parts.path_and_query = Some(if self.prefix.is_empty() {
            target
        } else {
            format!("{}{target}", self.prefix).try_into().ok()?
        });
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_scheme_goes_without_saying() {
        for (endpoint, expected) in [
            ("http://users", "users"),
            ("http://users:80/x", "users"),
            ("http://users:8080", "users:8080"),
            ("http://[::1]:443", "[::1]:443"),
            ("http://[::1]", "[::1]"),
        ] {
            let endpoint = Endpoint::new(&endpoint.parse().unwrap()).unwrap();
            assert_eq!(endpoint.host(), expected);
            assert_eq!(endpoint.authority, expected);
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn https_needs_the_feature_tls() {
        let error = check(&"https://users".parse().unwrap()).unwrap_err();
        let reason = "TLS to downstreams is not built in: use http://";
        assert_eq!(error.to_string(), reason);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_port_of_https_is_another() {
        for (endpoint, expected) in [
            ("https://users:443/x", "users"),
            ("https://users:80", "users:80"),
        ] {
            let endpoint = Endpoint::new(&endpoint.parse().unwrap()).unwrap();
            assert_eq!(endpoint.host(), expected);
        }
    }

    #[test]
    fn fault_i15_a_host_is_written_as_the_name_service_knows_it() {
        assert!("http://bücher.example".parse::<Uri>().is_err());
        let endpoint = "http://xn--bcher-kva.example".parse().unwrap();
        assert_eq!(
            Endpoint::new(&endpoint).unwrap().name(),
            "xn--bcher-kva.example"
        );
    }

    #[test]
    fn fault_i17_credentials_are_refused_and_not_shown() {
        let endpoint = "http://canary:secret@users".parse().unwrap();
        let error = check(&endpoint).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(
            !told.contains("canary") && !told.contains("secret"),
            "{told}"
        );
    }
}
