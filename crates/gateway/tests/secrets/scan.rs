//! Finds a text in another, however it may be encoded.

/// Base64 without padding, with these two for 62 and 63.
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

/// A text as it is, and as it may be encoded.
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
        // A group may begin with any of three bytes, and the last may hold what follows.
        forms.extend((0..3).map(|skipped| {
            let rest = &text.as_bytes()[skipped..];
            base64(&rest[..rest.len() / 3 * 3], last)
        }));
    }
    let decimal: Vec<_> = text.bytes().map(|byte| byte.to_string()).collect();
    forms.push(decimal.join(", "));
    forms
}

/// `text` up to `what`, a little of it, if it has that.
fn find<'t>(text: &'t str, what: &str) -> Option<&'t str> {
    let at = text.find(what)?;
    let from = (0..=at.saturating_sub(200)).rfind(|at| text.is_char_boundary(*at))?;
    Some(&text[from..at + what.len()])
}

/// The same for `canary` in any form.
pub(crate) fn leak<'t>(text: &'t str, canary: &str) -> Option<&'t str> {
    forms(canary).iter().find_map(|form| find(text, form))
}

/// Fails if `text` has one of `canaries`, in any form.
pub(crate) fn scan<'c>(place: &str, text: &str, canaries: impl IntoIterator<Item = &'c str>) {
    for canary in canaries {
        assert_eq!(leak(text, canary), None, "{canary} is in {place}");
    }
}

/// Fails if `text` has a part of the claims or of the signature of one of `tokens`, or of one that
/// is none: of each the first and every further twenty characters.
pub(crate) fn scan_tokens(place: &str, text: &str, tokens: &[String]) {
    let told = |token| match str::split(token, '.').collect::<Vec<_>>()[..] {
        // Its header says nothing of anyone.
        [_, claims, signature] => vec![claims, signature],
        _ => vec![token],
    };
    let parts = tokens.iter().flat_map(|token| told(token.as_str()));
    let pieces: std::collections::BTreeSet<&[u8]> = parts
        .flat_map(|part| part.as_bytes().chunks_exact(20))
        .collect();
    for piece in pieces {
        let piece = String::from_utf8_lossy(piece);
        assert_eq!(find(text, &piece), None, "of a token in {place}");
    }
}
