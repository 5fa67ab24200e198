//! Searches a text for a string in any of its usual encodings.

/// Encodes as Base64 without padding. `last` are the digits for 62 and 63.
pub(crate) fn base64(bytes: &[u8], last: &[u8; 2]) -> String {
    let digits: Vec<u8> = (b'A'..=b'Z')
        .chain(b'a'..=b'z')
        .chain(b'0'..=b'9')
        .chain(*last)
        .collect();
    let groups = bytes.chunks(3).flat_map(|chunk| {
        let all = (0..3).fold(0, |all, at| {
            all << 8 | usize::from(*chunk.get(at).unwrap_or(&0))
        });
        (0..=chunk.len()).map(move |at| all >> (18 - 6 * at) & 63)
    });
    groups.map(|sextet| digits[sextet] as char).collect()
}

/// Returns a text in its plain form and in its encoded forms.
fn forms(text: &str) -> Vec<String> {
    let hex = |prefix: &str, plain: bool| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'-' if plain => (byte as char).to_string(),
            _ => format!("{prefix}{byte:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    let mut forms = vec![text.to_owned(), hex("%", true), hex("", false)];
    forms.push(hex("", false).to_lowercase());
    for last in [b"+/", b"-_"] {
        // The text may start at any of the three bytes of a group. An incomplete last group is left out,
        // because it also encodes the bytes that follow.
        forms.extend((0..3).map(|skipped| {
            let rest = &text.as_bytes()[skipped..];
            base64(&rest[..rest.len() / 3 * 3], last)
        }));
    }
    let decimal: Vec<_> = text.bytes().map(|byte| byte.to_string()).collect();
    forms.push(decimal.join(", "));
    forms
}

/// Finds `pattern` in `text`. Returns it with up to 200 bytes before it.
fn find<'t>(text: &'t str, pattern: &str) -> Option<&'t str> {
    let at = text.find(pattern)?;
    let from = (0..=at.saturating_sub(200)).rfind(|at| text.is_char_boundary(*at))?;
    Some(&text[from..at + pattern.len()])
}

/// Finds `canary` in `text` in any of its forms.
pub(crate) fn leak<'t>(text: &'t str, canary: &str) -> Option<&'t str> {
    forms(canary).iter().find_map(|form| find(text, form))
}

/// Panics if `text` contains one of `canaries` in any form.
pub(crate) fn scan<'c>(place: &str, text: &str, canaries: impl IntoIterator<Item = &'c str>) {
    for canary in canaries {
        assert_eq!(leak(text, canary), None, "{canary} is in {place}");
    }
}

/// Panics if `text` contains a part of the claims or of the signature of one of `tokens`, or a part of a
/// malformed token. The parts are consecutive chunks of 20 characters.
pub(crate) fn scan_tokens(place: &str, text: &str, tokens: &[String]) {
    let secret_parts = |token| match str::split(token, '.').collect::<Vec<_>>()[..] {
        // The header holds no data of the caller.
        [_, claims, signature] => vec![claims, signature],
        _ => vec![token],
    };
    let parts = tokens.iter().flat_map(|token| secret_parts(token.as_str()));
    let pieces: std::collections::BTreeSet<&[u8]> = parts
        .flat_map(|part| part.as_bytes().chunks_exact(20))
        .collect();
    for piece in pieces {
        let piece = String::from_utf8_lossy(piece);
        assert_eq!(find(text, &piece), None, "part of a token in {place}");
    }
}
