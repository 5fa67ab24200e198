//! Ends an HTTP/2 connection of a client that exceeds a limit of ours, which hyper cannot do: its only
//! GOAWAY has the code NO_ERROR.

/// A GOAWAY frame with ENHANCE_YOUR_CALM (RFC 9113 §6.8). The last stream is the highest possible one,
/// because any stream may have been processed.
pub(super) const ENHANCE_YOUR_CALM: [u8; 17] = [
    0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11,
];

/// Length of a frame's head.
const HEAD: usize = 9;

/// The position within the frames that the server sends. A frame of our own fits only between two of them.
#[derive(Debug, Default)]
pub(super) struct FramePosition {
    /// Number of bytes of the current head that are written.
    head: usize,
    /// Length in the current head, as far as it is written.
    length: usize,
    /// Number of payload bytes of the current frame that are not written yet.
    payload: usize,
}

impl FramePosition {
    /// Moves past `bytes`, which were written.
    pub(super) fn advance(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            if self.head < 3 {
                self.length = self.length << 8 | usize::from(*byte);
            }
            self.head += 1;
            if self.head == HEAD {
                (self.payload, self.length, self.head) = (self.length, 0, 0);
            }
            bytes = rest;
        }
    }

    /// Returns the number of bytes that certainly belong to the frame that is written in part: 0 between two
    /// frames.
    pub(super) const fn rest(&self) -> usize {
        match (self.head, self.payload) {
            (0, payload) => payload,
            (head, _) => HEAD - head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_d41_finds_the_ends_of_frames_in_writes_of_any_size() {
        let frames = [
            &[0, 0, 0, 4, 1, 0, 0, 0, 0][..],
            &[0, 1, 2, 0, 0, 0, 0, 0, 1],
            &[7; 258],
            &ENHANCE_YOUR_CALM,
        ]
        .concat();
        let ends = [0, 9, 9 + 9 + 258, 9 + 9 + 258 + 17];
        for size in 1..frames.len() {
            let (mut position, mut written) = (FramePosition::default(), 0);
            for bytes in frames.chunks(size) {
                assert_eq!(position.rest() == 0, ends.contains(&written));
                let next = ends.iter().find(|end| **end > written).unwrap();
                assert!(position.rest() <= next - written);
                position.advance(bytes);
                written += bytes.len();
            }
            assert_eq!(position.rest(), 0);
        }
    }
}
