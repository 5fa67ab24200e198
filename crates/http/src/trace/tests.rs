//! The cases of the W3C test suite, under their names there, and further requirements of the standards.

use std::convert::Infallible;

use http::Request;
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};

use super::*;

const TRACE: &str = "12345678901234567890123456789012";
const PARENT: &str = "00-12345678901234567890123456789012-1234567890123456-00";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        // HTTP servers strip the whitespace around a header value.
        let value = value.trim_matches([' ', '\t']);
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// Returns the headers of a downstream call for a request with the header `lines`.
async fn sent(layer: TraceLayer, lines: &[(&str, &str)]) -> HeaderMap {
    let service = layer.layer(service_fn(|request: Request<()>| async move {
        for name in [TRACEPARENT, TRACESTATE, BAGGAGE] {
            assert!(
                !request.headers().contains_key(name),
                "the trace headers must be removed from the request"
            );
        }
        let mut sent = HeaderMap::new();
        let context: &TraceContext = request.extensions().get().unwrap();
        context.write(&mut sent);
        Ok::<_, Infallible>(sent)
    }));
    let mut request = Request::new(());
    *request.headers_mut() = headers(lines);
    service.oneshot(request).await.unwrap()
}

fn traceparent(sent: &HeaderMap) -> Traceparent {
    assert_eq!(sent.get_all(TRACEPARENT).iter().count(), 1);
    Traceparent::parse(sent[TRACEPARENT].as_bytes()).expect("the sent `traceparent` is valid")
}

/// Returns `true` if the trace of `lines` is continued. The parent id must be new in any case.
async fn continues_trace(lines: &[(&str, &str)]) -> bool {
    let sent = traceparent(&sent(TraceLayer::new(), lines).await);
    assert_ne!(sent.parent_id.to_string(), "1234567890123456");
    assert_ne!(sent.parent_id.to_string(), "0000000000000000");
    sent.trace_id.to_string() == TRACE
}

