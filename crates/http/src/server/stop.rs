//! The stop of a server, as one of its connections sees it.

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::watch,
    task::yield_now,
    time::{Sleep, sleep},
};

use super::activity::Activity;

/// Time after the stop in which requests are still accepted, so that those which clients have sent before the
/// stop are served.
pub(super) const LAST_REQUESTS: Duration = Duration::from_millis(50);

/// The stop of a server, which ends a connection without a request [`LAST_REQUESTS`] later.
pub(super) struct Stop {
    stopped: watch::Receiver<()>,
    /// Set at the stop.
    end: Option<Pin<Box<Sleep>>>,
}

impl Stop {
    /// Creates the stop of a server that sends to `stopped`.
    pub(super) const fn new(stopped: watch::Receiver<()>) -> Self {
        Self { stopped, end: None }
    }

    /// Waits for the end of the time for last requests, and records its begin in `activity`. Can be dropped and
    /// called again.
    pub(super) async fn ended(&mut self, activity: &Activity) {
        if self.end.is_none() {
            // An error means that the server was dropped.
            let _ = self.stopped.changed().await;
            activity.close();
        }
        let end = || Box::pin(sleep(LAST_REQUESTS));
        self.end.get_or_insert_with(end).as_mut().await;
        // The connection is polled once more in the meantime, with all that has arrived.
        yield_now().await;
    }
}
