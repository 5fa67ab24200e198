//! URLs of services and of JWK sets.

use std::fmt::Display;

use http::Uri;
use tower_fanout_json::template::encode_path;

use super::{
    super::{
        reader::{ValueReader, split_advice},
        redact::is_url,
    },
    Fault, Shape, Text,
};

/// A URL. Its path is percent-encoded.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Url(pub(in super::super) Uri);

impl Text for Url {
    const FORMAT: &'static str = "url";
    const EXPECTED: &'static str = "a URL such as \"http://users:8080\"";
    const SHAPE: Shape = Shape::Pattern(concat!(
        r"^(?!([^:/?]*://)?[^/?]*[^!-~])",
        r"([^#{}?%\\]|%[0-9A-Fa-f]{2})+(\?[^#\x00-\x20]*)?$"
    ));

    fn parse(text: &str) -> Result<Self, Fault> {
        // The parser drops a fragment, which is never sent.
        if text.contains('#') {
            return Err(bad_url(text, "must not have a fragment"));
        }
        // The parser takes the name of a variable for a host.
        if text.starts_with('$') {
            return Err(bad_url(text, &format!("expected {}", Self::EXPECTED)));
        }
        let encoded = with_encoded_path(text).map_err(|message| bad_url(text, &message))?;
        let parsed = encoded.parse().map(Self);
        let expected = format!("expected {}", Self::EXPECTED);
        parsed.map_err(|_| bad_url(text, &expected))
    }

    fn written(&self) -> impl Display {
        &self.0
    }
}

/// Returns `true` if the URL has a user name, or a password. A slash in the password ends the authority, so that the
/// parser takes the text before it for a port.
fn has_credentials(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
    let is_port = port.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit());
    authority.contains('@') || rest.contains('@') && !is_port
}

/// Returns the error of a URL, and quotes the URL unless it may contain credentials, or be a secret.
fn bad_url(text: &str, message: &str) -> Fault {
    let (message, advice) = split_advice(message);
    let fault = if has_credentials(text) {
        Fault::new("invalid", "must not contain credentials")
    } else if text.contains('@') || !is_url(text) {
        Fault::new("invalid", message)
    } else {
        Fault::quoting("invalid", format!("{message}, got"), text)
    };
    Fault {
        help: advice.map(str::to_owned),
        ..fault
    }
}

/// Reports the error of a URL, whose message may end with advice.
pub(in super::super) fn report_url(reader: &ValueReader<'_>, message: &str) {
    reader.report_fault(bad_url(&reader.tree.as_written(), message));
}

/// Percent-encodes the path of a URL.
///
/// # Errors
/// Returns a message if text of the path has more than one meaning.
fn with_encoded_path(url: &str) -> Result<String, String> {
    let start = url.find("://").map_or(0, |scheme| scheme + "://".len());
    let start = url[start..]
        .find(['/', '?'])
        .map_or(url.len(), |path| start + path);
    let end = url[start..]
        .find('?')
        .map_or(url.len(), |query| start + query);
    let path = &url[start..end];
    // The user may mean a placeholder.
    if path.contains(['{', '}']) {
        return Err("must not have braces, as a URL has no placeholders".to_owned());
    }
    let path = encode_path(path).map_err(|error| error.to_string())?;
    Ok([&url[..start], &path, &url[end..]].concat())
}
