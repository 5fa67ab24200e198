//! From the name of a downstream to the addresses that may be connected to.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::time::{Instant, timeout};

use super::{ClientConfig, ClientError};

/// How long a name that was not found is not looked up again.
const NEGATIVE: Duration = Duration::from_secs(1);

/// Finds the addresses of a name.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// The addresses of `name`, the best first.
    ///
    /// # Errors
    /// There is no such name, or nobody could be asked.
    fn resolve(&self, name: &str) -> Resolving;
}

/// The addresses that are being found.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The resolver of the system (`getaddrinfo`), on a thread of its own.
#[derive(Debug)]
pub(super) struct System;

impl Resolve for System {
    fn resolve(&self, name: &str) -> Resolving {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// How near to this machine the addresses of a downstream may be.
///
/// It is looked at after the name is resolved, on the very addresses that are connected to: a name
/// cannot be turned to another address in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AddressPolicy {
    /// Addresses of the public network only; for a name that is not from the configuration.
    Public,
    /// Those of private networks and of this machine, too.
    #[default]
    Private,
    /// Any address: link-local ones, too, where clouds tell a machine its credentials.
    LinkLocal,
}

/// Networks that are not public
/// ([RFC 6890](https://www.rfc-editor.org/rfc/rfc6890)), by the step that they need.
const NETWORKS: [(AddressPolicy, IpNet); 24] = [
    (AddressPolicy::LinkLocal, v4([169, 254, 0, 0], 16)),
    (AddressPolicy::LinkLocal, v6([0xfe80, 0, 0], 0, 10)),
    // The metadata services of clouds that are not link-local.
    (AddressPolicy::LinkLocal, v4([100, 100, 100, 200], 32)),
    (AddressPolicy::LinkLocal, v4([192, 0, 0, 192], 32)),
    (AddressPolicy::LinkLocal, v6([0xfd00, 0xec2, 0], 0x254, 128)),
    (AddressPolicy::LinkLocal, v6([0xfd20, 0xce, 0], 0x254, 128)),
    (AddressPolicy::Private, v4([0, 0, 0, 0], 8)),
    (AddressPolicy::Private, v4([10, 0, 0, 0], 8)),
    (AddressPolicy::Private, v4([100, 64, 0, 0], 10)),
    (AddressPolicy::Private, v4([127, 0, 0, 0], 8)),
    (AddressPolicy::Private, v4([172, 16, 0, 0], 12)),
    (AddressPolicy::Private, v4([192, 0, 0, 0], 24)),
    (AddressPolicy::Private, v4([192, 0, 2, 0], 24)),
    (AddressPolicy::Private, v4([192, 168, 0, 0], 16)),
    (AddressPolicy::Private, v4([198, 18, 0, 0], 15)),
    (AddressPolicy::Private, v4([198, 51, 100, 0], 24)),
    (AddressPolicy::Private, v4([203, 0, 113, 0], 24)),
    (AddressPolicy::Private, v4([224, 0, 0, 0], 3)), // multicast, reserved, broadcast
    (AddressPolicy::Private, v6([0, 0, 0], 0, 127)), // unspecified, loopback
    (AddressPolicy::Private, v6(LOCAL_NAT64, 0, 48)),
    (AddressPolicy::Private, v6([0xfc00, 0, 0], 0, 7)),
    (AddressPolicy::Private, v6([0xfec0, 0, 0], 0, 10)),
    (AddressPolicy::Private, v6([0x2001, 0xdb8, 0], 0, 32)),
    (AddressPolicy::Private, v6([0xff00, 0, 0], 0, 8)),
];

/// Where a network of one's own has its NAT64 ([RFC 8215](https://www.rfc-editor.org/rfc/rfc8215)).
const LOCAL_NAT64: [u16; 3] = [0x64, 0xff9b, 1];

const fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(
        std::net::Ipv4Addr::new(a, b, c, d),
        prefix,
    ))
}

const fn v6([a, b, c]: [u16; 3], last: u16, prefix: u8) -> IpNet {
    let address = std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last);
    IpNet::V6(Ipv6Net::new_assert(address, prefix))
}

