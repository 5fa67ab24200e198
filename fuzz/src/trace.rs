use std::collections::HashSet;

use http::{HeaderMap, HeaderValue};
use tower_fanout_http::trace::{BAGGAGE, TRACEPARENT, TRACESTATE, TraceContext};

/// The baggage keys that are allowed to be forwarded.
const KEYS: [&str; 2] = ["a", "b"];

/// Forwarded trace headers are valid, contain only received members, and parse to the same context.
///
/// The first line of the input is `traceparent`. The following lines are `tracestate` and `baggage` in
/// turn.
pub fn trace(data: &[u8]) {
    let headers = headers(data);
    let keys = KEYS.map(Into::into);
    let context = TraceContext::read(&headers).with_baggage(&headers, &keys);
    let parent = headers.get(TRACEPARENT).map(HeaderValue::as_bytes);
    let parent = parent.and_then(parent_of);
    assert_eq!(context.parent_id().is_some(), parent.is_some());
    if let (Some([trace, parent]), Some(own)) = (parent, context.parent_id()) {
        assert_eq!(context.trace_id().to_string().as_bytes(), trace);
        assert_eq!(own.to_string().as_bytes(), parent);
    }
    let sent_state = context.tracestate().map(|state| state.header_value());
    check_state(sent_state, parent.and(Some(&headers)));
    check_baggage(context.baggage(), &headers);

    let mut sent = HeaderMap::new();
    context.write(&mut sent);
    let again = TraceContext::read(&sent).with_baggage(&sent, &keys);
    assert_eq!(again.trace_id(), context.trace_id());
    assert_ne!(again.parent_id(), None);
    assert_eq!(again.flags(), context.flags());
    assert_eq!(again.tracestate(), context.tracestate());
    assert_eq!(again.baggage(), context.baggage());
}

fn headers(data: &[u8]) -> HeaderMap {
    let names = [TRACESTATE, BAGGAGE].into_iter().cycle();
    let names = std::iter::once(TRACEPARENT).chain(names);
    let mut headers = HeaderMap::new();
    for (name, line) in names.zip(data.split(|byte| *byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(line.trim_ascii()) {
            headers.append(name, value);
        }
    }
    headers
}

/// Returns the trace id and the parent id of a valid `traceparent`.
fn parent_of(value: &[u8]) -> Option<[&[u8]; 2]> {
    let parts: Vec<_> = value.split(|byte| *byte == b'-').collect();
    let [version, trace, parent, flags, rest @ ..] = &*parts else {
        return None;
    };
    let hex = |text: &[u8], length| {
        let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len() == length && text.iter().all(digit)
    };
    let zero = |text: &[u8]| text.iter().all(|byte| *byte == b'0');
    let sized = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let known = *version != b"ff" && (*version != b"00" || rest.is_empty());
    (sized && known && !zero(trace) && !zero(parent)).then_some([*trace, *parent])
}

/// Returns the members, without surrounding whitespace and empty ones, of the lists in all `lines`.
fn members<'h>(lines: impl IntoIterator<Item = &'h HeaderValue>) -> Vec<&'h [u8]> {
    let lines = lines.into_iter().map(HeaderValue::as_bytes);
    let texts = lines.flat_map(|line| line.split(|byte| *byte == b','));
    let texts = texts.map(<[u8]>::trim_ascii);
    texts.filter(|text| !text.is_empty()).collect()
}

/// Returns the part of `member` before the first equals sign.
fn key(member: &[u8]) -> &[u8] {
    let end = member.iter().position(|byte| *byte == b'=');
    &member[..end.unwrap_or(member.len())]
}

/// Returns `true` if `member` is a valid `tracestate` member.
fn is_state(member: &[u8]) -> bool {
    let (key, rest) = member.split_at(key(member).len());
    let small = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_key = key.first().is_some_and(small)
        && key
            .iter()
            .all(|byte| small(byte) || b"_-*/@".contains(byte));
    let is_value = rest.len() > 1 && !rest[1..].iter().any(|byte| b",=".contains(byte));
    let visible = rest.iter().all(|byte| (b' '..=b'~').contains(byte));
    is_key && key.len() <= 256 && is_value && visible && rest.len() <= 257
}

/// Checks that `sent` has the received `tracestate` members in order: all of them up to 512 bytes, and
/// some of them otherwise. A list that is invalid or longer than 32 members is dropped.
///
/// `headers` is `None` if the received `traceparent` is invalid, because `tracestate` is then ignored.
fn check_state(sent: Option<&HeaderValue>, headers: Option<&HeaderMap>) {
    let all = headers.map_or(Vec::new(), |headers| members(headers.get_all(TRACESTATE)));
    let kept = members(sent);
    if all.len() > 32 || !all.iter().all(|member| is_state(member)) {
        return assert_eq!(sent, None, "an invalid tracestate must be dropped");
    }
    let mut seen = HashSet::new();
    let unique: Vec<_> = all
        .into_iter()
        .filter(|one| seen.insert(key(one)))
        .collect();
    let length = unique.join(&b',').len();
    assert!(sent.is_none_or(|sent| sent.len() <= 512 && !sent.is_empty()));
    if length <= 512 {
        return assert_eq!(kept, unique, "dropped a member although all fit");
    }
    let mut rest = unique.iter();
    assert!(
        kept.iter().all(|one| rest.any(|other| other == one)),
        "forwarded members must be received members in order"
    );
}

/// Checks that `sent` has only received members with an allowed key.
fn check_baggage(sent: Option<&HeaderValue>, headers: &HeaderMap) {
    let mut rest = members(headers.get_all(BAGGAGE)).into_iter();
    let kept = members(sent);
    assert!(sent.is_none_or(|sent| sent.len() <= 8192) && kept.len() <= 64);
    for member in kept {
        assert!(
            rest.any(|other| other == member),
            "forwarded members must be received members in order"
        );
        let key = key(member).trim_ascii();
        assert!(
            KEYS.iter().any(|own| own.as_bytes() == key),
            "forwarded a key that is not allowed"
        );
        assert!(member.is_ascii() && !member.contains(&b'"') && !member.contains(&b'\\'));
    }
}
