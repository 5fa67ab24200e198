//! Normalizes the percent-encoding of request paths, which the router compares byte by byte.

use http::{Request, Uri, uri::PathAndQuery};

/// Normalizes the path of `request` ([RFC 3986 §6.2.2](https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2)):
/// hexadecimal digits become upper case, and unreserved characters are decoded.
pub(crate) fn normalize_path<B>(mut request: Request<B>) -> Request<B> {
    let path = request.uri().path();
    if path.contains('%')
        && let Some(uri) = with_path(request.uri(), normalized(path))
    {
        *request.uri_mut() = uri;
    }
    request
}

fn normalized(path: &str) -> String {
    let mut parts = path.split('%');
    let mut normalized = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normalized.push(byte.into());
                normalized += &part[2..];
            }
            Some(byte) => normalized += &format!("%{byte:02X}{}", &part[2..]),
            // Not an encoded byte.
            None => normalized += &format!("%{part}"),
        }
    }
    normalized
}

fn with_path(uri: &Uri, mut path: String) -> Option<Uri> {
    if let Some(query) = uri.query() {
        path = format!("{path}?{query}");
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_the_encoding_of_the_path_and_nothing_else() {
        for (given, expected) in [
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%61bc?x=%c3%61", "/abc?x=%c3%61"),
            ("/a%2fb%2Fc", "/a%2Fb%2Fc"),
            ("/%7Euser", "/~user"),
            ("/100%", "/100%"),
            ("/%zz%4", "/%zz%4"),
            ("http://host/%c3", "http://host/%C3"),
            ("/plain", "/plain"),
        ] {
            let request = Request::builder().uri(given).body(()).unwrap();
            assert_eq!(normalize_path(request).uri(), expected);
        }
    }
}
