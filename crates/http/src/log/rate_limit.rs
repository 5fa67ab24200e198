//! A limit for repeated log lines.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Admits at most one log line per interval, and counts the lines that it suppresses.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use std::time::Duration;
/// use tower_fanout_http::log::RateLimit;
///
/// let warnings = RateLimit::new(Duration::from_secs(60));
/// assert_eq!(warnings.admit(), Some(0));
/// assert_eq!(warnings.admit(), None);
/// tokio::time::advance(Duration::from_secs(60)).await;
/// assert_eq!(warnings.admit(), Some(1));
/// # }
/// ```
#[derive(Debug)]
pub struct RateLimit {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// Creates a limit of one line per `every`.
    #[must_use]
    pub const fn new(every: Duration) -> Self {
        let state = Mutex::new(State {
            last: None,
            suppressed: 0,
        });
        Self { every, state }
    }

    /// Returns the number of lines that were suppressed since the last one, or `None` if this line is
    /// suppressed too.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state();
        if state.last.is_some_and(|last| now < last + self.every) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
