//! Writes log lines on a thread of its own, so that no request and no signal waits for a reader of the
//! log.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Duration,
};

use metrics::counter;

/// Name of the counter of log lines that were dropped because the queue was full or the output failed.
pub(crate) const DROPPED: &str = "fanout_logs_dropped_total";

/// Maximum size of the queued lines in bytes. A line that does not fit is dropped.
const CAPACITY: usize = 1 << 20;

/// Maximum time for which the end of the process waits for a write to standard error.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_millis(250);

/// The sending end of the queue of log lines. Each write is one line and never blocks.
#[derive(Clone)]
pub(crate) struct LogWriter {
    messages: Sender<Message>,
    queued: Arc<AtomicUsize>,
}

enum Message {
    Line(Box<[u8]>),
    Flush(SyncSender<()>),
}

/// Waits on drop until the lines that are queued by then are written, for at most 250 ms.
pub(crate) struct Flush(LogWriter);

impl LogWriter {
    /// Starts the thread that writes the lines to `output`.
    ///
    /// # Errors
    /// Returns an error if the thread cannot be started.
    pub(crate) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, received) = channel();
        let queued = Arc::new(AtomicUsize::new(0));
        let size = Arc::clone(&queued);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&received, &size, output))?;
        Ok(Self { messages, queued })
    }

    /// Returns a guard that flushes this writer.
    #[must_use]
    pub(crate) fn flush_on_drop(&self) -> Flush {
        Flush(self.clone())
    }

    fn send(&self, line: &[u8]) {
        let queued = self.queued.fetch_add(line.len(), Ordering::Relaxed);
        let fits = queued.saturating_add(line.len()) <= CAPACITY;
        if !fits || self.messages.send(Message::Line(line.into())).is_err() {
            self.queued.fetch_sub(line.len(), Ordering::Relaxed);
            counter!(DROPPED).increment(1);
        }
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, flushed) = sync_channel(1);
        if self.0.messages.send(Message::Flush(done)).is_ok() {
            // A reader that has stopped must not keep the process alive.
            let _ = flushed.recv_timeout(WRITE_TIMEOUT);
        }
    }
}

/// Writes lines until all senders are gone. Lines that cannot be written, for example because the reader
/// has closed its end, are lost and counted.
fn write_lines(messages: &Receiver<Message>, queued: &AtomicUsize, mut output: impl Write) {
    for message in messages {
        match message {
            Message::Line(line) => {
                if output.write_all(&line).is_err() {
                    counter!(DROPPED).increment(1);
                }
                queued.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Message::Flush(done) => {
                let _ = output.flush();
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// An output that blocks in each write while the test holds the lock.
    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn writes_lines_in_order_and_flushes_on_drop() {
        let output = Output::default();
        let mut writer = LogWriter::start(output.clone()).unwrap();
        let flush = writer.flush_on_drop();
        for line in ["one\n", "two\n", "three\n"] {
            writer.write_all(line.as_bytes()).unwrap();
        }
        drop(flush);
        assert_eq!(*output.0.lock().unwrap(), b"one\ntwo\nthree\n");
    }

    #[test]
    fn drops_lines_above_the_capacity_and_recovers() {
        let output = Output::default();
        let mut writer = LogWriter::start(output.clone()).unwrap();
        let stalled = output.0.lock().unwrap();
        let line = vec![b'x'; CAPACITY / 4];
        for _ in 0..20 {
            writer.write_all(&line).unwrap();
        }
        assert_eq!(writer.queued.load(Ordering::Relaxed), CAPACITY);
        drop(stalled);
        drop(writer.flush_on_drop());
        assert_eq!(output.0.lock().unwrap().len(), CAPACITY);
        assert_eq!(writer.queued.load(Ordering::Relaxed), 0);
        writer.write_all(b"again\n").unwrap();
        drop(writer.flush_on_drop());
        assert!(output.0.lock().unwrap().ends_with(b"again\n"));
    }
}