impl AddressPolicy {
    /// The step that `address` needs, or the IPv4 address that it leads to.
    fn of(address: IpAddr) -> Self {
        let embedded = embedded(address).map_or(Self::Public, |address| Self::step(address.into()));
        Self::step(address).max(embedded)
    }

    fn step(address: IpAddr) -> Self {
        let mut networks = NETWORKS.iter();
        let network = networks.find(|(_, network)| network.contains(&address));
        network.map_or(Self::Public, |(allow_addresses, _)| *allow_addresses)
    }

    fn allows(self, address: IpAddr) -> bool {
        Self::of(address) <= self
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped or compatible
/// ([RFC 4291 §2.5.5](https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5)), by NAT64
/// ([RFC 6052 §2.1](https://www.rfc-editor.org/rfc/rfc6052#section-2.1)), or by 6to4
/// ([RFC 3056 §2](https://www.rfc-editor.org/rfc/rfc3056#section-2)).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    let bits = match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0 | 1, ..] => address.to_bits(),
        [0x2002, ..] => address.to_bits() >> 80,
        _ => return None,
    };
    Some((bits as u32).into())
}

/// Finds the addresses of one downstream.
pub(super) struct Finder {
    resolver: Arc<dyn Resolve>,
    allow_addresses: AddressPolicy,
    /// Until when the name counts as one that nobody has.
    unknown: Mutex<Option<Instant>>,
}

impl Finder {
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self {
            resolver: Arc::clone(&config.resolver),
            allow_addresses: config.allow_addresses,
            unknown: Mutex::default(),
        }
    }

    /// The addresses of `host`, a name or an address, that may be connected to.
    ///
    /// # Errors
    /// [`ClientError::Dns`] if there is none, or none is found in `time`; [`ClientError::Connect`] if
    /// none of them may be connected to.
    pub(super) async fn find(
        &self,
        host: &str,
        time: Duration,
    ) -> Result<Vec<IpAddr>, ClientError> {
        let mut addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host, time).await?,
        };
        let found = addresses.len();
        addresses.retain(|address| self.allow_addresses.allows(*address));
        if addresses.len() < found {
            tracing::warn!(
                reason = "ssrf",
                host,
                "the name of a service stands for an address that is not allowed"
            );
        }
        if addresses.is_empty() {
            return Err(ClientError::Connect);
        }
        Ok(addresses)
    }

    async fn look_up(&self, host: &str, time: Duration) -> Result<Vec<IpAddr>, ClientError> {
        if self.known(|unknown| unknown.is_some_and(|until| Instant::now() < until)) {
            return Err(ClientError::Dns);
        }
        let found = timeout(time, self.resolver.resolve(host)).await;
        match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
            _ => {
                self.known(|unknown| *unknown = Some(Instant::now() + NEGATIVE));
                Err(ClientError::Dns)
            }
        }
    }

    fn known<T>(&self, look: impl FnOnce(&mut Option<Instant>) -> T) -> T {
        look(&mut self.unknown.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i6_an_address_is_known_by_its_network() {
        for (allow_addresses, addresses) in [
            (
                AddressPolicy::LinkLocal,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "100.100.100.200",
                    "192.0.0.192",
                    "::a9fe:a9fe",
                    "2002:a9fe:a9fe::1",
                    "64:ff9b:1::a9fe:a9fe",
                ][..],
            ),
            (
                AddressPolicy::Private,
                &[
                    "0.0.0.0",
                    "10.1.2.3",
                    "100.64.0.1",
                    "127.0.0.1",
                    "172.31.0.1",
                    "192.168.0.1",
                    "255.255.255.255",
                    "224.0.0.1",
                    "::",
                    "::1",
                    "fd12::1",
                    "::ffff:10.0.0.1",
                    "64:ff9b::7f00:1",
                    "64:ff9b:1::101:101",
                    "64:ff9b:1:7f00:0:100::",
                    "::7f00:1",
                    "2002:7f00:1::",
                    "ff02::1",
                ],
            ),
            (
                AddressPolicy::Public,
                &[
                    "1.1.1.1",
                    "172.32.0.1",
                    "100.128.0.1",
                    "2606:4700::1111",
                    "::ffff:1.1.1.1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(
                    AddressPolicy::of(address.parse().unwrap()),
                    allow_addresses,
                    "{address}"
                );
            }
        }
    }
}
