//! Threads that serve connections.

use std::{fmt, future::Future, io, num::NonZeroUsize, sync::Arc, thread};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle},
    sync::watch,
    task::JoinSet,
};

/// Threads that serve the connections of a [`Server`](super::Server), with a runtime each.
///
/// A connection stays on one thread, and so do the calls that its requests make: nothing is woken across threads.
/// Without workers, the runtime that runs the server also runs its connections, and a runtime with several threads
/// moves them between its threads.
///
/// The threads end when this value is dropped, and with them all tasks that connections have spawned.
pub struct Workers {
    workers: Vec<Worker>,
    // The threads run until this is dropped.
    _running: watch::Sender<()>,
}

struct Worker {
    runtime: Handle,
    /// Each open connection has a clone.
    connections: Arc<()>,
}

impl Workers {
    /// Starts `count` threads, which wait for connections.
    ///
    /// # Errors
    /// Returns an error if the system cannot start a thread or a runtime.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let (running, stopped) = watch::channel(());
        let workers = (0..count.get()).map(|number| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, mut stopped) = (runtime.handle().clone(), stopped.clone());
            thread::Builder::new()
                .name(format!("worker-{number}"))
                // Fails when the sender is dropped, as nothing is ever sent.
                .spawn(move || runtime.block_on(async { drop(stopped.changed().await) }))?;
            Ok(Worker {
                runtime: handle,
                connections: Arc::default(),
            })
        });
        Ok(Self {
            workers: workers.collect::<io::Result<_>>()?,
            _running: running,
        })
    }

    /// Runs `serve` with `socket` on the thread with the fewest connections. Closes the socket if the system cannot
    /// move it there.
    pub(super) fn spawn<F>(
        &self,
        tasks: &mut JoinSet<()>,
        socket: TcpStream,
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let open = |worker: &&Worker| Arc::strong_count(&worker.connections);
        // There is at least one.
        let Some(worker) = self.workers.iter().min_by_key(open) else {
            return;
        };
        let connection = Arc::clone(&worker.connections);
        // The events of a socket go to the runtime that it is registered with.
        let socket = socket.into_std();
        let task = async move {
            match socket.and_then(TcpStream::from_std) {
                Ok(socket) => serve(socket).await,
                Err(error) => tracing::warn!(%error, "failed to serve a connection"),
            }
            drop(connection);
        };
        tasks.spawn_on(task, &worker.runtime);
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("count", &self.workers.len())
            .finish_non_exhaustive()
    }
}
