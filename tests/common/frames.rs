//! Hand-written HTTP/2 frames (RFC 9113), valid and invalid.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes.
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// Builds one frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Builds the header block of a GET of `path`, without entries of the dynamic table.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    // GET, http, then :path and :authority as literals without indexing.
    [vec![0x82, 0x86, 0x04], text(path), vec![0x01], text("x")].concat()
}

/// Builds the frame of a whole GET of `path`.
pub(crate) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(path))
}

/// Returns the ids of the first `count` streams of a client.
pub(crate) fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|n| 2 * n + 1)
}

/// Frames that a server sent until it closed the connection, or until it was silent for 1 s after all
/// frames of the client were written.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Error code of the last GOAWAY.
    pub(crate) goaway: Option<u32>,
    /// Error code of each RST_STREAM.
    pub(crate) resets: Vec<u32>,
    pub(crate) answers: usize,
    pub(crate) acks: usize,
    pub(crate) closed: bool,
}

impl Sent {
    fn note(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match kind {
            HEADERS => self.answers += 1,
            RST_STREAM => self.resets.push(code(0)),
            GOAWAY => self.goaway = Some(code(4)),
            PING | SETTINGS if flags & ACK > 0 => self.acks += 1,
            _ => {}
        }
    }
}

/// Opens a connection, sends `frames`, and reads the frames of the server meanwhile.
pub(crate) async fn attack(addr: SocketAddr, frames: Vec<u8>) -> Sent {
    let (mut read, mut write) = TcpStream::connect(addr).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let begin = [
            preface,
            frame(SETTINGS, 0, 0, &[]),
            frame(SETTINGS, ACK, 0, &[]),
        ];
        // The server may close the connection before it has read all frames.
        let _ = write.write_all(&[begin.concat(), frames].concat()).await;
        write
    });
    let mut sent = Sent::default();
    let mut head = [0; 9];
    loop {
        match tokio::time::timeout(ms(1_000), read.read_exact(&mut head)).await {
            // The server is silent, and has read all frames.
            Err(_) if writing.is_finished() => break,
            Err(_) => continue,
            Ok(Err(_)) => {
                sent.closed = true;
                break;
            }
            Ok(Ok(_)) => {}
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if read.read_exact(&mut payload).await.is_ok() {
            sent.note(head[3], head[4], &payload);
        }
    }
    drop(writing.await.unwrap());
    sent
}
