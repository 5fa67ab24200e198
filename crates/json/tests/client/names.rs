//! Tests of name lookup and of the address policy, with a scripted resolver.

use std::{
    future::{pending, ready},
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, advance};
use tower::ServiceExt;
use tower_fanout::ErrorKind;
use tower_fanout_http::client::{AddressPolicy, Client, ClientErrorKind, Resolve, Resolving};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{at, call_json, get, kind};

/// A resolver with scripted results, one per lookup. The last one is repeated.
#[derive(Debug)]
struct Names {
    results: Vec<LookupResult>,
    lookups: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum LookupResult {
    Addresses(&'static [&'static str]),
    NotFound,
    NeverResolves,
}

use LookupResult::{Addresses, NeverResolves, NotFound};

impl Names {
    fn new(results: &[LookupResult]) -> Arc<Self> {
        Arc::new(Self {
            results: results.to_vec(),
            lookups: AtomicUsize::new(0),
        })
    }

    fn lookups(&self) -> usize {
        self.lookups.load(Relaxed)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Resolving {
        assert_eq!(name, "users.example");
        let index = self
            .lookups
            .fetch_add(1, Relaxed)
            .min(self.results.len() - 1);
        match self.results[index] {
            Addresses(all) => {
                let all = all.iter().map(|address| address.parse().unwrap());
                Box::pin(ready(Ok(all.collect::<Vec<IpAddr>>())))
            }
            NotFound => Box::pin(ready(Err(io::Error::other("NXDOMAIN")))),
            NeverResolves => Box::pin(pending()),
        }
    }
}

/// Returns a client for the port of `server` at a name that `names` resolve.
fn named(server: &FaultServer, names: &Arc<Names>, allowed: AddressPolicy) -> Client {
    let endpoint = format!("http://users.example:{}", server.addr().port());
    at(&endpoint, |config| {
        config.resolver = names.clone();
        config.allow_addresses = allowed;
    })
}

#[tokio::test(start_paused = true)]
async fn fault_f2_does_not_repeat_a_failed_lookup_for_1_s() {
    let server = FaultServer::start(Fault::json("1")).await;
    for failure in [NotFound, Addresses(&[])] {
        let names = Names::new(&[failure, Addresses(&["127.0.0.1"])]);
        let client = named(&server, &names, AddressPolicy::Private);
        for _ in 0..3 {
            assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
        }
        advance(Duration::from_millis(999)).await;
        assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
        assert_eq!(names.lookups(), 1);
        advance(Duration::from_millis(1)).await;
        assert_eq!(call_json(&client).await.unwrap().as_raw(), "1");
        assert_eq!(names.lookups(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f2_connect_timeout_limits_the_lookup() {
    let server = FaultServer::start(Fault::json("1")).await;
    let client = named(
        &server,
        &Names::new(&[NeverResolves]),
        AddressPolicy::Private,
    );
    let start = Instant::now();
    assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
    assert_eq!(start.elapsed().as_millis(), 1000);
}

#[tokio::test]
async fn fault_i6_connects_only_to_allowed_addresses() {
    let server = FaultServer::start(Fault::json("1")).await;
    for (allowed, addresses) in [
        (
            AddressPolicy::Public,
            &["127.0.0.1", "::1", "::ffff:127.0.0.1"][..],
        ),
        (
            AddressPolicy::Private,
            &["169.254.169.254", "::ffff:169.254.169.254"],
        ),
    ] {
        let client = named(&server, &Names::new(&[Addresses(addresses)]), allowed);
        let error = client.oneshot(get("/")).await.unwrap_err();
        assert_eq!(error.kind(), Some(ClientErrorKind::AddressBlocked));
    }
    // The policy also applies to an address in the endpoint.
    let with_address = at(&server.url(), |config| {
        config.allow_addresses = AddressPolicy::Public
    });
    assert_eq!(kind(&with_address).await, ErrorKind::AddressBlocked);
    assert_eq!(server.stats().connections, 0);
}

#[tokio::test]
async fn fault_i6_checks_the_addresses_of_each_lookup() {
    let server = FaultServer::sequence([Fault::json("1").close(), Fault::json("2")]).await;
    let names = Names::new(&[
        Addresses(&["169.254.169.254", "127.0.0.1"]),
        Addresses(&["169.254.169.254"]),
    ]);
    let client = named(&server, &names, AddressPolicy::Private);
    assert_eq!(call_json(&client).await.unwrap().as_raw(), "1");
    assert_eq!(kind(&client).await, ErrorKind::AddressBlocked);
    assert_eq!((server.stats().connections, names.lookups()), (1, 2));
}
