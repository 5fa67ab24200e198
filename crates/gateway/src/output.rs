//! Output of commands to the terminal, which may be closed or full.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes `text` to standard output.
///
/// # Errors
/// Returns an error if the text cannot be written. A closed pipe is no error: its reader wanted no more
/// lines, as in `fanout explain | head -1`.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("cannot write to standard output: {error}");
            Err(io::Error::new(error.kind(), message))
        }
        _ => Ok(()),
    }
}

/// Writes an error to standard error, if that can be written.
pub(crate) fn print_error(error: impl Display) {
    // `eprintln!` would panic if standard error is closed or full.
    let _ = writeln!(io::stderr(), "fanout: {error}");
}
