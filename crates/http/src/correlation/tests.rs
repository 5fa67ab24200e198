use std::{
    convert::Infallible,
    sync::atomic::{AtomicUsize, Ordering},
};

use http::{HeaderMap, Request, Response};
use proptest::prelude::*;
use tower::{Layer, ServiceExt, service_fn};
use uuid::Uuid;

use super::{inbound::inbound, *};

/// Results of one call: the ids that the inner service received, and the id on the response.
struct Passed {
    id: String,
    client: Option<ClientRequestId>,
    response_id: String,
}

async fn pass(layer: CorrelationLayer, headers: &[(HeaderName, &[u8])]) -> Passed {
    let mut request = Request::new(());
    for (name, value) in headers {
        let value = HeaderValue::from_bytes(value).unwrap();
        request.headers_mut().append(name, value);
    }
    let service = layer.layer(service_fn(|request: Request<()>| async move {
        assert_eq!(request.headers().get_all(CORRELATION_ID).iter().count(), 1);
        assert!(!request.headers().contains_key(REQUEST_ID));
        let id: &CorrelationId = request.extensions().get().unwrap();
        assert_eq!(request.headers()[CORRELATION_ID], id.as_str());
        Ok::<_, Infallible>(Response::new(request))
    }));
    let response = service.oneshot(request).await.unwrap();
    let (parts, request) = response.into_parts();
    Passed {
        id: request.headers()[CORRELATION_ID]
            .to_str()
            .unwrap()
            .to_owned(),
        client: request.extensions().get().cloned(),
        response_id: parts.headers[CORRELATION_ID].to_str().unwrap().to_owned(),
    }
}

async fn id_of(layer: CorrelationLayer, headers: &[(HeaderName, &[u8])]) -> String {
    pass(layer, headers).await.id
}

/// Returns the reason for replacing the id `value`, or `None` if it is kept.
fn replaced(value: &[u8]) -> Option<Replaced> {
    let mut headers = HeaderMap::new();
    headers.insert(CORRELATION_ID, HeaderValue::from_bytes(value).unwrap());
    let precedence = [CORRELATION_ID, REQUEST_ID];
    let read = inbound(&headers, &precedence).expect("the request has an id");
    assert!(read.as_ref().map_or(true, |id| id.0 == value));
    read.err()
}

#[tokio::test]
async fn fault_c1_assigns_a_new_id_to_a_request_without_one() {
    let first = pass(CorrelationLayer::default(), &[]).await;
    assert_eq!(first.id, first.response_id);
    assert_eq!(Uuid::parse_str(&first.id).unwrap().get_version_num(), 7);
    assert_ne!(first.id, id_of(CorrelationLayer::default(), &[]).await);
}

#[tokio::test]
async fn fault_c2_keeps_a_valid_id_from_either_header() {
    for name in [CORRELATION_ID, REQUEST_ID] {
        let passed = pass(CorrelationLayer::default(), &[(name, b"order:7")]).await;
        assert_eq!((&*passed.id, &*passed.response_id), ("order:7", "order:7"));
    }
    for id in ["9", "a", "Z", "a-", "0.", "1::ffff:a", "x_y"] {
        assert_eq!(replaced(id.as_bytes()), None, "{id}");
    }
    assert_eq!(replaced(&[b'a'; 128]), None);
}

#[test]
fn fault_c18_replaces_an_id_that_begins_with_punctuation() {
    for id in [
        ".", "_", ":", "-", "-1", "--help", "..", "::ffff:a", "_a", ".env",
    ] {
        assert_eq!(replaced(id.as_bytes()), Some(Replaced::Charset), "{id}");
    }
}

