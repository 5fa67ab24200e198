//! A strict parser of media types
//! ([RFC 9110 §8.3.1](https://www.rfc-editor.org/rfc/rfc9110#section-8.3.1)).
//!
//! ```
//! use tower_fanout_http::media_type::MediaType;
//!
//! let json = MediaType::parse("application/problem+json; charset=\"utf-8\"").unwrap();
//! assert_eq!((json.main, json.sub), ("application", "problem+json"));
//! assert!(json.is_json());
//! assert!(MediaType::parse("application/json; charset").is_none());
//! ```

/// A media type that borrows the text it was parsed from. Names keep the case in which they were
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MediaType<'t> {
    /// The type, such as `application`.
    pub main: &'t str,
    /// The subtype, such as `json`.
    pub sub: &'t str,
    /// The parameters as written, with their semicolons. Known to be well formed.
    parameters: &'t str,
}

impl<'t> MediaType<'t> {
    /// Parses `text`, ignoring white space around it. Returns `None` if any part of it does not
    /// match the grammar.
    #[must_use]
    pub fn parse(text: &'t str) -> Option<Self> {
        let text = text.trim_matches(is_space);
        let (main, rest) = text.split_once('/')?;
        let (sub, parameters) = rest.split_at(token_end(rest));
        if main.is_empty() || token_end(main) < main.len() || sub.is_empty() {
            return None;
        }
        // Validates all parameters, so that `parameters()` cannot stop early.
        let mut rest = parameters;
        while !rest.is_empty() {
            rest = next(rest)?.1;
        }
        let parsed = Self {
            main,
            sub,
            parameters,
        };
        Some(parsed)
    }

    /// Iterates over the parameters as pairs of name and value, in their order. Values have no
    /// quotes, but keep their escapes.
    pub fn parameters(&self) -> impl Iterator<Item = (&'t str, &'t str)> + use<'t> {
        let mut rest = self.parameters;
        std::iter::from_fn(move || {
            let (parameter, after) = next(rest)?;
            rest = after;
            Some(parameter)
        })
        .flatten()
    }

    /// Returns `true` for JSON in UTF-8.
    ///
    /// The type must be `application/json` or have the suffix `+json`
    /// ([RFC 6839 §3.1](https://www.rfc-editor.org/rfc/rfc6839#section-3.1)), and each `charset`
    /// parameter must be `utf-8`. All comparisons ignore case.
    #[must_use]
    pub fn is_json(&self) -> bool {
        let json =
            self.main.eq_ignore_ascii_case("application") && self.sub.eq_ignore_ascii_case("json");
        let suffix = self.sub.rsplit_once('+');
        let suffix = suffix
            .is_some_and(|(sub, suffix)| !sub.is_empty() && suffix.eq_ignore_ascii_case("json"));
        (json || suffix)
            && self.parameters().all(|(name, value)| {
                !name.eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
            })
    }
}

/// Returns `true` if `media_type` is JSON in UTF-8. See [`MediaType::is_json`].
#[must_use]
pub fn is_json(media_type: &str) -> bool {
    MediaType::parse(media_type).is_some_and(|media_type| media_type.is_json())
}

/// A parameter, or `None` if it is empty, and the text after it.
type Next<'t> = (Option<(&'t str, &'t str)>, &'t str);

/// Parses the parameter after the semicolon at the start of `text`. Returns `None` at the end of
/// the text and for malformed text.
fn next(text: &str) -> Option<Next<'_>> {
    let text = text.trim_start_matches(is_space).strip_prefix(';')?;
    let text = text.trim_start_matches(is_space);
    // RFC 9110 §5.6.6 allows empty parameters.
    if text.is_empty() || text.starts_with(';') {
        return Some((None, text));
    }
    let (name, rest) = text.split_at(token_end(text));
    let rest = rest.strip_prefix('=')?;
    let (value, after) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let end = quote_end(quoted)?;
            (&quoted[..end], &quoted[end + 1..])
        }
        None => rest.split_at(token_end(rest)),
    };
    let well_formed = !name.is_empty() && (!value.is_empty() || rest.starts_with('"'));
    well_formed.then_some((Some((name, value)), after))
}

/// Returns the index of the closing quote of the quoted string whose content `text` begins with.
fn quote_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

/// Returns the length of the token at the start of `text`.
fn token_end(text: &str) -> usize {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text.bytes()
        .position(|byte| !is_token(byte))
        .unwrap_or(text.len())
}

const fn is_space(char: char) -> bool {
    matches!(char, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fault_d26_recognizes_json_media_types() {
        for yes in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.x+json;charset=\"utf-8\"",
            " application/json ;\tcharset=utf-8 ; x=\"a;charset=utf-16\\\"\"",
            "application/json;",
            "application/json;;charset=utf-8",
            "image/x+json",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in [
            "",
            "json",
            "text/plain",
            "text/json",
            "application/jsonp",
            "application/+json",
            "application/json+xml",
            "application/json, application/json",
            "application/json charset=utf-8",
            "application /json",
            "application/json; charset=utf-16",
            "application/json; charset=utf8",
            "application/json; charset=\"utf-8",
            "application/json; charset=",
            "application/json; charset =utf-8",
            "application/json; charset= utf-8",
            "application/json; charset",
            "application/json; =utf-8",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset=\"utf-\\8\"",
        ] {
            assert!(!is_json(no), "{no}");
        }
    }

    proptest! {
        #[test]
        fn fault_d26_parses_generated_media_types(
            main in "[a-z]{1,9}", sub in "[a-z.+]{1,9}",
            parameters in prop::collection::vec(("[a-z]{1,5}", "[ -!#-\\[\\]-~]{0,9}"), 0..4),
            space in "[ \t]{0,2}",
        ) {
            let mut text = format!("{main}/{sub}");
            for (name, value) in &parameters {
                text.push_str(&format!("{space};{space}{name}=\"{value}\""));
            }
            let read = MediaType::parse(&text).unwrap();
            prop_assert_eq!((read.main, read.sub), (main.as_str(), sub.as_str()));
            let read: Vec<_> = read.parameters().collect();
            let written: Vec<_> = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn fault_d26_parsing_loses_no_characters(text in "[a-z/;=\" ,+\\\\]{0,40}") {
            if let Some(read) = MediaType::parse(&text) {
                let parameters = read.parameters().map(|(name, value)| name.len() + value.len());
                let kept: usize = read.main.len() + read.sub.len() + parameters.sum::<usize>();
                let plain = text.chars().filter(|char| !"/;=\" ".contains(*char)).count();
                prop_assert!(kept >= plain && !read.main.contains(','), "{text:?}");
            }
        }
    }
}
