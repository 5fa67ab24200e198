use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_fanout_http::forwarded::{ForwardedHeader, ForwardedLayer};

const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

/// A client cannot change its address with forged headers, as long as the entries of the trusted
/// proxies can be read.
///
/// The input is the lines of `X-Forwarded-For`, and the same lines again as `Forwarded`.
pub fn proxies(data: &[u8]) {
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("valid CIDR"));
    let proxies = ForwardedLayer::new(networks);
    let is_proxy = |address: IpAddr| networks.iter().any(|network| network.contains(&address));
    for (name, header, forged) in [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor, "6.6.6.6"),
        ("forwarded", ForwardedHeader::Forwarded, "for=6.6.6.6"),
    ] {
        let name = HeaderName::from_static(name);
        let proxies = proxies.clone().header(header);
        let lines = data.split(|byte| *byte == b'\n');
        let lines: Vec<_> = lines
            .filter_map(|line| HeaderValue::from_bytes(line).ok())
            .collect();
        let with = |first: &[&str]| -> HeaderMap {
            let first = first
                .iter()
                .map(|value| HeaderValue::from_str(value).expect("valid header value"));
            first
                .chain(lines.iter().cloned())
                .map(|value| (name.clone(), value))
                .collect()
        };
        let client = proxies.client(PROXY, &with(&[]));
        assert_eq!(client, client.to_canonical());
        let last = lines.last().and_then(|line| line.to_str().ok());
        let last = last.and_then(|line| line.rsplit(',').next());
        let last = last.and_then(|text| text.trim().parse::<IpAddr>().ok());
        if let (Some(last), ForwardedHeader::XForwardedFor) = (last, header) {
            let last = last.to_canonical();
            assert!(
                is_proxy(last) || client == last,
                "the client must be the last entry unless that is a trusted proxy"
            );
        }
        if !is_proxy(client) {
            let forged = proxies.client(PROXY, &with(&[forged]));
            assert_eq!(forged, client, "a forged first entry changed the client");
        }
        assert_eq!(proxies.client(STRANGER, &with(&[forged])), STRANGER);
    }
}
