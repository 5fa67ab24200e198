//! Bodies that are, are not, or may be JSON (RFC 8259), as the body of a caller and of a service.
//!
//! Each case goes through a running gateway twice. The cases follow the questions of "Parsing JSON is a
//! Minefield": what the grammar allows, what it forbids, and what it leaves to the reader.
#![allow(missing_docs)]

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::*;
use http::{Request, Uri};
use tower::ServiceExt;
use tower_fanout_http::client::{Client, ClientConfig};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

/// Bodies that each reader must accept.
const ACCEPTED: &[&[u8]] = &[
    // Literals, alone and in white space.
    b"null",
    b"true",
    b"false",
    b" null",
    b"null ",
    b"\t\r\n null\n",
    b"[null,true,false]",
    // Numbers.
    b"0",
    b"-0",
    b"1",
    b"-1",
    b"10",
    b"1234567890",
    b"0.0",
    b"-0.0",
    b"1.5",
    b"-1.25",
    b"0.000001",
    b"1e1",
    b"1E1",
    b"1e+1",
    b"1e-1",
    b"1E+2",
    b"1.5e10",
    b"-1.5E-10",
    b"0e0",
    b"0e+00",
    b"1e007",
    b"0.1e0",
    b"[1,2.5,-3e4]",
    b"123456789012345678901234567890",
    b"-9223372036854775809",
    b"18446744073709551616",
    b"0.1234567890123456789012345",
    // Numbers that no float holds are kept as they are written.
    b"1e400",
    b"-1e400",
    b"1e-400",
    b"1E9999",
    b"100000000000000000000e-20",
    // Strings.
    b"\"\"",
    b"\"a\"",
    b"\" \"",
    b"\"\\\"\"",
    b"\"\\\\\"",
    b"\"\\/\"",
    b"\"/\"",
    b"\"\\b\\f\\n\\r\\t\"",
    b"\"\\u0000\"",
    b"\"\\u001f\"",
    b"\"\\u0022\"",
    b"\"\\u005c\"",
    b"\"\\u00e9\"",
    b"\"\\u20ac\"",
    b"\"\\uFFFF\"",
    b"\"\\uabCD\"",
    b"\"\\ud83d\\ude00\"",
    b"\"\\uDBFF\\uDFFF\"",
    b"\"\\\\u0041\"",
    b"\"\\\\\\\"\"",
    b"\"\x7f\"",
    "\"é\"".as_bytes(),
    "\"€\"".as_bytes(),
    "\"😀\"".as_bytes(),
    "\"\u{2028}\u{2029}\"".as_bytes(),
    "\"\u{feff}\"".as_bytes(),
    "\"\u{fffe}\u{ffff}\u{10ffff}\"".as_bytes(),
    "\"\u{80}\u{9f}\"".as_bytes(),
    b"\"'\"",
    b"\"// no comment /* */\"",
    b"\"{[\"",
    b"\"a,b:c\"",
    // Arrays.
    b"[]",
    b"[ ]",
    b"[\n]",
    b"[1]",
    b"[ 1 , 2 ]",
    b"[[]]",
    b"[[],[[]]]",
    b"[\"\",0,null,{}]",
    b"[1\n,2]",
    b"[\"a\"]",
    // Objects.
    b"{}",
    b"{ }",
    b"{\"a\":1}",
    b"{ \"a\" : 1 }",
    b"{\"\":0}",
    b"{\"a\":{},\"b\":[]}",
    b"{\"a\":{\"a\":{\"a\":null}}}",
    b"{\"a b\":1}",
    b"{\"\\u0061\":1}",
    b"{\"a.b\":1}",
    b"{\"0\":1}",
    b"{\"__proto__\":null}",
    b"{\n\"a\"\n:\n1\n}",
    "{\"é\":\"€\"}".as_bytes(),
    b"{\"a\":1,\"A\":2}",
];

