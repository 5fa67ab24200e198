//! Resolves the name of a downstream and filters its addresses by the address policy.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tokio::{
    net::TcpSocket,
    time::{Instant, timeout},
};
use tower_fanout_layers::Rejection;

use super::{ClientConfig, ClientError, ClientErrorKind, error::is_descriptor_limit};

/// Time during which a failed lookup is not repeated.
const NEGATIVE_TTL: Duration = Duration::from_secs(1);

/// Resolves host names to IP addresses.
///
/// The client calls the resolver for each new connection and caches no addresses. After a failed lookup,
/// calls fail with [`ClientErrorKind::Dns`] for one second without another lookup. An endpoint with an IP
/// address is not resolved.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Resolves `name` to its addresses, in order of preference.
    ///
    /// The client tries the addresses of the first address's family (IPv4 or IPv6) in this order. If none
    /// is connected after 300 ms, it also tries those of the other family (RFC 8305, Happy Eyeballs).
    ///
    /// # Errors
    /// The future resolves to an [`io::Error`] if the name does not exist or the lookup fails. An empty
    /// list has the same effect. The error is the [cause](ClientError::cause) of the
    /// [`ClientErrorKind::Dns`] that the client returns.
    fn resolve(&self, name: &str) -> Resolving;
}

/// The future of [`Resolve::resolve`].
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The system resolver (`getaddrinfo`), called on a thread for blocking work.
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

/// The networks that a client may connect to. Each level includes the previous.
///
/// The policy is applied to the resolved addresses, and the client connects to exactly those
/// addresses. A DNS name that changes between check and connection (DNS rebinding) cannot evade the
/// policy. An IP address in the endpoint is checked too.
///
/// | level | networks |
/// |---|---|
/// | `LinkLocal` | `169.254.0.0/16`, `fe80::/10`, and the metadata services `100.100.100.200`, `192.0.0.192`, `fd00:ec2::254`, `fd20:ce::254` |
/// | `Private` | `0.0.0.0/8`, `10.0.0.0/8`, `100.64.0.0/10`, `127.0.0.0/8`, `172.16.0.0/12`, `192.0.0.0/24`, `192.0.2.0/24`, `192.168.0.0/16`, `198.18.0.0/15`, `198.51.100.0/24`, `203.0.113.0/24`, `224.0.0.0/3`, `::/127`, `64:ff9b:1::/48`, `fc00::/7`, `fec0::/10`, `2001:db8::/32`, `ff00::/8` |
/// | `Public` | all others |
///
/// For an IPv6 address with an embedded IPv4 address (IPv4-mapped, IPv4-compatible, NAT64 or 6to4), the
/// higher of both levels applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "schemars",
    derive(schemars::JsonSchema, serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum AddressPolicy {
    /// Only public addresses.
    ///
    /// Use this policy for names that do not come from your configuration.
    Public,
    /// Public and private addresses, and loopback addresses. The default.
    #[default]
    Private,
    /// All addresses, including link-local ones and the metadata services of clouds, which hand out
    /// the credentials of the machine.
    LinkLocal,
}

/// Networks that are not public ([RFC 6890](https://www.rfc-editor.org/rfc/rfc6890)), with the
/// policy that allows each. The first match counts.
const NETWORKS: [(AddressPolicy, IpNet); 24] = [
    (AddressPolicy::LinkLocal, v4([169, 254, 0, 0], 16)),
    (AddressPolicy::LinkLocal, v6([0xfe80, 0, 0], 0, 10)),
    // Metadata services of clouds at addresses that are not link-local.
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

/// The prefix for NAT64 in local networks ([RFC 8215](https://www.rfc-editor.org/rfc/rfc8215)).
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
    /// Returns the strictest policy that allows `address` and the IPv4 address embedded in it.
    fn of(address: IpAddr) -> Self {
        let embedded =
            embedded(address).map_or(Self::Public, |address| Self::of_network(address.into()));
        Self::of_network(address).max(embedded)
    }

    /// Returns the strictest policy that allows `address`, ignoring embedded addresses.
    fn of_network(address: IpAddr) -> Self {
        let mut networks = NETWORKS.iter();
        let network = networks.find(|(_, network)| network.contains(&address));
        network.map_or(Self::Public, |(policy, _)| *policy)
    }

    fn allows(self, address: IpAddr) -> bool {
        Self::of(address) <= self
    }
}

/// Returns the IPv4 address that is embedded in an IPv6 address: IPv4-mapped or IPv4-compatible
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

/// Looks up and filters the addresses of one downstream.
pub(super) struct Lookup {
    resolver: Arc<dyn Resolve>,
    allow_addresses: AddressPolicy,
    /// The error of the last failed lookup, and the end of the time during which the lookup is not
    /// repeated. `None` if no lookup has failed.
    failed: Mutex<Option<(Instant, ClientError)>>,
}

impl Lookup {
    pub(super) fn new(config: &ClientConfig) -> Self {
        Self {
            resolver: Arc::clone(&config.resolver),
            allow_addresses: config.allow_addresses,
            failed: Mutex::default(),
        }
    }

    /// Returns the allowed addresses of `host`, which is a name or an IP address.
    ///
    /// # Errors
    /// - [`ClientErrorKind::Dns`] if the lookup fails, returns no addresses, or takes longer than `time`.
    /// - [`Rejection::DescriptorLimit`] if the lookup fails because no file descriptor is left.
    /// - [`ClientErrorKind::AddressBlocked`] if the policy allows none of the addresses.
    pub(super) async fn find(
        &self,
        host: &str,
        time: Duration,
    ) -> Result<Vec<IpAddr>, ClientError> {
        let mut addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host, time).await?,
        };
        let mut blocked = Vec::new();
        addresses.retain(|address| {
            let allowed = self.allow_addresses.allows(*address);
            if !allowed {
                blocked.push(*address);
            }
            allowed
        });
        if !blocked.is_empty() {
            tracing::warn!(
                reason = "ssrf",
                host,
                "ignored addresses of a downstream that the address policy does not allow"
            );
        }
        if addresses.is_empty() {
            let cause = format!("the address policy allows none of {blocked:?}");
            return Err(ClientError::new(ClientErrorKind::AddressBlocked).caused_by(cause));
        }
        Ok(addresses)
    }

    async fn look_up(&self, host: &str, time: Duration) -> Result<Vec<IpAddr>, ClientError> {
        if let Some((until, error)) = &*self.failed()
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let found = timeout(time, self.resolver.resolve(host)).await;
        let cause = match found {
            Ok(Ok(addresses)) if !addresses.is_empty() => return Ok(addresses),
            Ok(Ok(_)) => io::Error::other("the name has no addresses"),
            Ok(Err(error)) => error,
            Err(_) => io::Error::other(format!("no result within {time:?}")),
        };
        if is_descriptor_limit(&cause) || no_descriptor_is_left() {
            return Err(Rejection::DescriptorLimit.into());
        }
        let error = ClientError::new(ClientErrorKind::Dns).caused_by(cause);
        *self.failed() = Some((Instant::now() + NEGATIVE_TTL, error.clone()));
        Err(error)
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Instant, ClientError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `true` if no file descriptor can be opened. `getaddrinfo` needs some of its own, and its error
/// does not tell whether it got them.
fn no_descriptor_is_left() -> bool {
    TcpSocket::new_v4().is_err_and(|error| is_descriptor_limit(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i6_classifies_addresses_by_network() {
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
