//! The endpoint of a downstream: scheme, authority and path prefix.

use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tower_fanout_layers::config::ConfigError;

/// Checks that `endpoint` can be the endpoint of a downstream, and returns its host and port.
///
/// A path is allowed. The client uses it as the prefix of every request, and it is not part of the
/// returned value.
///
/// # Errors
/// Returns an error if `endpoint` has no host, has credentials, a query, a port other than 1 to 65535 or a
/// `.` or `..` segment, or does not begin with `http://` or, with the feature `tls`, `https://`. The message
/// does not repeat the endpoint, which may contain a password.
pub fn validate_endpoint(endpoint: &Uri) -> Result<&Authority, ConfigError> {
    match endpoint.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => {}
        Some(scheme) if *scheme == Scheme::HTTPS => {
            if cfg!(not(feature = "tls")) {
                return Err(invalid(
                    "must begin with http://, the build has no feature `tls`",
                ));
            }
        }
        _ => {
            return Err(invalid("must begin with http:// or https://"));
        }
    }
    match endpoint.authority() {
        _ if endpoint.query().is_some() => Err(invalid("must not have a query")),
        Some(authority) if authority.as_str().contains('@') => {
            Err(invalid("must not contain credentials"))
        }
        Some(authority) if !has_valid_port(authority) => {
            Err(invalid("must have a port from 1 to 65535, or none"))
        }
        _ if endpoint.path().split('/').any(is_dots) => Err(invalid(
            "expected segments other than \".\" and \"..\", which servers remove",
        )),
        Some(authority) if !authority.host().is_empty() => Ok(authority),
        _ => Err(invalid("must have a host")),
    }
}

/// Returns `true` if the port of `authority`, which has no credentials, is a number from 1 to 65535 or missing.
/// [`Authority::port_u16`] is also `None` for a port that is no such number.
fn has_valid_port(authority: &Authority) -> bool {
    let rest = &authority.as_str()[authority.host().len()..];
    rest.is_empty() || authority.port_u16().is_some_and(|port| port > 0)
}

/// Returns `true` for a `.` or `..` segment, also if its dots are percent-encoded
/// ([URL §4.4](https://url.spec.whatwg.org/#single-dot-path-segment)).
fn is_dots(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    matches!(plain.as_str(), "." | "..")
}

fn invalid(message: &str) -> ConfigError {
    ConfigError::new("endpoint", message).of("Client")
}

/// The parts of the URI and the headers that are the same in all requests to one downstream.
#[derive(Clone)]
pub(super) struct Endpoint {
    scheme: Scheme,
    /// Host and port, without the default port of the scheme. `:authority` in HTTP/2 and the `Host`
    /// header must be equal.
    authority: Authority,
    host: HeaderValue,
    /// Prefix of the path of every request, without a slash at the end.
    prefix: String,
}

impl Endpoint {
    pub(super) fn new(endpoint: &Uri) -> Result<Self, ConfigError> {
        let authority = validate_endpoint(endpoint)?;
        let scheme = endpoint.scheme().unwrap_or(&Scheme::HTTP).clone();
        let default = if scheme == Scheme::HTTPS { 443 } else { 80 };
        let text = match authority.port_u16() {
            Some(port) if port != default => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        let bad = || invalid("must have a host");
        Ok(Self {
            scheme,
            host: HeaderValue::try_from(&text).map_err(|_| bad())?,
            authority: text.try_into().map_err(|_| bad())?,
            prefix: endpoint.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Returns the value of the `Host` header
    /// ([RFC 9110 §7.2](https://www.rfc-editor.org/rfc/rfc9110#section-7.2)).
    pub(super) fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    #[cfg(feature = "tls")]
    pub(super) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Returns the name or address to connect to, without the brackets of an IPv6 address.
    pub(super) fn name(&self) -> &str {
        let host = self.authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(host)
    }

    /// Returns the path and query of `target`, with the prefix before its path. Returns `None` if the result is not
    /// valid, such as one that is too long.
    pub(super) fn target(&self, target: Uri) -> Option<PathAndQuery> {
        let target = target.into_parts().path_and_query;
        let target = target.unwrap_or(PathAndQuery::from_static("/"));
        if self.prefix.is_empty() {
            return Some(target);
        }
        format!("{}{target}", self.prefix).try_into().ok()
    }

    /// Returns the absolute URI of `target` on this host.
    ///
    /// # Errors
    /// Returns an error if `target` has no path, as `*` does not.
    pub(super) fn absolute(&self, target: PathAndQuery) -> Result<Uri, http::Error> {
        let uri = Uri::builder().scheme(self.scheme.clone());
        uri.authority(self.authority.clone())
            .path_and_query(target)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_omits_the_default_port_of_http() {
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
        let error = validate_endpoint(&"https://users".parse().unwrap()).unwrap_err();
        let reason = "must begin with http://, the build has no feature `tls`";
        assert_eq!(error.message(), reason);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn host_omits_the_default_port_of_https() {
        for (endpoint, expected) in [
            ("https://users:443/x", "users"),
            ("https://users:80", "users:80"),
        ] {
            let endpoint = Endpoint::new(&endpoint.parse().unwrap()).unwrap();
            assert_eq!(endpoint.host(), expected);
        }
    }

    #[test]
    fn fault_j27_rejects_an_invalid_port_and_dot_segments() {
        for (endpoint, reason) in [
            ("http://users:70000", "must have a port"),
            ("http://users:65536/a", "must have a port"),
            ("http://users:0", "must have a port"),
            ("http://users:", "must have a port"),
            ("http://[::1]:99999", "must have a port"),
            ("http://users/../z", "expected segments other"),
            ("http://users/a/%2E%2e", "expected segments other"),
            ("http://users/./", "expected segments other"),
        ] {
            let error = Endpoint::new(&endpoint.parse().unwrap()).err().unwrap();
            assert!(error.message().starts_with(reason), "{endpoint}: {error}");
        }
        for endpoint in [
            "http://users:65535",
            "http://[::1]:1/..a/b.",
            "http://users",
        ] {
            assert!(validate_endpoint(&endpoint.parse().unwrap()).is_ok());
        }
    }

    #[test]
    fn fault_i15_hosts_are_written_in_punycode() {
        assert!("http://bücher.example".parse::<Uri>().is_err());
        let endpoint = "http://xn--bcher-kva.example".parse().unwrap();
        assert_eq!(
            Endpoint::new(&endpoint).unwrap().name(),
            "xn--bcher-kva.example"
        );
    }

    #[test]
    fn fault_i17_rejects_credentials_without_showing_them() {
        let endpoint = "http://canary:secret@users".parse().unwrap();
        let error = validate_endpoint(&endpoint).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("canary") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