/// Values that have caused trouble elsewhere: markup, commands, queries, paths, escapes, other scripts
/// and invisible characters. All must be replaced.
const NASTY: [&str; 60] = [
    " ",
    "  leading",
    "a b",
    "a\tb",
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' OR '1'='1",
    "1; DROP TABLE users--",
    "\" or \"\"=\"",
    "`id`",
    "$(id)",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}}",
    "#{7*7}",
    "<%= 7*7 %>",
    "|cat /etc/passwd",
    "; ls -la",
    "&& true",
    "../../etc/passwd",
    "..\\..\\windows\\win.ini",
    "file:///etc/passwd",
    "%2e%2e%2f",
    "%0d%0aset-cookie:a=b",
    "%00",
    "\\r\\nx: y",
    "\\u000d\\u000a",
    "\\x1b[31m",
    "%s%s%s%n",
    "%d{0}",
    "*",
    "?",
    "a?b=c",
    "a#b",
    "a&b",
    "a=b",
    "a,b",
    "a;b",
    "a/b",
    "a\\b",
    "a|b",
    "a@b",
    "a+b",
    "a~b",
    "a!b",
    "a^b",
    "(a)",
    "[a]",
    "{\"a\":1}",
    "=cmd|'/C calc'!A0",
    "null ",
    "caf\u{e9}",
    "\u{201c}quoted\u{201d}",
    "\u{202e}gnp.exe",
    "\u{200b}",
    "\u{feff}bom",
    "\u{5b57}\u{5316}\u{3051}",
    "\u{1f4a9}",
    "Z\u{351}\u{36b}a\u{321}lgo",
    "\u{661}\u{662}\u{663}",
    "\u{ff21}\u{ff22}",
];

#[tokio::test]
async fn fault_c3_replaces_an_invalid_id_and_reports_the_reason() {
    static COUNTED: AtomicUsize = AtomicUsize::new(0);
    let layer = CorrelationLayer::default().on_replaced(|reason| {
        assert_eq!(reason, Replaced::Charset);
        COUNTED.fetch_add(1, Ordering::Relaxed);
    });
    for nasty in NASTY {
        let id = id_of(layer, &[(CORRELATION_ID, nasty.as_bytes())]).await;
        assert!(Uuid::parse_str(&id).is_ok(), "{nasty:?} became {id:?}");
    }
    assert_eq!(COUNTED.load(Ordering::Relaxed), NASTY.len());
    for (id, reason) in [
        (&b""[..], Replaced::Length),
        (&[b'a'; 129], Replaced::Length),
        (&[b'<'; 4000], Replaced::Length),
        (b"\xff\xfe", Replaced::Charset),
        (b"a\x80", Replaced::Charset),
    ] {
        assert_eq!(replaced(id), Some(reason), "{id:?}");
    }
    let names = Replaced::ALL.iter().map(|reason| reason.as_str());
    assert!(names.eq(["charset", "length", "duplicate"]));
}

#[test]
fn fault_c3_refuses_control_characters() {
    for raw in [&b"\x1b[2J"[..], b"a\nb", b"a\r\nx: y", b"\x07", b"\x00"] {
        let text = std::str::from_utf8(raw).unwrap();
        assert_eq!(CorrelationId::parse(text), None, "{text:?}");
    }
}

