//! The script of one connection.

use super::{EMPTY_SCRIPT, Fault, Request};

/// The behavior of the server on one connection: a fault per request, or one fault before any request.
///
/// ```
/// use tower_fanout_testkit::fault_server::{ConnectionScript, Fault, FaultServer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let server = FaultServer::connections([
///     // a pooled connection that breaks when the client reuses it
///     ConnectionScript::new([Fault::json("{}"), Fault::reset_before_head()]),
///     ConnectionScript::reset(),
///     ConnectionScript::new([Fault::json("{}")]).repeat_last(),
/// ])
/// .await;
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ConnectionScript {
    pub(super) first: Option<Fault>,
    faults: Vec<Fault>,
    repeat: bool,
}

impl ConnectionScript {
    /// Responds to the first request with the first fault, to the second with the second, and so on, and
    /// closes the connection after the last.
    ///
    /// A client that put the connection back into its pool then holds a dead connection. If the last
    /// fault has an end of its own, such as [`Fault::reset`], the connection ends that way.
    ///
    /// # Panics
    ///
    /// Panics if `faults` is empty.
    #[must_use]
    pub fn new(faults: impl IntoIterator<Item = Fault>) -> Self {
        let faults: Vec<Fault> = faults.into_iter().collect();
        assert!(!faults.is_empty(), "{EMPTY_SCRIPT}");
        Self {
            first: None,
            faults,
            repeat: false,
        }
    }

    /// Repeats the last fault for all further requests instead of closing the connection.
    #[must_use]
    pub fn repeat_last(self) -> Self {
        Self {
            repeat: true,
            ..self
        }
    }

    /// Responds with 200 and `{}` to `count` requests, and closes the connection after the last.
    ///
    /// # Panics
    ///
    /// Panics if `count` is 0. Use [`close`](Self::close) for that.
    #[must_use]
    pub fn close_after(count: usize) -> Self {
        Self::new(vec![Fault::json("{}"); count])
    }

    /// Sends `fault` as soon as the connection is accepted, and closes it without reading a request.
    ///
    /// If `fault` has an end of its own, the connection ends that way.
    #[must_use]
    pub fn before_request(fault: Fault) -> Self {
        Self {
            first: Some(fault),
            ..Self::new([Fault::new()])
        }
    }

    /// Accepts the connection and resets it.
    ///
    /// [`FaultServer::refusing`](super::FaultServer::refusing) refuses connections before they are
    /// accepted.
    #[must_use]
    pub fn reset() -> Self {
        Self::before_request(Fault::new().reset())
    }

    /// Accepts the connection and closes it. A client that has already sent bytes may see a reset.
    #[must_use]
    pub fn close() -> Self {
        Self::before_request(Fault::new())
    }

    /// Accepts the connection and sends nothing until the peer closes it.
    #[must_use]
    pub fn stall() -> Self {
        Self::before_request(Fault::new().stall())
    }

    /// Sends bytes that are not HTTP before any request, and closes the connection.
    #[must_use]
    pub fn garbage() -> Self {
        Self::before_request(Fault::new().send([0, 159, 146, 150, b'\r', b'\n', b'\r', b'\n']))
    }

    /// Sends a complete response before any request, and keeps the connection open.
    #[must_use]
    pub fn early_response() -> Self {
        Self::before_request(Fault::json("{}").stall())
    }

    /// Returns a function that chooses the fault for each request of the connection.
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