/// Bodies that no reader may accept.
const REFUSED: &[&[u8]] = &[
    // Not a value.
    b" ",
    b"\n",
    b"nul",
    b"nulll",
    b"Null",
    b"TRUE",
    b"True",
    b"fals",
    b"undefined",
    b"NaN",
    b"nan",
    b"Infinity",
    b"-Infinity",
    b"inf",
    b"a",
    b"'a'",
    b"`a`",
    b"\xe9",
    b"\0",
    b"null\0",
    b"\0null",
    b"#",
    b"*",
    b"--",
    // More than a value.
    b"1 2",
    b"null null",
    b"{}{}",
    b"[][]",
    b"{}[]",
    b"[]]",
    b"{}}",
    b"1]",
    b"\"a\"\"b\"",
    b"1,",
    b",1",
    b"{},",
    b"[1];",
    b"{} x",
    b"1//",
    b"1/**/",
    b"/**/1",
    b"//\n1",
    b"# c\n1",
    // Numbers.
    b"+1",
    b"01",
    b"-01",
    b"00",
    b"0x1",
    b"0b1",
    b"0o7",
    b"1.",
    b".5",
    b"-.5",
    b"-",
    b"+",
    b"1e",
    b"1e+",
    b"1e-",
    b"1ee1",
    b"1e1.5",
    b"1.e1",
    b"1.2.3",
    b"1_000",
    b"1 000",
    b"0e",
    b"0.e1",
    b"-a",
    b"- 1",
    b"1a",
    b"1e1e1",
    b"0x",
    b"[1.]",
    b"[01]",
    b"1f",
    b"1n",
    b"$1",
    "１".as_bytes(),
    "١".as_bytes(),
    "−1".as_bytes(),
    "½".as_bytes(),
    // Strings.
    b"\"",
    b"\"a",
    b"a\"",
    b"\"\\\"",
    b"\"\\a\"",
    b"\"\\x41\"",
    b"\"\\0\"",
    b"\"\\'\"",
    b"\"\\u\"",
    b"\"\\u1\"",
    b"\"\\u12\"",
    b"\"\\u123\"",
    b"\"\\u123g\"",
    b"\"\\U0041\"",
    b"\"\\u{41}\"",
    b"\"\\u 041\"",
    b"\"\\u+041\"",
    b"\"\\\n\"",
    b"\"\n\"",
    b"\"\r\"",
    b"\"\t\"",
    b"\"\0\"",
    b"\"\x1f\"",
    b"\"\x08\"",
    b"\"\\",
    b"\"\\u00",
    b"\"a\\\"",
    // Bytes that are not UTF-8: lone, overlong, surrogates, above the last character, cut short.
    b"\"\x80\"",
    b"\"\xff\"",
    b"\"\xfe\"",
    b"\"\xc0\xaf\"",
    b"\"\xc1\xbf\"",
    b"\"\xe0\x80\xaf\"",
    b"\"\xed\xa0\x80\"",
    b"\"\xed\xbf\xbf\"",
    b"\"\xf4\x90\x80\x80\"",
    b"\"\xf8\x88\x80\x80\x80\"",
    b"\"\xe2\x82\"",
    b"\"\xf0\x9f\x98\"",
    b"\"\xc3\"",
    b"{\"\xe9\":1}",
    b"\xc3\xa9",
    // Byte order marks and other encodings.
    b"\xef\xbb\xbf{}",
    b"\xef\xbb\xbf",
    b"\xff\xfe{\0}\0",
    b"\xfe\xff\0{\0}",
    b"{\0}\0",
    b"\0{\0}",
    // White space that JSON does not know.
    b"\x0c1",
    b"\x0b1",
    b"\xa01",
    "\u{a0}1".as_bytes(),
    "\u{2003}1".as_bytes(),
    "1\u{2028}".as_bytes(),
    b"[1,\x0c2]",
    // Arrays.
    b"[",
    b"]",
    b"[1",
    b"1]",
    b"[1,",
    b"[,",
    b"[,1]",
    b"[1,]",
    b"[1,,2]",
    b"[1 2]",
    b"[1;2]",
    b"[1:2]",
    b"[\"a\":1]",
    b"[}",
    b"{]",
    b"[1}",
    b"[[]",
    b"[]]",
    b"[a]",
    b"[\"a]",
    b"[-]",
    b"[1,\n",
    b"[*]",
    b"(1)",
    b"[1,2",
    b"<1>",
    b"[...]",
    // Objects.
    b"{",
    b"}",
    b"{\"a\"",
    b"{\"a\":",
    b"{\"a\":1",
    b"{\"a\":1,",
    b"{\"a\":1,}",
    b"{,}",
    b"{,\"a\":1}",
    b"{\"a\"}",
    b"{\"a\",1}",
    b"{\"a\":}",
    b"{\"a\" 1}",
    b"{\"a\":1 \"b\":2}",
    b"{\"a\":1,,\"b\":2}",
    b"{\"a\"::1}",
    b"{:1}",
    b"{a:1}",
    b"{'a':1}",
    b"{1:1}",
    b"{null:1}",
    b"{[]:1}",
    b"{{}}",
    b"{\"a\":1;\"b\":2}",
    b"{\"a\"=1}",
    b"{\"a\":1]",
    b"{\"a\":a}",
    b"{\"a\":\"b}",
    b"{\"a\":+1}",
    b"{\"a\":NaN}",
    b"{\"a\":'b'}",
    b"{\"a\":/*c*/1}",
    b"{\"a\":1}//",
    b"{\"a\":1}#",
    b"{\"a\":01}",
    b"{\"a\\\":1}",
    b"{...a}",
    b"{\"a\":(1)}",
];

