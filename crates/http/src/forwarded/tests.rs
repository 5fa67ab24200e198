//! Chains of proxies, and headers that clients in front of them forge.

use std::{convert::Infallible, net::Ipv4Addr};

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::Full;
use proptest::prelude::*;
use tower::{ServiceExt, service_fn};
use tower_fanout_testkit::laws::{Http, Laws};

use super::*;

fn trusted() -> ForwardedLayer {
    ForwardedLayer::new(["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap()))
}

fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    let values = lines
        .iter()
        .map(|line| HeaderValue::from_str(line).unwrap());
    values
        .map(|value| (name.clone(), value))
        .fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        })
}

fn client(proxies: &ForwardedLayer, peer: &str, lines: &[&str]) -> String {
    let headers = headers(&proxies.header.name(), lines);
    proxies.client(peer.parse().unwrap(), &headers).to_string()
}

#[test]
fn fault_d37_takes_the_first_untrusted_address_from_the_right() {
    for (peer, lines, expected) in [
        ("198.51.100.1", &["10.0.0.9"][..], "198.51.100.1"),
        ("10.0.0.1", &[], "10.0.0.1"),
        ("10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
        (
            "10.0.0.1",
            &["10.9.9.9, 203.0.113.7, 10.0.0.2"],
            "203.0.113.7",
        ),
        (
            "10.0.0.1",
            &["6.6.6.6, 203.0.113.7", "10.0.0.3,10.0.0.2"],
            "203.0.113.7",
        ),
        ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", &["6.6.6.6, <script>, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["6.6.6.6,, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", &["6.6.6.6, unknown"], "10.0.0.1"),
        ("10.0.0.1", &["203.0.113.7:80"], "203.0.113.7"),
        ("10.0.0.1", &["[2001:db8::7]:80"], "2001:db8::7"),
        ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
        ("fd00::1", &["2001:db8::7, ::ffff:10.0.0.2"], "2001:db8::7"),
        ("::ffff:10.0.0.1", &["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", &["203.0.113.7:99999"], "10.0.0.1"),
        ("10.0.0.1", &["010.0.0.2"], "10.0.0.1"),
    ] {
        assert_eq!(
            client(&trusted(), peer, lines),
            expected,
            "{peer} {lines:?}"
        );
    }
    assert_eq!(
        client(&ForwardedLayer::default(), "10.0.0.1", &["6.6.6.6"]),
        "10.0.0.1"
    );
}

#[test]
fn fault_d37_reads_the_for_parameter_of_forwarded() {
    let proxies = trusted().header(ForwardedHeader::Forwarded);
    for (lines, expected) in [
        (&["for=203.0.113.7"][..], "203.0.113.7"),
        (
            &["For=\"[2001:db8::7]:4711\";proto=https, for=10.0.0.2;by=10.0.0.1"],
            "2001:db8::7",
        ),
        (&["for=203.0.113.7;for=6.6.6.6"], "10.0.0.1"),
        (&["for=203.0.113.7, for=_hidden"], "10.0.0.1"),
        (&["for=203.0.113.7, proto=https"], "10.0.0.1"),
        (&["for=\"203.0.113.7"], "10.0.0.1"),
        // The client chooses the host that a proxy quotes. No part of the quoted value may count as an
        // element.
        (&["for=203.0.113.7;host=\"a, for=6.6.6.6;x=\""], "10.0.0.1"),
        (
            &["for=203.0.113.7;host=\"a, for=6.6.6.6;x=\\\"\""],
            "10.0.0.1",
        ),
        // An open quote from a client must not hide the elements to its right.
        (&["for=6.6.6.6;host=\", for=203.0.113.7"], "203.0.113.7"),
    ] {
        assert_eq!(client(&proxies, "10.0.0.1", lines), expected, "{lines:?}");
    }
}

/// Returns the client address and the header names that the inner service receives for a request from
/// `peer` with all proxy headers.
async fn seen(proxies: ForwardedLayer, peer: &str) -> (Option<ClientAddr>, Vec<HeaderName>) {
    let mut request = Request::new(());
    for name in &PROXY_HEADERS {
        let value = HeaderValue::from_static("203.0.113.7");
        request.headers_mut().insert(name, value);
    }
    if let Ok(address) = peer.parse() {
        request.extensions_mut().insert(PeerAddr(address));
    }
    let service = proxies.layer(service_fn(|request: Request<()>| async move {
        let names = request.headers().keys().cloned().collect();
        Ok::<_, Infallible>((request.extensions().get().copied(), names))
    }));
    service.oneshot(request).await.unwrap()
}

#[tokio::test]
async fn fault_d37_removes_proxy_headers_of_untrusted_peers() {
    let client = |text: &str| Some(ClientAddr(text.parse().unwrap()));
    assert_eq!(
        seen(trusted(), "198.51.100.1:9").await,
        (client("198.51.100.1"), vec![])
    );
    assert_eq!(seen(trusted(), "no peer").await, (None, vec![]));
    let (found, names) = seen(trusted(), "10.0.0.1:9").await;
    assert_eq!((found, names.len()), (client("203.0.113.7"), 5));
    assert!(!names.contains(&FORWARDED));
    let forwarded = trusted().header(ForwardedHeader::Forwarded);
    let (found, names) = seen(forwarded, "10.0.0.1:9").await;
    assert_eq!(found, client("10.0.0.1"));
    assert!(!names.contains(&X_FORWARDED_FOR));
}

#[tokio::test(start_paused = true)]
async fn forwarded_layer_keeps_the_laws() {
    let layer = trusted();
    Laws::new(Http::<Full<Bytes>>::new(), |inner| layer.layer(inner))
        .check()
        .await;
}

/// Generates a hop: the address of a trusted proxy, another address, or `None` for an invalid element.
fn hop() -> impl Strategy<Value = Option<IpAddr>> {
    let trusted = any::<[u8; 3]>().prop_map(|[b, c, d]| Some(Ipv4Addr::new(10, b, c, d).into()));
    let other = any::<Ipv6Addr>().prop_map(|address| Some(address.to_canonical()));
    prop_oneof![4 => trusted, 1 => other, 1 => Just(None)]
}

proptest! {
    #[test]
    fn fault_d37_matches_a_model_that_reads_the_whole_chain(
        peer in hop(), hops in prop::collection::vec((hop(), any::<bool>(), any::<bool>()), 0..9),
    ) {
        let Some(peer) = peer else { return Ok(()) };
        // The model takes the chain from the client to the peer and drops trusted proxies from its end.
        let chain: Vec<_> = hops.iter().map(|(hop, ..)| *hop).chain([Some(peer)]).collect();
        let readable = chain.iter().rposition(Option::is_none).map_or(0, |garbage| garbage + 1);
        let chain = &chain[readable..];
        let other = chain.iter().rposition(|hop| !hop.is_some_and(|hop| trusted().trusts(hop)));
        let expected = chain[other.unwrap_or(0)];

        let mut lines = vec![String::new()];
        for (hop, port, new_line) in &hops {
            let text = match hop {
                Some(address) if *port => SocketAddr::new(*address, 80).to_string(),
                Some(address) => address.to_string(),
                None => "?".into(),
            };
            match lines.last_mut() {
                Some(line) if line.is_empty() => *line = text,
                Some(line) if !new_line => *line = format!("{line}, {text}"),
                _ => lines.push(text),
            }
        }
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let read = trusted().client(peer, &headers(&X_FORWARDED_FOR, &lines));
        prop_assert_eq!(Some(read), expected);
    }

    #[test]
    fn fault_d37_ignores_any_header_of_untrusted_peers(text in "[ -~]{0,60}", peer: Ipv4Addr) {
        let peer = IpAddr::V4(peer);
        prop_assume!(!trusted().trusts(peer));
        prop_assert_eq!(trusted().client(peer, &headers(&X_FORWARDED_FOR, &[&text])), peer);
    }
}