/// Returns the `tracestate` of a downstream call for a request with these `tracestate` lines.
async fn tracestate(lines: &[&str]) -> Option<String> {
    let mut all = vec![("traceparent", PARENT)];
    all.extend(lines.iter().map(|line| ("tracestate", *line)));
    let sent = sent(TraceLayer::new(), &all).await;
    assert_eq!(traceparent(&sent).trace_id.to_string(), TRACE);
    let value = sent.get(TRACESTATE)?;
    Some(value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn fault_c8_continues_a_valid_trace_with_a_new_parent_id() {
    assert!(
        continues_trace(&[("traceparent", PARENT)]).await,
        "test_traceparent_included"
    );
    for name in ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"] {
        assert!(
            continues_trace(&[(name, PARENT)]).await,
            "header_name_valid_casing"
        );
    }
    for spaced in [
        format!(" {PARENT}"),
        format!("\t{PARENT}"),
        format!("{PARENT} "),
        format!("{PARENT}\t"),
        format!("\t {PARENT} \t"),
    ] {
        assert!(
            continues_trace(&[("traceparent", &spaced)]).await,
            "ows_handling"
        );
    }
    let context = TraceContext::read(&headers(&[("traceparent", PARENT)]));
    assert_eq!(context.parent_id().unwrap().to_string(), "1234567890123456");
    let mut parents = std::collections::HashSet::new();
    for _ in 0..100 {
        let mut sent = HeaderMap::new();
        context.write(&mut sent);
        assert!(
            parents.insert(traceparent(&sent).parent_id),
            "multiple_requests"
        );
    }
}

#[tokio::test]
async fn fault_c8_continues_a_later_version_as_version_00() {
    let later = PARENT.replacen("00", "cc", 1);
    for value in [
        later.clone(),
        format!("{later}-what-the-future-will-be-like"),
    ] {
        assert!(
            continues_trace(&[("traceparent", &value)]).await,
            "version_0xcc {value}"
        );
    }
    let sent = sent(TraceLayer::new(), &[("traceparent", &later)]).await;
    assert!(sent[TRACEPARENT].as_bytes().starts_with(b"00-"));
}

#[tokio::test]
async fn fault_c8_keeps_the_defined_flags_and_clears_others() {
    for (flags, kept) in [
        ("00", "00"),
        ("01", "01"),
        ("02", "02"),
        ("03", "03"),
        ("ff", "03"),
        ("fc", "00"),
        ("05", "01"),
    ] {
        let value = format!("{}{flags}", &PARENT[..53]);
        let sent = sent(TraceLayer::new(), &[("traceparent", &value)]).await;
        assert_eq!(
            &sent[TRACEPARENT].as_bytes()[53..],
            kept.as_bytes(),
            "{flags}"
        );
    }
    let new = TraceContext::generate().flags();
    assert!(new == Flags::RANDOM && !new.is_sampled());
    assert!(Flags::SAMPLED.is_sampled());
}

/// Invalid values of `traceparent` with their case in the suite.
const INVALID: &str = "\
empty: 
no dashes: 00
version_0x00: 00-12345678901234567890123456789012-1234567890123456-01.
version_0x00: 00-12345678901234567890123456789012-1234567890123456-01-what-the-future-will-be-like
version_0x00: 00-12345678901234567890123456789012-1234567890123456-01-
version_0xcc: cc-12345678901234567890123456789012-1234567890123456-01.what-the-future-will-be-like
version_0xcc, too short: cc-12345678901234567890123456789012-1234567890123456-0
version_0xff: ff-12345678901234567890123456789012-1234567890123456-01
version_0xff: ff-12345678901234567890123456789012-1234567890123456-01-more
version_illegal_characters: .0-12345678901234567890123456789012-1234567890123456-01
version_illegal_characters: 0.-12345678901234567890123456789012-1234567890123456-01
version, upper case: CC-12345678901234567890123456789012-1234567890123456-01
version_too_long: 000-12345678901234567890123456789012-1234567890123456-01
version_too_long: 0000-12345678901234567890123456789012-1234567890123456-01
version_too_short: 0-12345678901234567890123456789012-1234567890123456-01
trace_id_all_zero: 00-00000000000000000000000000000000-1234567890123456-01
trace_id_illegal_characters: 00-.2345678901234567890123456789012-1234567890123456-01
trace_id_illegal_characters: 00-1234567890123456789012345678901.-1234567890123456-01
trace_id, upper case: 00-1234567890123456789012345678901A-1234567890123456-01
trace_id_too_long: 00-123456789012345678901234567890123-1234567890123456-01
trace_id_too_short: 00-1234567890123456789012345678901-1234567890123456-01
parent_id_all_zero: 00-12345678901234567890123456789012-0000000000000000-01
parent_id_illegal_characters: 00-12345678901234567890123456789012-.234567890123456-01
parent_id_illegal_characters: 00-12345678901234567890123456789012-123456789012345.-01
parent_id, upper case: 00-12345678901234567890123456789012-123456789012345F-01
parent_id_too_long: 00-12345678901234567890123456789012-12345678901234567-01
parent_id_too_short: 00-12345678901234567890123456789012-123456789012345-01
trace_flags_illegal_characters: 00-12345678901234567890123456789012-1234567890123456-.0
trace_flags_illegal_characters: 00-12345678901234567890123456789012-1234567890123456-0.
trace_flags, upper case: 00-12345678901234567890123456789012-1234567890123456-0A
trace_flags_too_long: 00-12345678901234567890123456789012-1234567890123456-001
trace_flags_too_short: 00-12345678901234567890123456789012-1234567890123456-1
no trace_flags: 00-12345678901234567890123456789012-1234567890123456-
other delimiter: 00_12345678901234567890123456789012-1234567890123456-01
other delimiter: 00-12345678901234567890123456789012_1234567890123456-01
other delimiter: 00-12345678901234567890123456789012-1234567890123456_01
a space within: 00-12345678901234567890123456789012-1234567890123456 -01
two in one line: 00-12345678901234567890123456789012-1234567890123456-01,00-12345678901234567890123456789012-1234567890123456-01";

#[tokio::test]
async fn fault_c9_starts_a_new_trace_without_tracestate_if_invalid() {
    assert_eq!(INVALID.lines().count(), 38);
    for line in INVALID.lines() {
        let (case, value) = line.split_once(": ").unwrap();
        let lines = [("traceparent", value), ("tracestate", "foo=1")];
        assert!(!continues_trace(&lines).await, "{case}: {value}");
        let sent = sent(TraceLayer::new(), &lines).await;
        assert!(!sent.contains_key(TRACESTATE), "{case}: {value}");
    }
    for value in [&b"\xff\xfe"[..], &[b'0'; 4000]] {
        assert_eq!(Traceparent::parse(value), None);
    }
}

#[tokio::test]
async fn fault_c9_starts_a_new_trace_if_missing_or_repeated() {
    assert!(
        !continues_trace(&[]).await,
        "both_traceparent_and_tracestate_missing"
    );
    let two = [("traceparent", PARENT), ("traceparent", PARENT)];
    assert!(!continues_trace(&two).await, "traceparent_duplicated");
    for name in ["trace-parent", "trace.parent"] {
        assert!(
            !continues_trace(&[(name, PARENT)]).await,
            "traceparent_header_name"
        );
    }
    let alone = sent(TraceLayer::new(), &[("tracestate", "foo=1,bar=2")]).await;
    assert!(
        !alone.contains_key(TRACESTATE),
        "tracestate_included_traceparent_missing"
    );
}

#[tokio::test]
async fn fault_c10_propagates_a_valid_tracestate_in_order() {
    let whole = |text: &str| Some(text.to_owned());
    for (case, lines, kept) in [
        ("traceparent_included", &["foo=1,bar=2"][..], "foo=1,bar=2"),
        ("empty_header", &["foo=1", ""], "foo=1"),
        ("empty_header", &["", "foo=1"], "foo=1"),
        ("empty members", &[",, foo=1,\t,", ",bar=2,"], "foo=1,bar=2"),
        (
            "multiple_headers_different_keys",
            &["foo=1,bar=2", "rojo=1,congo=2", "baz=3"],
            "foo=1,bar=2,rojo=1,congo=2,baz=3",
        ),
        (
            "ows_handling",
            &["foo=1 \t , \t bar=2, \t baz=3"],
            "foo=1,bar=2,baz=3",
        ),
        (
            "ows_handling",
            &["foo=1\t \t,\t \tbar=2,\t \tbaz=3"],
            "foo=1,bar=2,baz=3",
        ),
        ("ows_handling", &["\t foo=1 \t"], "foo=1"),
        (
            "leading spaces are part of a value",
            &["foo=  1"],
            "foo=  1",
        ),
        (
            "duplicated_keys: the first is the most recent",
            &["foo=1,foo=1"],
            "foo=1",
        ),
        (
            "duplicated_keys: the first is the most recent",
            &["foo=1", "bar=3,foo=2"],
            "foo=1,bar=3",
        ),
        (
            "tenants, level 2",
            &["foo@=1,foo@@bar=1,foo@bar@baz=1,1a=2"],
            "foo@=1,foo@@bar=1,foo@bar@baz=1,1a=2",
        ),
    ] {
        assert_eq!(tracestate(lines).await, whole(kept), "{case}");
    }
    let key: String = ('a'..='z')
        .chain('0'..='9')
        .chain("_-*/@".chars())
        .collect();
    let value: String = (' '..='~').filter(|char| !",=".contains(*char)).collect();
    let all = format!("{key}={value}");
    assert_eq!(
        tracestate(&[&all]).await,
        Some(all),
        "all_allowed_characters"
    );
    assert_eq!(tracestate(&["", ""]).await, None, "empty_header");
}

#[tokio::test]
async fn fault_c10_drops_a_list_with_an_invalid_member() {
    let long = "z".repeat(257);
    let (key, value) = (format!("{long}=1"), format!("a={long}"));
    for bad in [
        "foo =1",
        "FOO=1",
        "foo.bar=1",
        "@foo=1",
        "_foo=1",
        "-=1",
        "=1",
        "foo",
        "foo=",
        "foo=a=b",
        "foo=\u{e9}",
        "foo=a\tb",
        &key,
        &value,
    ] {
        assert_eq!(tracestate(&["ok=1", bad]).await, None, "{bad}");
        assert_eq!(tracestate(&[bad, "ok=1"]).await, None, "{bad}");
    }
    for name in ["trace-state", "trace.state"] {
        let sent = sent(
            TraceLayer::new(),
            &[("traceparent", PARENT), (name, "foo=1")],
        )
        .await;
        assert!(!sent.contains_key(TRACESTATE), "tracestate_header_name");
    }
}

#[tokio::test]
async fn fault_c10_drops_lists_of_33_members_and_shortens_long_lists() {
    let list = |count: usize| {
        let members: Vec<_> = (1..=count).map(|n| format!("bar{n:02}={n:02}")).collect();
        members.join(",")
    };
    assert_eq!(tracestate(&[&list(32)]).await, Some(list(32)));
    assert_eq!(tracestate(&[&list(33)]).await, None, "member_count_limit");
    assert_eq!(tracestate(&[&list(10), &list(33)[70..]]).await, None);

    let key = |length: usize| "z".repeat(length) + "=1";
    assert_eq!(
        tracestate(&["foo=1", &key(256)]).await,
        Some(format!("foo=1,{}", key(256)))
    );
    assert_eq!(
        tracestate(&["foo=1", &key(257)]).await,
        None,
        "key_length_limit"
    );

    let member = |key: &str, length: usize| format!("{key}={}", "v".repeat(length - 2));
    let (large, small) = (member("a", 129), |key: &str| member(key, 128));
    let (b, c, d, e) = (small("b"), small("c"), small("d"), small("e"));
    let cut = tracestate(&[&large, &b, &c, &d]).await;
    assert_eq!(
        cut,
        Some([&*b, &c, &d].join(",")),
        "large members are removed first"
    );
    let cut = tracestate(&[&b, &c, &d, &e]).await;
    assert_eq!(
        cut,
        Some([&*b, &c, &d].join(",")),
        "then members from the end"
    );
    let fits = [&*b, &c, &d, &member("e", 125)].join(",");
    assert_eq!((fits.len(), tracestate(&[&fits]).await), (512, Some(fits)));
    let alone = format!("{}={}", "k".repeat(256), "v".repeat(256));
    assert_eq!(
        tracestate(&[&alone]).await,
        None,
        "the only member is too long"
    );
}

/// Returns the `baggage` of a downstream call if the keys `a` and `b` are allowed.
async fn baggage(lines: &[&str]) -> Option<String> {
    let all: Vec<_> = lines.iter().map(|line| ("baggage", *line)).collect();
    let sent = sent(TraceLayer::new().baggage(["a", "b"]), &all).await;
    Some(sent.get(BAGGAGE)?.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn fault_c11_propagates_allowed_baggage_within_the_limits() {
    for (lines, kept) in [
        (&["a=1,secret=2,b=3"][..], Some("a=1,b=3")),
        (&["a=1;ttl=60;x , c=2", "b=%20"], Some("a=1;ttl=60;x,b=%20")),
        (&["a = 1 ; p = q"], Some("a = 1 ; p = q")),
        (&["a="], Some("a=")),
        (&["c=1"], None),
        (&["", " , "], None),
        (&["a", "b=\"q\"", "a=1;=2", "b=1;;", "a=1 2", "a b=1"], None),
    ] {
        assert_eq!(baggage(lines).await.as_deref(), kept, "{lines:?}");
    }
    let long = |length: usize| format!("a={}", "v".repeat(length - 2));
    assert_eq!(baggage(&[&long(8192)]).await, Some(long(8192)));
    assert_eq!(baggage(&[&long(8193)]).await, None);
    assert_eq!(
        baggage(&[&long(8000), &long(192)]).await,
        None,
        "the limit counts all lines"
    );
    let many = |count: usize| vec!["a=1"; count].join(",");
    assert_eq!(baggage(&[&many(64)]).await, Some(many(64)));
    assert_eq!(baggage(&[&many(65)]).await, None);
    let none = sent(TraceLayer::new(), &[("baggage", "a=1")]).await;
    assert!(
        !none.contains_key(BAGGAGE),
        "no baggage is propagated by default"
    );
}

#[tokio::test]
async fn untrusting_starts_a_new_trace_for_every_request() {
    let lines = [
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
        ("baggage", "a=1"),
    ];
    let sent = sent(TraceLayer::new().trust(false).baggage(["a"]), &lines).await;
    assert_ne!(traceparent(&sent).trace_id.to_string(), TRACE);
    assert_eq!(sent.len(), 1);
}

proptest! {
    #[test]
    fn fault_c9_traceparent_round_trips(
        trace in any::<u128>(), parent in any::<u64>(), flags in any::<u8>(),
    ) {
        let text = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
        let read = Traceparent::parse(text.as_bytes());
        prop_assert_eq!(read.is_some(), trace != 0 && parent != 0);
        if let Some(read) = read {
            let flags = flags & 3;
            let known = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
            prop_assert_eq!(read.header_value(), known);
        }
    }

    #[test]
    fn fault_c9_c10_c11_accepts_any_values_and_sends_valid_ones(
        parent in "[0-9a-f-]{53,57}|[ -~\\xe9]{0,80}",
        state in "[a-z0-9=, @\t\u{e9}]{0,600}",
        bag in "[ab=;,\"% \t]{0,200}",
    ) {
        let valid = HeaderValue::from_static(PARENT);
        for parent in [valid, HeaderValue::from_bytes(parent.as_bytes()).unwrap()] {
            let mut headers = headers(&[("tracestate", &state), ("baggage", &bag)]);
            headers.insert(TRACEPARENT, parent);
            let keys = ["a".into(), "b".into()];
            let context = TraceContext::read(&headers).with_baggage(&headers, &keys);
            let mut sent = HeaderMap::new();
            context.write(&mut sent);
            traceparent(&sent);
            prop_assert!(sent.get(TRACESTATE).is_none_or(|value| value.len() <= 512));
            let again = TraceContext::read(&sent).with_baggage(&sent, &keys);
            prop_assert_eq!(again.tracestate(), context.tracestate());
            prop_assert_eq!(again.baggage(), context.baggage());
        }
    }
}