/// Bodies about which the grammar and readers differ, or that are a matter of limits. The gateway must answer
/// and stay alive.
const EITHER: &[&[u8]] = &[
    // Lone surrogates are in the grammar, but are no characters.
    b"\"\\ud800\"",
    b"\"\\udc00\"",
    b"\"\\ude00\\ud83d\"",
    b"\"\\ud800\\ud800\"",
    b"\"\\ud800a\"",
    b"\"\\uD800\\n\"",
    b"{\"\\ud800\":1}",
    // Duplicate members.
    b"{\"a\":1,\"a\":2}",
    b"{\"a\":1,\"\\u0061\":2}",
];

fn generated() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat().into_bytes();
    let members = |depth: usize| {
        ["{\"a\":".repeat(depth), "1".into(), "}".repeat(depth)]
            .concat()
            .into_bytes()
    };
    // The envelope adds levels to the response of a service, so the limit itself is for other tests.
    let accepted = vec![
        nested(32),
        members(32),
        format!("\"{}\"", "a".repeat(100_000)).into_bytes(),
        "9".repeat(10_000).into_bytes(),
        format!("[{}1]", "1,".repeat(10_000)).into_bytes(),
        format!("{}1{}", " ".repeat(10_000), "\n".repeat(10_000)).into_bytes(),
        format!("\"{}\"", "\\u0041".repeat(10_000)).into_bytes(),
    ];
    let refused = vec![
        nested(65),
        members(65),
        nested(100_000),
        "[".repeat(100_000).into_bytes(),
        "{\"a\":".repeat(50_000).into_bytes(),
        "[{\"a\":".repeat(50_000).into_bytes(),
        format!("\"{}", "a".repeat(100_000)).into_bytes(),
        format!("\"{}\"", "\\".repeat(99_999)).into_bytes(),
        format!("{}e", "9".repeat(10_000)).into_bytes(),
    ];
    (accepted, refused)
}

/// A gateway with the route `/caller`, which reads the body, and `/service`, which calls a service.
struct Fixture {
    client: Client,
    answer: Arc<Mutex<Bytes>>,
    _gateway: Gateway,
    _service: FaultServer,
}

