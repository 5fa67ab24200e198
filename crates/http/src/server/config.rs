//! The config of the server.

use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use tower_fanout_layers::{
    config,
    config::{ConfigError, Validate},
};

use super::Connections;
#[cfg(feature = "tls")]
use super::ServerTls;
use crate::bounds::{WAIT, YEAR};

config! {
    /// Timeouts, limits and TLS of a server. The limits bound the resources that a client can occupy.
    ///
    /// Times are 1 ms to 365 days. `grace` may also be zero.
    #[derive(Clone, Debug)]
    pub struct ServerConfig {
        /// Maximum time for a request head to arrive, from its first byte. Defaults to 10 s.
        ///
        /// On a new connection the time begins when the connection is accepted, and includes the TLS
        /// handshake.
        pub header_timeout: Duration = Duration::from_secs(10),
        /// Maximum time for which a connection may be idle between two requests. Defaults to 60 s.
        pub idle_timeout: Duration = Duration::from_secs(60),
        /// Maximum time for which a client may take no bytes of a response that is ready. Defaults to 30 s.
        ///
        /// The time while the service computes the response or its next chunk does not count, and the
        /// server has no timeout for it.
        pub write_timeout: Duration = Duration::from_secs(30),
        /// Age after which a connection is closed gracefully. `None`, the default, sets no limit.
        ///
        /// Over HTTP/1 the connection is closed after the response in flight, which has
        /// `Connection: close`. Over HTTP/2 the server sends GOAWAY.
        pub max_age: Option<Duration> = None,
        /// Maximum size of a request head in bytes, 8 KiB to 1 GiB. Defaults to 32 KiB.
        pub max_head: usize = 32 << 10,
        /// Maximum number of headers in an HTTP/1 request, 1 to 10,000. Defaults to 100.
        pub max_headers: usize = 100,
        /// Maximum number of open connections, 1 to 1,000,000. Defaults to 12,000.
        ///
        /// Further connections wait to be accepted.
        pub max_connections: usize = 12_000,
        /// Maximum number of concurrent requests on an HTTP/2 connection, 1 to 2^31 - 1. Defaults to 100.
        ///
        /// Further requests are refused with REFUSED_STREAM.
        pub h2_max_streams: u32 = 100,
        /// HTTP/2 receive window of one request body in bytes, 1 to 2^31 - 1. Defaults to 64 KiB.
        ///
        /// The server buffers at most this much of a body that the service has not read yet.
        pub h2_stream_window: u32 = 64 << 10,
        /// HTTP/2 receive window of all request bodies of a connection in bytes, 1 to 2^31 - 1. Defaults to
        /// 256 KiB.
        pub h2_connection_window: u32 = 256 << 10,
        /// Maximum size of an HTTP/2 frame in bytes, 16 KiB to 16 MiB - 1. Defaults to 16 KiB.
        pub h2_max_frame: u32 = 16 << 10,
        /// Maximum number of bytes of one HTTP/2 response that are buffered for a slow client, 1 to
        /// 2^31 - 1. Defaults to 64 KiB.
        pub h2_send_buffer: usize = 64 << 10,
        /// Maximum number of requests that the client has reset and the server has not yet processed, 1 to
        /// 1,000,000. Defaults to 20.
        ///
        /// Above the limit the connection is closed with GOAWAY (CVE-2023-44487, "rapid reset").
        pub h2_max_pending_resets: usize = 20,
        /// Maximum number of requests that the server resets because of protocol errors of the client, 1 to
        /// 1,000,000. Defaults to 100.
        ///
        /// Above the limit the connection is closed with GOAWAY (CVE-2025-8671, "MadeYouReset").
        pub h2_max_error_resets: usize = 100,
        /// Interval between PING frames on each HTTP/2 connection. Defaults to 20 s.
        pub h2_ping_interval: Duration = Duration::from_secs(20),
        /// Maximum time to wait for the response to a PING, after which the connection is closed.
        /// Defaults to 20 s.
        pub h2_ping_timeout: Duration = Duration::from_secs(20),
        /// Maximum time that requests in flight may take after the server was stopped. Defaults to 30 s.
        pub grace: Duration = Duration::from_secs(30),
        /// Counters of the connections. By default the server has its own; pass a clone to read them.
        pub connections: Connections = Connections::default(),
        /// Certificates for HTTPS, with HTTP/2 by ALPN (feature `tls`). `None`, the default, serves plain HTTP.
        #[cfg(feature = "tls")]
        pub tls: Option<ServerTls> = None,
    }
    limits {
        header_timeout: within(WAIT),
        idle_timeout: within(WAIT),
        write_timeout: within(WAIT),
        max_age: within(WAIT),
        max_head: within(8_usize << 10..=1 << 30),
        // hyper panics if the number exceeds the capacity of a `HeaderMap`.
        max_headers: within(1_usize..=10_000),
        max_connections: within(1_usize..=1_000_000),
        h2_max_streams: within(1..=MAX_WINDOW),
        h2_stream_window: within(1..=MAX_WINDOW),
        h2_connection_window: within(1..=MAX_WINDOW),
        h2_max_frame: within(16_u32 << 10..=(16 << 20) - 1),
        h2_send_buffer: within(1..=MAX_WINDOW as usize),
        h2_max_pending_resets: within(1_usize..=1_000_000),
        h2_max_error_resets: within(1_usize..=1_000_000),
        h2_ping_interval: within(WAIT),
        h2_ping_timeout: within(WAIT),
        grace: within(Duration::ZERO..=YEAR),
    }
}

impl Validate for ServerConfig {
    fn errors(&self) -> Vec<ConfigError> {
        self.check_limits().into_vec()
    }
}

impl ServerConfig {
    /// Builds hyper's server for HTTP/1 and HTTP/2, which detects the version by the first bytes.
    ///
    /// hyper's header timeout is disabled, because it also runs while a connection is idle and does
    /// not cover the time before the first byte.
    /// [`ConnectionTimeouts`](super::activity::ConnectionTimeouts) replaces it.
    pub(super) fn protocols(&self) -> (http1::Builder, http2::Builder<TokioExecutor>) {
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(self.max_head)
            .max_headers(self.max_headers);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.h2_max_streams)
            .initial_stream_window_size(self.h2_stream_window)
            .initial_connection_window_size(self.h2_connection_window)
            .max_frame_size(self.h2_max_frame)
            .max_header_list_size(u32::try_from(self.max_head).unwrap_or(u32::MAX))
            .max_send_buf_size(self.h2_send_buffer)
            .max_pending_accept_reset_streams(self.h2_max_pending_resets)
            .max_local_error_reset_streams(self.h2_max_error_resets)
            .keep_alive_interval(self.h2_ping_interval)
            .keep_alive_timeout(self.h2_ping_timeout);
        (http1, http2)
    }
}

/// Maximum size of an HTTP/2 window (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
