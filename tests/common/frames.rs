//! Hand-written HTTP/2 frames (RFC 9113), valid and invalid.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
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
    let mut client = Client::connect(addr).await;
    // The server may close the connection before it has read all frames.
    let _ = client.send(&frames).await;
    client.end().await
}

/// An HTTP/2 client that sends frames one after the other, and reads those of the server meanwhile.
pub(crate) struct Client {
    write: OwnedWriteHalf,
    /// `true` once all frames are sent.
    ended: watch::Sender<bool>,
    /// Number of acknowledgements so far.
    acks: watch::Receiver<usize>,
    reading: JoinHandle<Sent>,
}

impl Client {
    /// Opens a connection and exchanges the settings.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        let (ended, end) = watch::channel(false);
        let (count, acks) = watch::channel(0);
        let reading = tokio::spawn(read_frames(read, end, count));
        let mut client = Self {
            write,
            ended,
            acks,
            reading,
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let begin = [
            preface,
            frame(SETTINGS, 0, 0, &[]),
            frame(SETTINGS, ACK, 0, &[]),
        ];
        client.send(&begin.concat()).await.unwrap();
        client
    }

    /// Sends `frames`. Fails if the server has closed the connection.
    pub(crate) async fn send(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.write.write_all(frames).await?;
        if self.reading.is_finished() {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Waits until the server has read all frames. Fails if it has closed the connection.
    pub(crate) async fn ping(&mut self) -> std::io::Result<()> {
        let before = *self.acks.borrow_and_update();
        self.send(&frame(PING, 0, 0, &[7; 8])).await?;
        let acknowledged = self.acks.wait_for(|acks| *acks > before).await;
        acknowledged.map_err(|_| std::io::ErrorKind::ConnectionAborted)?;
        Ok(())
    }

    /// Waits until the server closes the connection or is silent for 1 s. Returns what it has sent.
    pub(crate) async fn end(self) -> Sent {
        self.ended.send_replace(true);
        self.reading.await.unwrap()
    }
}

async fn read_frames(
    mut read: OwnedReadHalf,
    ended: watch::Receiver<bool>,
    acks: watch::Sender<usize>,
) -> Sent {
    let mut sent = Sent::default();
    let mut head = [0; 9];
    loop {
        match tokio::time::timeout(ms(1_000), read.read_exact(&mut head)).await {
            Err(_) if *ended.borrow() => return sent,
            Err(_) => continue,
            Ok(Err(_)) => {
                sent.closed = true;
                return sent;
            }
            Ok(Ok(_)) => {}
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if read.read_exact(&mut payload).await.is_ok() {
            sent.note(head[3], head[4], &payload);
            acks.send_replace(sent.acks);
        }
    }
}
