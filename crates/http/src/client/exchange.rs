//! What a connection of HTTP/1 is in the midst of, by the bytes that pass.

use std::{fmt, io::IoSlice};

/// The most interim answers (1xx) that may come before an answer.
const MAX_INTERIM: u8 = 16;

/// The digits of a status begin after as many bytes: `HTTP/1.1 `.
const STATUS_AT: u8 = 9;

/// What stands before the length of a body, as hyper writes it.
const LENGTH: &[u8] = b"\ncontent-length: ";

/// One exchange after the other on one connection.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    sent: Sent,
    /// Whether a request was answered here before.
    reused: bool,
    /// Whether a request is on its way, and its final answer has not begun.
    asked: bool,
    /// Whether anything has come for that request.
    answered: bool,
    head: Head,
}

/// How far a request has gone: its answer may begin before its end.
#[derive(Debug, Default)]
enum Sent {
    /// What is sent next is another request.
    #[default]
    Whole,
    Head(SentHead),
    /// So many bytes are left.
    Body(u64),
}

#[derive(Debug, Default)]
struct SentHead {
    /// How much of [`LENGTH`] the present line has.
    matched: usize,
    /// Whether the present line has nothing in it.
    blank: bool,
    length: u64,
}

/// How far the heads before the final answer have come.
#[derive(Debug, Default)]
struct Head {
    /// The place in the first line, as far as the first digit of the status.
    at: u8,
    /// Whether the present line has anything in it.
    line: bool,
    interim: u8,
}

impl Exchange {
    /// A part of a request is about to be sent.
    pub(super) fn ask(&mut self) {
        if matches!(self.sent, Sent::Whole) {
            self.sent = Sent::Head(SentHead::default());
            self.asked = true;
            self.answered = false;
            self.head = Head::default();
        }
    }

    /// So many bytes of these parts were sent.
    pub(super) fn sent(&mut self, parts: &[IoSlice<'_>], mut count: usize) {
        for part in parts {
            let taken = &part[..part.len().min(count)];
            self.sent.take(taken);
            count -= taken.len();
        }
    }

    /// A part of an answer came.
    ///
    /// # Errors
    /// There were too many interim answers.
    pub(super) fn answer(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if !self.asked || bytes.is_empty() {
            return Ok(());
        }
        self.answered = true;
        if self.head.is_final(bytes) {
            self.asked = false;
            self.reused = true;
        }
        if self.head.interim > MAX_INTERIM {
            return Err(Broken::Interim);
        }
        Ok(())
    }

    /// Whether a connection that ends now was closed before the request came, as far as one can tell:
    /// it was kept from an earlier one, and not a byte of an answer is there.
    pub(super) const fn is_stale(&self) -> bool {
        self.reused && self.asked && !self.answered
    }
}

impl Sent {
    fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes.iter();
        while let Self::Head(head) = self {
            let Some(byte) = rest.next() else { return };
            if head.is_over(*byte) {
                *self = Self::Body(head.length);
            }
        }
        if let Self::Body(left) = self {
            *left = left.saturating_sub(rest.len() as u64);
            if *left == 0 {
                *self = Self::Whole;
            }
        }
    }
}

impl SentHead {
    /// Whether this byte is the last.
    fn is_over(&mut self, byte: u8) -> bool {
        match byte {
            b'\n' if self.blank => return true,
            b'\n' => (self.matched, self.blank) = (1, true),
            b'\r' => {}
            b'0'..=b'9' if self.matched == LENGTH.len() => {
                self.length = self
                    .length
                    .saturating_mul(10)
                    .saturating_add(u64::from(byte - b'0'));
            }
            byte => {
                self.blank = false;
                let fits = self.matched > 0 && LENGTH.get(self.matched) == Some(&byte);
                self.matched = if fits { self.matched + 1 } else { 0 };
            }
        }
        false
    }
}