impl Fixture {
    async fn new() -> Self {
        let answer = Arc::new(Mutex::new(Bytes::from_static(b"{}")));
        let current = Arc::clone(&answer);
        let service = FaultServer::from_fn(move |_| {
            let headers = [("content-type", "application/json")];
            Fault::response(200, &headers, current.lock().unwrap().clone())
        })
        .await;
        let gateway = Gateway::from_text(&format!(
            "version: 1
policies: {{ p: {{ retry: off, circuit_breaker: off }} }}
downstreams: {{ up: {{ endpoints: [{{ url: \"{}\" }}], policy: p }} }}
routes:
  - name: caller
    match: {{ method: POST, path: /caller }}
    plan: {{ up: {{ downstream: up, required: true, request: {{ path: /, query: {{ q: \"{{body.q|none}}\" }} }} }} }}
  - name: service
    match: {{ path: /service }}
    plan: {{ up: {{ downstream: up, required: true, request: {{ path: / }} }} }}
",
            service.url()
        ))
        .await;
        let endpoint: Uri = format!("http://{}", gateway.addr).parse().unwrap();
        let client = Client::new(&endpoint, ClientConfig::default()).unwrap();
        Self {
            client,
            answer,
            _gateway: gateway,
            _service: service,
        }
    }

    /// Sends `body` as a caller. Returns `true` if it is accepted, and `false` if it is refused as JSON.
    async fn accepts_from_caller(&self, body: &[u8]) -> bool {
        let request = Request::post("/caller").header("content-type", "application/json");
        let request = request.body(Bytes::copy_from_slice(body)).unwrap();
        let response = self.client.clone().oneshot(request).await.unwrap();
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        match response.status().as_u16() {
            200 => true,
            400 if text.contains("\"malformed_json\"") => false,
            status => panic!("{status} {text}: {}", shown(body)),
        }
    }

    /// Makes the service respond with `body`. Returns `true` if it is passed on byte for byte, and `false` if
    /// it is refused as JSON.
    async fn accepts_from_service(&self, body: &[u8]) -> bool {
        *self.answer.lock().unwrap() = Bytes::copy_from_slice(body);
        let request = Request::get("/service").body(Bytes::new()).unwrap();
        let response = self.client.clone().oneshot(request).await.unwrap();
        let text = response.body().clone();
        *self.answer.lock().unwrap() = Bytes::from_static(b"{}");
        match response.status().as_u16() {
            200 => {
                let value = [b"\"data\":", body.trim_ascii()].concat();
                assert!(
                    text.windows(value.len()).any(|part| part == value),
                    "{}",
                    shown(body)
                );
                true
            }
            502 if String::from_utf8_lossy(&text).contains("\"kind\":\"bad_json\"") => false,
            status => panic!("{status} {}: {}", shown(&text), shown(body)),
        }
    }
}

fn shown(body: &[u8]) -> String {
    body.iter()
        .take(100)
        .flat_map(|byte| std::ascii::escape_default(*byte))
        .map(char::from)
        .collect()
}

#[tokio::test]
async fn fault_e22_json_of_callers_and_services_is_judged_by_rfc_8259() {
    let fixture = Fixture::new().await;
    let (accepted, refused) = generated();
    let listed = |list: &'static [&'static [u8]]| list.iter().map(|body| body.to_vec());
    let accepted = listed(ACCEPTED)
        .chain(accepted)
        .map(|body| (body, Some(true)));
    let refused = listed(REFUSED)
        .chain(refused)
        .map(|body| (body, Some(false)));
    let either = listed(EITHER).map(|body| (body, None));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (body, expected) in accepted.chain(refused).chain(either) {
        let caller = fixture.accepts_from_caller(&body).await;
        let service = fixture.accepts_from_service(&body).await;
        let agreed = caller == service && expected.is_none_or(|expected| expected == caller);
        if !agreed {
            wrong.push(format!(
                "{}: caller {caller}, service {service}",
                shown(&body)
            ));
        }
        count += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    println!("{count} bodies");
    assert!(count > 300, "{count}");
}
