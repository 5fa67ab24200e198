//! Connections over HTTP/1, and the pool of those that are idle.
//!
//! hyper parses and writes the messages. The call that uses a connection also drives it: no task is spawned for
//! an exchange. While a pool has idle connections of a runtime, one task of that runtime closes those that were idle
//! for too long, and those that the downstream has closed.
//!
//! `hyper_util::client::pool::cache` (0.1.21) is not used. It keeps services that are dropped, but has no idle timeout,
//! no maximum age, no maximum number of idle connections and no runtimes, and a struct cannot name its types.
//! Each of its connections would need a task to drive it.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::{
    runtime::{self, Handle},
    time::Instant,
};
use tower_fanout_layers::clock;

use super::{
    ClientConfig, ClientError, body::PartialResponse, connect::Connector, interim::Interim,
    wire::Wire,
};

/// Time between two looks at the idle connections.
const SWEEP: Duration = Duration::from_secs(1);

/// The HTTP/1 connections to one downstream.
pub(super) struct Http1Pool {
    connector: Connector,
    builder: http1::Builder,
    max_idle: usize,
    /// `true` if the number of open connections is limited.
    limited: bool,
    idle_timeout: Duration,
    max_age: Option<Duration>,
    max_response: usize,
    idle: Mutex<Vec<Idle>>,
}

/// The idle connections of one runtime. Present while the task of that runtime runs.
///
/// The events of a connection go to the runtime that opened it, so the calls of another one do not use it.
struct Idle {
    runtime: runtime::Id,
    /// The connection that was used last is at the end, and is used next.
    #[expect(
        clippy::vec_box,
        reason = "a connection is large, and each call moves it out and in"
    )]
    connections: Vec<Box<Connection>>,
}

impl Http1Pool {
    pub(super) fn new(connector: Connector, config: &ClientConfig) -> Self {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(config.max_head);
        let max_open = config.max_connections;
        Self {
            connector,
            builder,
            max_idle: config.max_idle.min(max_open.unwrap_or(usize::MAX)),
            limited: max_open.is_some(),
            idle_timeout: config.idle_timeout,
            max_age: config.max_age,
            max_response: config.max_response,
            idle: Mutex::default(),
        }
    }

    /// Sends `request`, which it takes, on an idle connection, or on a new one if none is idle, and collects the
    /// response.
    ///
    /// If the downstream has closed an idle connection before any part of the request was sent, the next one is
    /// used.
    pub(super) async fn send(
        self: &Arc<Self>,
        request: &mut Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, ClientError> {
        while let Some(mut connection) = self.take() {
            match connection.exchange(request, self.max_response).await {
                Err(Failed::NotSent(unsent)) => *request = unsent.0,
                Err(Failed::Call(error)) => return Err(error),
                Ok(response) => {
                    self.put(connection);
                    return Ok(response);
                }
            }
        }
        if self.limited {
            // Each call has at most one connection, so there is room for this one without an idle one.
            drop(self.take_any());
        }
        // Boxed, because most calls find an idle connection, and the future that opens one is large.
        let mut connection = Box::pin(self.open()).await?;
        let response = connection.exchange(request, self.max_response).await;
        let response = response.map_err(Failed::into_error)?;
        self.put(connection);
        Ok(response)
    }

    async fn open(&self) -> Result<Box<Connection>, ClientError> {
        let wire = self.connector.connect().await?;
        let (sender, driver) = (self.builder.handshake(wire).await).map_err(failed)?;
        let now = Instant::now();
        Ok(Box::new(Connection {
            sender,
            driver,
            interim: Interim::new(),
            ended: false,
            opened: now,
            idle_since: now,
        }))
    }

    /// Removes the idle connection that this runtime has used last.
    fn take(&self) -> Option<Box<Connection>> {
        let (now, runtime) = (clock::now(), runtime_id());
        let mut idle = self.idle();
        let own = idle.iter_mut().find(|idle| idle.runtime == runtime)?;
        // The task of the pool closes expired connections.
        let usable = |connection: &mut Box<Connection>| !self.is_expired(connection, now);
        own.connections.pop_if(usable)
    }

    /// Removes an idle connection of any runtime.
    fn take_any(&self) -> Option<Box<Connection>> {
        let mut idle = self.idle();
        idle.iter_mut().find_map(|idle| idle.connections.pop())
    }

    /// Keeps `connection` for later calls, unless it cannot or must not be used again.
    fn put(self: &Arc<Self>, mut connection: Box<Connection>) {
        let (now, runtime) = (clock::now(), runtime_id());
        connection.idle_since = now;
        connection.interim.end();
        if !connection.is_ready() || self.is_expired(&connection, now) {
            return;
        }
        let mut idle = self.idle();
        let count: usize = idle.iter().map(|idle| idle.connections.len()).sum();
        if count >= self.max_idle {
            return;
        }
        if let Some(own) = idle.iter_mut().find(|idle| idle.runtime == runtime) {
            own.connections.push(connection);
            return;
        }
        idle.push(Idle {
            runtime,
            connections: vec![connection],
        });
        drop(idle);
        let sweeper = Sweeper {
            pool: Arc::downgrade(self),
            runtime,
        };
        tokio::spawn(sweeper.run(self.idle_timeout.min(SWEEP)));
    }

    fn is_expired(&self, connection: &Connection, now: Instant) -> bool {
        let aged = |max_age| now.duration_since(connection.opened) >= max_age;
        now.duration_since(connection.idle_since) >= self.idle_timeout
            || self.max_age.is_some_and(aged)
    }

    /// Closes the idle connections of `runtime` that are expired or that the downstream has closed. Returns `false`
    /// if none is left.
    fn sweep(&self, runtime: runtime::Id) -> bool {
        let now = Instant::now();
        let mut idle = self.idle();
        let closed = |connection: &mut Box<Connection>| {
            self.is_expired(connection, now) || !connection.is_ready()
        };
        let Some(own) = idle.iter_mut().find(|idle| idle.runtime == runtime) else {
            return false;
        };
        let closed: Vec<_> = own.connections.extract_if(.., closed).collect();
        let left = !own.connections.is_empty();
        drop(idle);
        // Closing a connection is a call of the operating system, so it is done without the lock.
        drop(closed);
        left
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that closes idle connections of one runtime.
struct Sweeper {
    pool: Weak<Http1Pool>,
    runtime: runtime::Id,
}

impl Sweeper {
    /// Runs until no connection of the runtime is idle, or the pool is dropped.
    async fn run(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let pool = self.pool.upgrade();
            if !pool.is_some_and(|pool| pool.sweep(self.runtime)) {
                return;
            }
        }
    }
}

impl Drop for Sweeper {
    /// Closes the connections that are left when the runtime ends. None are left when the task ends by itself, unless
    /// a call has just put one back, which is closed too.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut idle = pool.idle();
            let closed: Vec<_> = idle
                .extract_if(.., |idle| idle.runtime == self.runtime)
                .collect();
            drop(idle);
            drop(closed);
        }
    }
}