impl Head {
    /// Whether the status of the final answer is among `bytes`, or there were too many before it.
    fn is_final(&mut self, bytes: &[u8]) -> bool {
        for byte in bytes {
            match (self.at, byte) {
                (STATUS_AT, b'1') => {
                    self.interim += 1;
                    (self.at, self.line) = (STATUS_AT + 1, true);
                }
                (STATUS_AT, _) => return true,
                (0, b'\r' | b'\n') => {} // empty lines before a head are overlooked
                (0..STATUS_AT, _) => self.at += 1,
                (_, b'\r') => {}
                (_, b'\n') if self.line => self.line = false,
                (_, b'\n') => self.at = 0,
                _ => self.line = true,
            }
            if self.interim > MAX_INTERIM {
                return true;
            }
        }
        false
    }
}

/// Why a connection is of no use any more; it is the source of the error that hyper sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// There were too many interim answers.
    Interim,
    /// It had been closed before the request came.
    Stale,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interim => "too many interim answers",
            Self::Stale => "the connection was closed before it was used again",
        })
    }
}

impl std::error::Error for Broken {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    fn send(exchange: &mut Exchange, bytes: &str) {
        exchange.ask();
        exchange.sent(&[IoSlice::new(bytes.as_bytes())], bytes.len());
    }

    const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

    fn interim(count: usize) -> String {
        let heads = [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx: HTTP/1.1 1\r\n\r\n",
            "\r\nHTTP/1.1 102 \n\n",
        ];
        heads.iter().cycle().take(count).copied().collect()
    }

    proptest! {
        #[test]
        fn fault_f17_interim_answers_are_counted_however_they_are_cut(
            count in 0..40usize,
            cuts in prop::collection::vec(1..40usize, 1..50),
        ) {
            let all = interim(count) + FINAL;
            let mut exchange = Exchange::default();
            exchange.ask();
            let (mut rest, mut result) = (all.as_bytes(), Ok(()));
            for size in cuts.iter().cycle() {
                if rest.is_empty() || result.is_err() {
                    break;
                }
                let piece;
                (piece, rest) = rest.split_at(rest.len().min(*size));
                result = exchange.answer(piece);
            }
            prop_assert_eq!(result.is_err(), count > 16);
            prop_assert_eq!(exchange.asked && result.is_ok(), false);
        }
    }

    #[test]
    fn fault_f6_only_a_kept_connection_without_a_byte_is_stale() {
        let mut exchange = Exchange::default();
        send(&mut exchange, GET);
        assert!(!exchange.is_stale(), "it is new");
        exchange.answer(FINAL.as_bytes()).unwrap();
        assert!(!exchange.is_stale(), "nothing is asked");
        exchange.ask();
        exchange.ask();
        assert!(exchange.is_stale());
        exchange.answer(b"").unwrap();
        assert!(exchange.is_stale());
        exchange.answer(b"H").unwrap();
        exchange.ask();
        assert!(!exchange.is_stale(), "its answer has begun");
    }

    proptest! {
        #[test]
        fn fault_f6_the_end_of_a_request_is_known_however_it_is_cut(
            body in "[ -~\n]{0,40}",
            cuts in prop::collection::vec(1..40usize, 1..50),
        ) {
            let length = format!("content-length: {}", body.len());
            for head in [
                format!("PUT / HTTP/1.1\r\nx: {length}9\r\n{length}\r\nhost: x\r\n\r\n"),
                format!("PUT / HTTP/1.1\r\nhost: x\r\n{length}\r\n\r\n"),
            ] {
                let all = head + &body;
                let (mut exchange, mut rest) = (Exchange::default(), all.as_bytes());
                for size in cuts.iter().cycle() {
                    exchange.ask();
                    prop_assert!(!matches!(exchange.sent, Sent::Whole));
                    let size = rest.len().min(*size);
                    let (first, second) = rest.split_at(size / 2);
                    exchange.sent(&[IoSlice::new(first), IoSlice::new(second)], size);
                    rest = &rest[size..];
                    if rest.is_empty() {
                        break;
                    }
                }
                prop_assert!(matches!(exchange.sent, Sent::Whole));
            }
        }
    }
}
