//! Tests that control the clock or inspect internals, and so run the gateway in their own process.

#[path = "../../tests/secrets/canaries.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod canaries;
#[path = "../../tests/common/client.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod client;
#[path = "../../tests/common/issuer.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod issuer;
mod keys;
#[path = "../../../../tests/common/mod.rs"]
mod net;
mod routes;
#[path = "../../tests/secrets/scan.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod scan;
mod seed;
#[path = "../../tests/common/stub.rs"]
#[allow(dead_code, reason = "the integration tests use the rest")]
mod stub;
mod token;

use std::{future::pending, net::SocketAddr};

use tokio::signal::unix::{SignalKind, signal};

use self::{client::*, net::*, stub::*};
use crate::{
    app::App,
    auth::Auth,
    config::{Config, Environment},
    health::Readiness,
    run::{Sockets, run},
};

/// A gateway in this process. It runs until the runtime of the test ends.
struct Server;

async fn start_server(text: &str) -> (SocketAddr, Server) {
    let config = Config::parse("test.yaml", text, &Environment::default());
    let config = config.unwrap_or_else(|report| panic!("{report}"));
    let ready = Readiness::default();
    let app = App::new(&config, ready.clone()).unwrap();
    let auth = Auth::start(&config).await.unwrap();
    let sockets = Sockets::bind(&config.server).unwrap();
    let addr = sockets.public();
    tokio::spawn(async move {
        let signals = (pending(), signal(SignalKind::hangup()).unwrap());
        run(&app, &auth, ready, sockets, None, &config.server, signals)
            .await
            .unwrap();
    });
    (addr, Server)
}

#[test]
fn fault_i17_l4_no_canary_in_the_debug_output_of_a_configuration() {
    let files = canaries::files();
    let config = Config::parse("a.yaml", &files[1], &Environment::default()).unwrap();
    let all = canaries::canaries().chain([canaries::private_key()]);
    scan::scan(
        "the debug output of a configuration",
        &format!("{config:?}"),
        all,
    );
}
