//! Serves HTTP/2 and breaks its streams on purpose.
//!
//! A client comes with prior knowledge (RFC 9113 §3.3), or over TLS by ALPN. A [`StreamFault`] is
//! what the server does with one stream.
//!
//! | what goes wrong | how |
//! |---|---|
//! | no answer | [`StreamFault::never_answer`] |
//! | the head comes and the body stalls | [`StreamFault::stall_in_body`] |
//! | RST_STREAM before the head, or in the body | [`StreamFault::rst`], [`StreamFault::rst_in_body`] |
//! | REFUSED_STREAM: safe to try again | [`StreamFault::refused`] |
//! | GOAWAY that spares this stream | [`StreamFault::go_away`] |
//! | GOAWAY that ends the connection under this stream | [`StreamFault::go_away_at_once`] |
//! | GOAWAY that says this stream was never seen: safe to try again | [`StreamFault::go_away_before`] |
//! | RST of the whole TCP connection | [`StreamFault::reset`] |
//! | a body beyond a limit, or without an end | [`StreamFault::answer`], [`StreamFault::endless`] |
//! | a body of another length than it says | [`StreamFault::answer`] with a `content-length` |
//! | a storm of interim answers | [`StreamFault::informational`] |
//!
//! ```
//! use tower_fanout_testkit::fault_server::{FaultServer, h2::{Reason, StreamFault}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = FaultServer::h2_script([StreamFault::refused(), StreamFault::json("{}")]).await;
//!
//! let stream = tokio::net::TcpStream::connect(server.addr()).await?;
//! let (client, connection) = h2::client::handshake(stream).await?;
//! tokio::spawn(connection);
//! let mut client = client.ready().await?;
//! let (answer, _) = client.send_request(http::Request::new(()), true)?;
//! assert_eq!(answer.await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
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
use super::{FaultServer, HTTP, Request, in_turn};

impl FaultServer {
    /// A server of HTTP/2 without TLS that does with each request what `route` says.
    ///
    /// # Panics
    ///
    /// Panics if there is no free port. If `route` panics, its stream is reset.
    pub async fn h2(route: impl Fn(&Request) -> StreamFault + Send + Sync + 'static) -> Self {
        let route: Route = Arc::new(route);
        Self::listen(HTTP, move |stream, seen| {
            connection::serve(stream, Arc::clone(&route), seen)
        })
        .await
    }

    /// A server of HTTP/2 without TLS that does the next of `faults` with each request, over all
    /// connections, and repeats the last.
    ///
    /// # Panics
    ///
    /// Panics if there is no fault, or no free port.
    pub async fn h2_script(faults: impl IntoIterator<Item = StreamFault>) -> Self {
        let next = in_turn(faults.into_iter().collect());
        Self::h2(move |_| next()).await
    }

    /// A server that speaks TLS as `tls` says, and HTTP/2 within it; the handshake offers `h2` only.
    ///
    /// # Panics
    ///
    /// Panics as [`h2`](Self::h2) does.
    #[cfg(feature = "tls")]
    pub async fn h2_with_tls(
        tls: &super::tls::ServerTls,
        route: impl Fn(&Request) -> StreamFault + Send + Sync + 'static,
    ) -> Self {
        let route: Route = Arc::new(route);
        Self::listen_tls(tls, b"h2", move |stream, seen| {
            connection::serve(stream, Arc::clone(&route), seen)
        })
        .await
    }
}
