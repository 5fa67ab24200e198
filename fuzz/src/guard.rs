use std::net::Ipv6Addr;

use http::{HeaderName, HeaderValue, Request, Version, header};
use tower_fanout_http::guard::{GuardConfig, check};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The guard accepts a request exactly if a simple reference implementation accepts it.
///
/// The input is the head of an HTTP/1 request, with lines that end with CRLF or LF.
pub fn guard(data: &[u8]) {
    if let Some(request) = request(data) {
        let passed = check(&request, &GuardConfig::default());
        assert_eq!(passed.is_ok(), is_valid(&request), "{passed:?}");
    }
}

/// Parses a request head leniently. Returns `None` if the request line is missing or a part cannot be
/// represented in an [`http::Request`].
fn request(data: &[u8]) -> Option<Request<()>> {
    let mut lines = data
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    request = request.version(match words.next()? {
        b"HTTP/1.0" => Version::HTTP_10,
        b"HTTP/1.1" => Version::HTTP_11,
        _ => return None,
    });
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    request.body(()).ok()
}

/// The reference implementation of the guard.
fn is_valid(request: &Request<()>) -> bool {
    let all = |name| request.headers().get_all(name).iter();
    let target = request.uri().to_string();
    let absolute = ["http://", "https://"]
        .iter()
        .any(|scheme| target.starts_with(scheme));
    let valid_target = match target.as_str() {
        "*" => request.method() == "OPTIONS",
        path => path.starts_with('/') || (absolute && request.uri().path().starts_with('/')),
    };
    let hosts: Vec<_> = all(header::HOST).collect();
    let valid_host = match &*hosts {
        [] => request.version() == Version::HTTP_10,
        [host] => is_host(host.as_bytes()),
        _ => false,
    };
    let authority = request.uri().authority().map(|whole| whole.as_str());
    let valid_authority = authority.is_none_or(|authority| {
        let matches =
            |host: &&HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_bytes());
        is_host(authority.as_bytes()) && hosts.iter().all(matches)
    });
    let chunked = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"chunked");
    let expected = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    METHODS.contains(&request.method().as_str())
        && target.len() <= 8192
        && (valid_target && valid_host && valid_authority)
        && all(header::TRANSFER_ENCODING).count() <= 1
        && all(header::TRANSFER_ENCODING).all(chunked)
        && all(header::EXPECT).all(expected)
}

/// Returns `true` for an IPv6 address in brackets, or a name of 1 to 253 characters, with an optional
/// port.
fn is_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else {
        return false;
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else {
                return false;
            };
            (address.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let letter = |char: char| char.is_ascii_alphanumeric() || "-._~".contains(char);
            let sized = !name.is_empty() && name.len() <= 253;
            (sized && name.chars().all(letter), port)
        }
    };
    let is_port = |port: &str| {
        let digits = port.chars().all(|char| char.is_ascii_digit());
        digits && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}
