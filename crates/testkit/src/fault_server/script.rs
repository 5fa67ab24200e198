//! What the server does with one connection.

use super::{Fault, Request};

/// A script for one connection: answers to its requests in turn, or an act before any request.
///
/// ```
/// use tower_fanout_testkit::fault_server::{Connection, Fault, FaultServer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = FaultServer::connections([
///     // a pooled connection that breaks when it is used again
///     Connection::new([Fault::json("{}"), Fault::reset_before_head()]),
///     Connection::refuse(),
///     Connection::new([Fault::json("{}")]).repeat(),
/// ])
/// .await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connection {
    pub(super) first: Option<Fault>,
    faults: Vec<Fault>,
    repeat: bool,
}

impl Connection {
    /// Does the next of `faults` with each request, and closes the connection right after the last:
    /// a pool that took it back holds a dead connection.
    ///
    /// # Panics
    ///
    /// Panics if there is no fault.
    #[must_use]
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let faults: Vec<Fault> = faults.into_iter().collect();
        assert!(!faults.is_empty(), "a script has a fault");
        Self {
            first: None,
            faults,
            repeat: false,
        }
    }

    /// Repeats the last fault instead, for as many requests as there come.
    #[must_use]
    pub fn repeat(self) -> Self {
        Self {
            repeat: true,
            ..self
        }
    }

    /// Answers `{}` to `count` requests, and closes the connection right after the last.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0; see [`close`](Self::close).
    #[must_use]
    pub fn close_after(count: usize) -> Self {
        Self::new(vec![Fault::json("{}"); count])
    }

    /// Does `fault` as soon as the connection is there, reads no request, and then closes.
    #[must_use]
    pub fn at_once(fault: Fault) -> Self {
        Self {
            first: Some(fault),
            ..Self::new([Fault::new()])
        }
    }

    /// Accepts and resets the connection; [`FaultServer::refusing`](super::FaultServer::refusing)
    /// does not even accept it.
    #[must_use]
    pub fn refuse() -> Self {
        Self::at_once(Fault::new().reset())
    }

    /// Accepts and closes the connection. A client that wrote before may see a reset.
    #[must_use]
    pub fn close() -> Self {
        Self::at_once(Fault::new())
    }

    /// Accepts the connection and stays silent until the peer leaves.
    #[must_use]
    pub fn stall() -> Self {
        Self::at_once(Fault::new().stall())
    }

    /// Sends bytes that are no HTTP before any request came.
    #[must_use]
    pub fn garbage() -> Self {
        Self::at_once(Fault::new().send([0, 159, 146, 150, b'\r', b'\n', b'\r', b'\n']))
    }

    /// Sends a whole answer before any request came, and keeps the connection open.
    #[must_use]
    pub fn early_answer() -> Self {
        Self::at_once(Fault::json("{}").stall())
    }

    /// What to do with each request.
    pub(super) fn into_route(self) -> impl FnMut(&Request) -> Fault {
        let mut next = 0;
        move |_| {
            let last = next + 1 >= self.faults.len();
            let fault = self.faults[next].clone();
            match (last, self.repeat) {
                (true, true) => fault,
                (true, false) => fault.or_close(),
                (false, _) => {
                    next += 1;
                    fault
                }
            }
        }
    }
}
