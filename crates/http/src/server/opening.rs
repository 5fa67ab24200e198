//! Opens a connection: performs the TLS handshake and finds the protocol that the client speaks.

use std::{io, sync::Arc};

use bytes::Bytes;
use http::uri::Scheme;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    ServerConfig,
    activity::Activity,
    lingering_close::LingeringClose,
    stream::{Stream, Wire},
};

/// The first bytes of a client that speaks HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Response to HTTP/2 on a connection that agreed on HTTP/1.1.
const NOT_HTTP_1: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Number of bytes of a head that are kept here. hyper, which reads the rest, reserves 16 KiB for
/// any connection.
const KEPT: usize = 4 << 10;

/// Size of the buffer for a head to begin with, enough for most.
const FIRST_READ: usize = 512;

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A connection that is ready for HTTP.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) protocol: Protocol,
    pub(super) scheme: Scheme,
}

/// Performs the TLS handshake if TLS is configured, and waits for the first bytes that show the protocol.
/// Returns `None` if the client closed the connection without sending any.
///
/// A protocol that was agreed on by ALPN is binding.
pub(super) async fn open(
    config: &ServerConfig,
    socket: TcpStream,
    activity: &Arc<Activity>,
) -> io::Result<Option<Opened>> {
    let (mut wire, scheme, agreed) = secure(config, LingeringClose::new(socket)).await?;
    let (protocol, received) = match agreed {
        // h2 refuses any other preface.
        Some(Protocol::Http2) => (Protocol::Http2, Bytes::new()),
        _ => {
            let received = next_head(&mut wire, Vec::new(), activity).await?;
            if received.is_empty() {
                return Ok(None);
            }
            let protocol = if received.starts_with(PREFACE) {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            (protocol, received)
        }
    };
    if agreed == Some(Protocol::Http1) && protocol == Protocol::Http2 {
        wire.write_all(NOT_HTTP_1).await?;
        wire.shutdown().await?;
        let message = "the client agreed on HTTP/1.1 and speaks HTTP/2";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    activity.begin_http(protocol == Protocol::Http2);
    Ok(Some(Opened {
        stream: Stream::new(wire, received, Arc::clone(activity)),
        protocol,
        scheme,
    }))
}

/// Performs the TLS handshake if TLS is configured. Returns the stream for HTTP, its scheme and the
/// protocol that ALPN selected, if any.
async fn secure(
    config: &ServerConfig,
    socket: LingeringClose<TcpStream>,
) -> io::Result<(Box<dyn Wire>, Scheme, Option<Protocol>)> {
    #[cfg(feature = "tls")]
    if let Some(tls) = &config.tls {
        let stream = tls.accept(socket).await?;
        let agreed = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Some(Protocol::Http2),
            Some(_) => Some(Protocol::Http1),
            None => None,
        };
        return Ok((Box::new(stream), Scheme::HTTPS, agreed));
    }
    #[cfg(not(feature = "tls"))]
    let _ = config;
    Ok((Box::new(socket), Scheme::HTTP, None))
}

/// Reads the HTTP/2 preface, or the next head of HTTP/1, of which `received` is the begin. Returns
/// nothing at the end of the stream.
///
/// A slow client costs only what it has sent until its head is complete. Bytes that cannot be the begin
/// of a head, a long head, and the end of the stream within a head are left to hyper.
pub(super) async fn next_head(
    wire: &mut Box<dyn Wire>,
    mut received: Vec<u8>,
    activity: &Activity,
) -> io::Result<Bytes> {
    received.reserve(FIRST_READ);
    while may_continue(&received) {
        if wire.read_buf(&mut received).await? == 0 {
            break;
        }
        activity.record_read();
    }
    Ok(received.into())
}

/// Returns `true` if `received` is an incomplete preface or an incomplete head of HTTP/1.
fn may_continue(received: &[u8]) -> bool {
    if received.len() < PREFACE.len() && PREFACE.starts_with(received) {
        return true;
    }
    let first = received.iter().find(|byte| !b"\r\n".contains(byte));
    let is_head = first.is_none_or(|byte| byte.is_ascii_graphic());
    is_head && received.len() < KEPT && !received.starts_with(PREFACE) && !ends_head(received)
}

/// Returns `true` if `received` contains an empty line after another line.
fn ends_head(received: &[u8]) -> bool {
    let text = received.trim_ascii_start();
    let ends = |end: &[u8]| text.windows(end.len()).any(|window| window == end);
    ends(b"\n\r\n") || ends(b"\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_d1_keeps_incomplete_heads_and_passes_on_all_else() {
        for incomplete in [
            &b""[..],
            b"P",
            b"PRI * HTTP/2.0\r\n\r\n",
            b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\na: ",
            b"GET / HTTP/1.1\r\nhost: x\r\n",
        ] {
            assert!(may_continue(incomplete), "{}", incomplete.escape_ascii());
        }
        for complete in [
            PREFACE,
            &[PREFACE, &[0, 0, 0]].concat(),
            b"PRI / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            b"GET / HTTP/1.1\nhost: x\n\n",
            b"\r\nGET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01",
            b"\0",
            &[b'a'; KEPT],
        ] {
            assert!(!may_continue(complete), "{}", complete.escape_ascii());
        }
    }
}
