//! How connections are treated.

use std::time::Duration;

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};

use tower_fanout_layers::{
    config::{ConfigError, Validate},
    setters,
};

use super::Connections;
#[cfg(feature = "tls")]
use super::Tls;
use crate::bounds::{Bounds, WAIT, YEAR};

/// How connections are treated. Each setting bounds what one client can hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// How long the head of a request may take to come, from its first byte; on a new connection
    /// from its acceptance, with the TLS handshake. 10 s by default.
    pub header_timeout: Duration,
    /// How long a connection may be kept alive between two requests; 60 s by default.
    pub idle_timeout: Duration,
    /// How long a client may take nothing of an answer that is there for it; 30 s by default.
    pub write_timeout: Duration,
    /// How old a connection may get before its client is told to open another: after the answer in
    /// flight with `Connection: close`, in HTTP/2 with GOAWAY. Without end by default.
    pub max_age: Option<Duration>,
    /// The largest head, in bytes, 8 KiB to 1 GiB; 32 KiB by default.
    pub max_head: usize,
    /// The most headers in a request of HTTP/1; 100 by default.
    pub max_headers: usize,
    /// The most connections at once; more wait to be accepted. 12,000 by default.
    pub max_connections: usize,
    /// The most requests at once on a connection of HTTP/2; more are refused with REFUSED_STREAM.
    /// 100 by default.
    pub h2_max_streams: u32,
    /// How many bytes of one body HTTP/2 takes ahead of who reads it; 64 KiB by default.
    pub h2_stream_window: u32,
    /// How many bytes of all bodies of a connection HTTP/2 takes ahead; 256 KiB by default.
    pub h2_connection_window: u32,
    /// The largest frame of HTTP/2, in bytes, 16 KiB to 16 MiB; 16 KiB by default.
    pub h2_max_frame: u32,
    /// How many bytes of one answer HTTP/2 keeps for a slow client; 64 KiB by default.
    pub h2_send_buffer: usize,
    /// How many requests that the client took back may wait to be noticed before the connection
    /// ends with GOAWAY (CVE-2023-44487, "rapid reset"); 20 by default.
    pub h2_max_pending_resets: usize,
    /// How many requests may be reset for the client's own mistakes before the connection ends
    /// with GOAWAY (CVE-2025-8671, "MadeYouReset"); 100 by default.
    pub h2_max_error_resets: usize,
    /// How often a client of HTTP/2 is asked whether it is still there; every 20 s by default.
    pub h2_ping_interval: Duration,
    /// How long it may take to say so; 20 s by default.
    pub h2_ping_timeout: Duration,
    /// How long requests in flight may go on after the stop; 30 s by default.
    pub grace: Duration,
    /// Where connections are counted; nobody else's by default.
    pub connections: Connections,
    /// Serves HTTPS, HTTP/2 by ALPN, with these certificates; plain HTTP by default.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

setters! {
    ServerConfig {
        header_timeout: Duration,
        idle_timeout: Duration,
        write_timeout: Duration,
        max_age: Option<Duration>,
        max_head: usize,
        max_headers: usize,
        max_connections: usize,
        h2_max_streams: u32,
        h2_stream_window: u32,
        h2_connection_window: u32,
        h2_max_frame: u32,
        h2_send_buffer: usize,
        h2_max_pending_resets: usize,
        h2_max_error_resets: usize,
        h2_ping_interval: Duration,
        h2_ping_timeout: Duration,
        grace: Duration,
        connections: Connections,
    }
}

#[cfg(feature = "tls")]
setters! {
    without new ServerConfig {
        tls: Option<Tls>,
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            max_age: None,
            max_head: 32 << 10,
            max_headers: 100,
            max_connections: 12_000,
            h2_max_streams: 100,
            h2_stream_window: 64 << 10,
            h2_connection_window: 256 << 10,
            h2_max_frame: 16 << 10,
            h2_send_buffer: 64 << 10,
            h2_max_pending_resets: 20,
            h2_max_error_resets: 100,
            h2_ping_interval: Duration::from_secs(20),
            h2_ping_timeout: Duration::from_secs(20),
            grace: Duration::from_secs(30),
            connections: Connections::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl Validate for ServerConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Bounds::default()
            .time("header_timeout", self.header_timeout, WAIT)
            .time("idle_timeout", self.idle_timeout, WAIT)
            .time("write_timeout", self.write_timeout, WAIT)
            .time("max_age", self.max_age, WAIT)
            .number("max_head", self.max_head, 8 << 10..=1 << 30)
            // hyper panics on as many headers as a map cannot hold.
            .number("max_headers", self.max_headers, 1..=10_000)
            .number("max_connections", self.max_connections, 1..=1_000_000)
            .number("h2_max_streams", self.h2_max_streams, 1..=MAX_WINDOW)
            .number("h2_stream_window", self.h2_stream_window, 1..=MAX_WINDOW)
            .number(
                "h2_connection_window",
                self.h2_connection_window,
                1..=MAX_WINDOW,
            )
            .number("h2_max_frame", self.h2_max_frame, 16 << 10..=(16 << 20) - 1)
            .number(
                "h2_send_buffer",
                self.h2_send_buffer,
                1..=MAX_WINDOW as usize,
            )
            .number(
                "h2_max_pending_resets",
                self.h2_max_pending_resets,
                1..=1_000_000,
            )
            .number(
                "h2_max_error_resets",
                self.h2_max_error_resets,
                1..=1_000_000,
            )
            .time("h2_ping_interval", self.h2_ping_interval, WAIT)
            .time("h2_ping_timeout", self.h2_ping_timeout, WAIT)
            .time("grace", self.grace, Duration::ZERO..=YEAR)
            .into_vec()
    }
}

impl ServerConfig {
    /// Both protocols, told apart by their first bytes. The times are not hyper's to keep: its own
    /// header timeout runs while a connection is idle, and not before the first byte.
    pub(super) fn protocols(&self) -> auto::Builder<TokioExecutor> {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(self.max_head)
            .max_headers(self.max_headers);
        http.http2()
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
        http
    }
}

/// The largest window of HTTP/2 (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;