#[tokio::test]
async fn fault_c5_replaces_two_different_ids() {
    static COUNTED: AtomicUsize = AtomicUsize::new(0);
    let layer = CorrelationLayer::default().on_replaced(|reason| {
        assert_eq!(reason, Replaced::Duplicate);
        COUNTED.fetch_add(1, Ordering::Relaxed);
    });
    for name in [CORRELATION_ID, REQUEST_ID] {
        let two = [(name.clone(), b"a".as_slice()), (name.clone(), b"b")];
        assert!(Uuid::parse_str(&id_of(layer, &two).await).is_ok());
        let same = [(name.clone(), b"a".as_slice()), (name, b"a")];
        assert_eq!(id_of(layer, &same).await, "a");
    }
    assert_eq!(COUNTED.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn fault_c6_reads_only_the_preferred_of_two_headers() {
    let both = [
        (REQUEST_ID, b"theirs".as_slice()),
        (CORRELATION_ID, b"ours"),
    ];
    let request_id_first =
        CorrelationLayer::new(CorrelationConfig::default().request_id_first(true));
    assert_eq!(id_of(CorrelationLayer::default(), &both).await, "ours");
    assert_eq!(id_of(request_id_first, &both).await, "theirs");
    assert_eq!(id_of(request_id_first, &both[1..]).await, "ours");
    let unusable = [(REQUEST_ID, b"other".as_slice()), (CORRELATION_ID, b"<")];
    let id = id_of(CorrelationLayer::default(), &unusable).await;
    assert!(
        Uuid::parse_str(&id).is_ok(),
        "the other header must not be used: {id}"
    );
}

#[tokio::test]
async fn fault_c7_untrusted_ids_are_replaced_and_kept_for_the_log() {
    let layer = CorrelationLayer::new(CorrelationConfig::default().trust(false));
    let valid = pass(layer, &[(CORRELATION_ID, b"order-7")]).await;
    assert!(Uuid::parse_str(&valid.id).is_ok());
    assert_eq!(valid.id, valid.response_id);
    assert_eq!(valid.client.unwrap().to_string(), "order-7");
    let nasty = [(REQUEST_ID, b"a\tb\xff\xe2\x80\xae".as_slice())];
    let shown = pass(layer, &nasty).await.client.unwrap().to_string();
    assert_eq!(shown, "a\\tb\u{fffd}\\u{202e}");
    let long = pass(layer, &[(REQUEST_ID, &[b'x'; 1000])]).await;
    assert_eq!(long.client.unwrap().to_string().chars().count(), 257);
    assert!(pass(layer, &[]).await.client.is_none());
}

#[tokio::test]
async fn fault_c16_handles_two_requests_with_the_same_id_independently() {
    let (enter, entered) = (tokio::sync::Barrier::new(2), AtomicUsize::new(0));
    let service = CorrelationLayer::default().layer(service_fn(|_: Request<()>| async {
        enter.wait().await;
        Ok::<_, Infallible>(Response::new(entered.fetch_add(1, Ordering::Relaxed)))
    }));
    let request = || Request::builder().header(CORRELATION_ID, "same");
    let call = || service.oneshot(request().body(()).unwrap());
    let (first, second) = tokio::join!(call(), call());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(
        first.body(),
        second.body(),
        "each request has its own response"
    );
    assert_eq!(first.headers()[CORRELATION_ID], "same");
    assert_eq!(second.headers()[CORRELATION_ID], "same");
}

/// A second implementation of the rule, as an oracle.
fn is_valid(id: &[u8]) -> bool {
    let allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-";
    let starts = id.first().is_some_and(u8::is_ascii_alphanumeric);
    starts && id.len() <= 128 && id.iter().all(|byte| allowed.as_bytes().contains(byte))
}

/// Generates bytes that are allowed in a header value.
fn header_byte() -> impl Strategy<Value = u8> {
    prop_oneof![Just(b'\t'), b' '..=b'~', 0x80..=0xff_u8]
}

proptest! {
    #[test]
    fn fault_c2_keeps_every_valid_id(id in "[A-Za-z0-9][A-Za-z0-9._:-]{0,127}") {
        let kept = CorrelationId::parse(&id).unwrap();
        prop_assert_eq!(kept.as_str(), &id);
        prop_assert_eq!(replaced(id.as_bytes()), None);
    }

    #[test]
    fn fault_c3_replaces_every_invalid_id(id in prop::collection::vec(header_byte(), 0..200)) {
        prop_assert_eq!(replaced(&id).is_none(), is_valid(&id));
    }

    #[test]
    fn fault_c3_replaces_an_id_with_one_invalid_character(
        before in "[A-Za-z0-9._:-]{0,63}", bad in "[^A-Za-z0-9._:\\x00-\\x1f\\x7f-]", after in "[A-Za-z0-9._:-]{0,60}",
    ) {
        let id = format!("{before}{bad}{after}");
        prop_assert_eq!(replaced(id.as_bytes()), Some(Replaced::Charset));
    }

    #[test]
    fn fault_c15_every_accepted_id_is_a_valid_header_value(id in "[A-Za-z0-9._:-]{1,130}|\\PC{0,200}") {
        if let Some(accepted) = CorrelationId::parse(&id) {
            let header = accepted.header_value();
            prop_assert_eq!(header.to_str().unwrap(), &id);
            prop_assert!(is_valid(id.as_bytes()));
        }
    }
}