fn runtime_id() -> runtime::Id {
    Handle::current().id()
}

/// One connection, which at most one call uses at a time.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Wire>, Full<Bytes>>,
    interim: Interim,
    /// `true` when the driver has ended. It must not be polled again.
    ended: bool,
    opened: Instant,
    idle_since: Instant,
}

impl Connection {
    /// Sends `request`, which it takes, and collects the response. A connection whose exchange has failed, or was dropped before
    /// its end, must not be used again.
    async fn exchange(
        &mut self,
        request: &mut Request<Full<Bytes>>,
        max_response: usize,
    ) -> Result<Response<Bytes>, Failed> {
        self.interim.start(request);
        let mut head = pin!(self.sender.try_send_request(mem::take(request)));
        let head = poll_fn(|cx| {
            self.drive(cx);
            let head = head.as_mut().poll(&mut without_waker());
            self.interim.check(cx)?;
            head.map_err(Failed::from)
        });
        let mut partial = PartialResponse::new(head.await?, max_response)?;
        Ok(poll_fn(|cx| self.poll_body(cx, &mut partial)).await?)
    }

    /// Reads the body until it is complete or the connection has no more bytes.
    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        partial: &mut PartialResponse,
    ) -> Poll<Result<Response<Bytes>, ClientError>> {
        let mut driven = false;
        loop {
            let before = partial.remaining();
            let polled = partial.poll(&mut without_waker());
            if polled.is_ready() || driven && partial.remaining() == before {
                return polled;
            }
            // The driver reads the next chunk when there is room for it.
            self.drive(cx);
            driven = true;
        }
    }

    /// Writes and reads as much as possible. Wakes the caller when there is more to do.
    ///
    /// The futures of the head and of the body get no waker of their own, because only the driver can complete
    /// them.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            // The error of an exchange is passed to the call, and there is no other.
            self.ended = Pin::new(&mut self.driver).poll(cx).is_ready();
        }
    }

    /// Returns `true` if another request can be sent.
    fn is_ready(&mut self) -> bool {
        self.drive(&mut without_waker());
        !self.ended && self.sender.is_ready()
    }
}

const fn without_waker() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Why an exchange has no response.
enum Failed {
    /// The connection was closed before any part of the request was sent.
    NotSent(Box<(Request<Full<Bytes>>, hyper::Error)>),
    Call(ClientError),
}

impl Failed {
    fn into_error(self) -> ClientError {
        match self {
            Self::NotSent(unsent) => failed(unsent.1),
            Self::Call(error) => error,
        }
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Call(error)
    }
}

impl From<TrySendError<Request<Full<Bytes>>>> for Failed {
    fn from(mut error: TrySendError<Request<Full<Bytes>>>) -> Self {
        let unsent = error.take_message();
        let error = error.into_error();
        match unsent {
            Some(request) => Self::NotSent(Box::new((request, error))),
            None => Self::Call(failed(error)),
        }
    }
}

/// Returns the error of a call from that of its connection.
fn failed(error: hyper::Error) -> ClientError {
    ClientError::from_hyper(error, || None)
}
