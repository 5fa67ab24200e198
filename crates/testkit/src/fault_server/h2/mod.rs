//! HTTP/2 with streams that are broken on purpose (feature `h2`).
//!
//! Clients connect with prior knowledge (RFC 9113 §3.3), or over TLS with ALPN. A [`StreamFault`]
//! describes the response on one stream.
//!
//! | failure | constructor |
//! |---|---|
//! | The server never responds. | [`StreamFault::never_respond`] |
//! | The head arrives and the body stalls. | [`StreamFault::stall_in_body`] |
//! | RST_STREAM arrives before the head or in the body. | [`StreamFault::rst`], [`StreamFault::rst_in_body`] |
//! | RST_STREAM with REFUSED_STREAM arrives, so a retry is safe. | [`StreamFault::refused_stream`] |
//! | GOAWAY arrives, and this stream completes. | [`StreamFault::go_away`] |
//! | GOAWAY arrives and the connection closes before this stream completes. | [`StreamFault::go_away_and_close`] |
//! | GOAWAY declares this stream unprocessed, so a retry is safe. | [`StreamFault::go_away_unprocessed`] |
//! | The TCP connection is reset. | [`StreamFault::reset_connection`] |
//! | The body is too long or endless. | [`StreamFault::response`], [`StreamFault::endless_body`] |
//! | The body does not have the declared length. | [`StreamFault::response`] with a `content-length` |
//! | Too many interim (1xx) responses arrive. | [`StreamFault::informational`] |
//!
//! ```
//! use tower_fanout_testkit::fault_server::{FaultServer, h2::{Reason, StreamFault}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let faults = [StreamFault::refused_stream(), StreamFault::json("{}")];
//! let server = FaultServer::h2_sequence(faults).await;
//!
//! let stream = tokio::net::TcpStream::connect(server.addr()).await?;
//! let (client, connection) = h2::client::handshake(stream).await?;
//! tokio::spawn(connection);
//! let mut client = client.ready().await?;
//! let (response, _) = client.send_request(http::Request::new(()), true)?;
//! assert_eq!(response.await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
//! # Ok(())
//! # }
//! ```

mod connection;
mod stream;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use ::h2::Reason;

use self::connection::Route;
pub use self::stream::StreamFault;
use super::{FaultServer, HTTP, Request, repeat_last};

impl FaultServer {
    /// Starts an HTTP/2 server without TLS that responds to each request with the fault that `route`
    /// returns.
    ///
    /// # Panics
    ///
    /// Panics if no loopback port is free. A panic in `route` resets its stream only.
    pub async fn h2(route: impl Fn(&Request) -> StreamFault + Send + Sync + 'static) -> Self {
        let route: Route = Arc::new(route);
        Self::listen(HTTP, move |stream, stats| {
            connection::serve(stream, Arc::clone(&route), stats)
        })
        .await
    }

    /// Starts an HTTP/2 server without TLS that responds to the first request with the first fault, to
    /// the second with the second, and so on. The last fault repeats.
    ///
    /// Requests of all connections count together.
    ///
    /// # Panics
    ///
    /// Panics if `faults` is empty or no loopback port is free.
    pub async fn h2_sequence(faults: impl IntoIterator<Item = StreamFault>) -> Self {
        let next = repeat_last(faults.into_iter().collect());
        Self::h2(move |_| next()).await
    }

    /// Starts an HTTP/2 server with TLS that responds to each request with the fault that `route`
    /// returns.
    ///
    /// `tls` describes the handshake. ALPN offers `h2` only.
    ///
    /// # Panics
    ///
    /// Panics if no loopback port is free. A panic in `route` resets its stream only.
    #[cfg(feature = "tls")]
    pub async fn h2_with_tls(
        tls: &super::tls::ServerTls,
        route: impl Fn(&Request) -> StreamFault + Send + Sync + 'static,
    ) -> Self {
        let route: Route = Arc::new(route);
        Self::listen_tls(tls, b"h2", move |stream, stats| {
            connection::serve(stream, Arc::clone(&route), stats)
        })
        .await
    }
}
