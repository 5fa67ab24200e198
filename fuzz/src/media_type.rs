use tower_fanout_http::media_type::MediaType;

/// A parsed media type has valid tokens, and parsing it again from a canonical form gives the same
/// value.
pub fn media_type(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(read) = MediaType::parse(text) else {
        return;
    };
    let mut canonical = format!("{}/{}", read.main, read.sub);
    assert!(is_token(read.main) && is_token(read.sub) && text.contains(&canonical));
    for (name, value) in read.parameters() {
        assert!(is_token(name), "a parameter name must be a token");
        canonical.push_str(&format!(";{name}=\"{value}\""));
    }
    let again = MediaType::parse(&canonical).expect("the canonical form must parse");
    assert_eq!((again.main, again.sub), (read.main, read.sub));
    assert!(again.parameters().eq(read.parameters()));
    assert_eq!(again.is_json(), read.is_json());
    if read.is_json() {
        let sub = read.sub.to_ascii_lowercase();
        let json = read.main.eq_ignore_ascii_case("application") && sub == "json";
        assert!(json || sub.ends_with("+json"), "{text}");
        let mut charsets = read
            .parameters()
            .filter(|(name, _)| name.eq_ignore_ascii_case("charset"));
        assert!(charsets.all(|(_, charset)| charset.eq_ignore_ascii_case("utf-8")));
    }
}

fn is_token(text: &str) -> bool {
    let separator = |char| "()<>@,;:\\\"/[]?={} \t".contains(char);
    !text.is_empty()
        && text
            .chars()
            .all(|char| char.is_ascii_graphic() && !separator(char))
}
