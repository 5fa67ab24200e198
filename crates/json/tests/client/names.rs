//! From names to addresses, with a resolver in place of the system's.

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
use tower_fanout_http::client::{AddressPolicy, Client, ClientError, Resolve, Resolving};
use tower_fanout_testkit::fault_server::{Fault, FaultServer};

use crate::{ask, at, get, kind};

/// What each look-up finds; the last is repeated.
#[derive(Debug)]
struct Names {
    found: Vec<Found>,
    asked: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Found {
    Addresses(&'static [&'static str]),
    Nobody,
    Silence,
}

use Found::{Addresses, Nobody, Silence};

impl Names {
    fn new(found: &[Found]) -> Arc<Self> {
        Arc::new(Self {
            found: found.to_vec(),
            asked: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Resolving {
        assert_eq!(name, "users.example");
        let place = self.asked.fetch_add(1, Relaxed).min(self.found.len() - 1);
        match self.found[place] {
            Addresses(all) => {
                let all = all.iter().map(|address| address.parse().unwrap());
                Box::pin(ready(Ok(all.collect::<Vec<IpAddr>>())))
            }
            Nobody => Box::pin(ready(Err(io::Error::other("NXDOMAIN")))),
            Silence => Box::pin(pending()),
        }
    }
}

/// A client for the server's port at a name that `names` know.
fn named(server: &FaultServer, names: &Arc<Names>, allowed: AddressPolicy) -> Client {
    let endpoint = format!("http://users.example:{}", server.addr().port());
    at(&endpoint, |config| {
        config.resolver = names.clone();
        config.allow_addresses = allowed;
    })
}

#[tokio::test(start_paused = true)]
async fn fault_f2_a_name_that_nobody_has_is_not_looked_up_again_for_a_second() {
    let server = FaultServer::start(Fault::json("1")).await;
    for nothing in [Nobody, Addresses(&[])] {
        let names = Names::new(&[nothing, Addresses(&["127.0.0.1"])]);
        let client = named(&server, &names, AddressPolicy::Private);
        for _ in 0..3 {
            assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
        }
        advance(Duration::from_millis(999)).await;
        assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
        assert_eq!(names.asked(), 1);
        advance(Duration::from_millis(1)).await;
        assert_eq!(ask(&client).await.unwrap().as_raw(), "1");
        assert_eq!(names.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_f2_a_look_up_takes_no_longer_than_connecting_may() {
    let server = FaultServer::start(Fault::json("1")).await;
    let client = named(&server, &Names::new(&[Silence]), AddressPolicy::Private);
    let start = Instant::now();
    assert_eq!(kind(&client).await, ErrorKind::DnsFailed);
    assert_eq!(start.elapsed().as_millis(), 1000);
}

#[tokio::test]
async fn fault_i6_no_address_is_connected_to_that_is_out_of_reach() {
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
        assert_eq!(error, ClientError::Connect);
    }
    // An address that is written in the endpoint is one of them.
    let written = at(&server.url(), |config| {
        config.allow_addresses = AddressPolicy::Public
    });
    assert_eq!(kind(&written).await, ErrorKind::ConnectFailed);
    assert_eq!(server.stats().connections, 0);
}

#[tokio::test]
async fn fault_i6_a_name_that_changes_is_looked_at_each_time() {
    let server = FaultServer::sequence([Fault::json("1").close(), Fault::json("2")]).await;
    let names = Names::new(&[
        Addresses(&["169.254.169.254", "127.0.0.1"]),
        Addresses(&["169.254.169.254"]),
    ]);
    let client = named(&server, &names, AddressPolicy::Private);
    assert_eq!(ask(&client).await.unwrap().as_raw(), "1");
    assert_eq!(kind(&client).await, ErrorKind::ConnectFailed);
    assert_eq!((server.stats().connections, names.asked()), (1, 2));
}
