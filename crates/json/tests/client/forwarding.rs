//! Tests of the headers that the client forwards in requests and responses.

use bytes::Bytes;
use http::Request;
use tower::ServiceExt;
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{at, client, get};

#[tokio::test]
async fn fault_i8_i10_reuses_connections_and_drops_hop_by_hop_headers() {
    let server = FaultServer::start(Fault::json("{}")).await;
    let client = at(&format!("{}/base/", server.url()), |_| {});
    for _ in 0..3 {
        let request = Request::post("/users?id=7")
            .header("host", "elsewhere")
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("te", "trailers")
            .header("proxy-authorization", "Basic secret")
            .header("content-length", "999")
            .header("expect", "100-continue")
            .header("x-kept", "1")
            .body(Bytes::from_static(b"[1]"))
            .unwrap();
        client.clone().oneshot(request).await.unwrap();
    }
    let seen = server.stats();
    assert_eq!((seen.requests.len(), seen.connections), (3, 1));
    let request = &seen.requests[0];
    assert_eq!(
        (&*request.method, &*request.path),
        ("POST", "/base/users?id=7")
    );
    assert_eq!(request.body, b"[1]");
    let host = server.addr().to_string();
    for (name, value) in [
        ("host", Some(&*host)),
        ("content-length", Some("3")),
        ("accept", Some("application/json")),
        ("x-kept", Some("1")),
        ("connection", None),
        ("x-hop", None),
        ("te", None),
        ("proxy-authorization", None),
        ("expect", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn fault_i8_drops_hop_by_hop_headers_of_responses() {
    let headers = [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("x-kept", "1"),
    ];
    let server = FaultServer::start(Fault::response(200, &headers, "{}")).await;
    let response = client(&server).oneshot(get("/")).await.unwrap();
    let mut names: Vec<_> = response
        .headers()
        .keys()
        .map(|name| name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "x-kept"]);
}
