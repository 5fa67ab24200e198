//! Output of commands to the terminal, which may be closed, full, or not read.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
    sync::mpsc::sync_channel,
    thread,
};

use crate::log_writer::WRITE_TIMEOUT;

/// Writes `text` to standard output.
///
/// # Errors
/// Returns an error if the text cannot be written. A closed pipe is no error: its reader wanted no more
/// lines, as in `fanout explain | head -1`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    printed(written.and_then(|()| stdout.flush()))
}

/// Prints the help, the version or the error of a command line. Returns the exit code.
///
/// # Errors
/// Returns an error if the help or the version cannot be written, as [`print()`] does.
pub(crate) fn print_usage(usage: clap::Error) -> io::Result<ExitCode> {
    let code = u8::try_from(usage.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
    if usage.use_stderr() {
        write_error(move || usage.print());
    } else {
        printed(usage.print())?;
    }
    Ok(code)
}

/// Returns the result of a write to standard output as [`print()`] does.
fn printed(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("cannot write to standard output: {error}");
            Err(io::Error::new(error.kind(), message))
        }
        _ => Ok(()),
    }
}

/// Writes an error to standard error, if that can be written within 250 ms.
pub(crate) fn print_error(error: impl Display) {
    let line = format!("fanout: {error}\n");
    write_error(move || io::stderr().write_all(line.as_bytes()));
}

/// Runs `write` on a thread of its own, and waits for it for at most [`WRITE_TIMEOUT`]: a reader that has
/// stopped must not keep the process alive.
fn write_error(write: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let (done, written) = sync_channel(1);
    let write = move || {
        // An error that cannot be written is lost. The exit code remains.
        let _ = write();
        let _ = done.send(());
    };
    if thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(WRITE_TIMEOUT);
    }
}
