//! Writes a document from pieces that are JSON already.

use bytes::Bytes;

use super::MergeError;
use crate::check::{Json, quoted};

/// Bytes that a member takes beside its name and value: two quotes, a colon and a comma.
const AROUND: usize = 4;

/// A document that is being written, with a limit of its size in bytes.
pub(super) struct Splice {
    out: Vec<u8>,
    max_bytes: usize,
}

impl Splice {
    /// Creates an empty document with capacity for all `parts`, so that it seldom reallocates.
    pub(super) fn new<'j>(
        max_bytes: usize,
        parts: impl Iterator<Item = (&'j str, &'j Json)>,
    ) -> Self {
        let size = |(name, answer): (&str, &Json)| answer.as_bytes().len() + name.len() + AROUND;
        let expected = parts.map(size).sum::<usize>() + 2;
        Self {
            out: Vec::with_capacity(expected.min(max_bytes)),
            max_bytes,
        }
    }

    /// Appends `piece`, or fails with [`MergeError::TooLarge`].
    pub(super) fn put(&mut self, piece: &[u8]) -> Result<(), MergeError> {
        if piece.len() > self.max_bytes - self.out.len() {
            return Err(MergeError::TooLarge);
        }
        self.out.extend_from_slice(piece);
        Ok(())
    }

    /// Writes the separator before the member or item with the index `place`.
    pub(super) fn part(&mut self, place: usize) -> Result<(), MergeError> {
        if place > 0 { self.put(b",") } else { Ok(()) }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    /// Writes an object with each response under the name of its node.
    pub(super) fn group<'j>(
        &mut self,
        parts: impl Iterator<Item = (&'j str, &'j Json)>,
    ) -> Result<(), MergeError> {
        self.put(b"{")?;
        for (place, (name, answer)) in parts.enumerate() {
            self.part(place)?;
            self.put(&quoted(name))?;
            self.put(b":")?;
            self.put(answer.as_bytes())?;
        }
        self.put(b"}")
    }

    /// Writes an array with the items of all responses.
    pub(super) fn concat<'j>(
        &mut self,
        parts: impl Iterator<Item = (&'j str, &'j Json)>,
    ) -> Result<(), MergeError> {
        self.put(b"[")?;
        let items = parts.map(|(_, answer)| items(answer.as_bytes()));
        for (place, items) in items.filter(|items| !items.is_empty()).enumerate() {
            self.part(place)?;
            self.put(items)?;
        }
        self.put(b"]")
    }
}

/// Returns the text between the brackets of an array, or `answer` itself if it is not an array.
fn items(answer: &[u8]) -> &[u8] {
    match answer {
        [b'[', items @ .., b']'] => items.trim_ascii(),
        item => item,
    }
}
