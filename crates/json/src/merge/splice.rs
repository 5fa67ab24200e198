//! Writes a document out of pieces that are JSON already.

use bytes::Bytes;

use super::MergeError;
use crate::check::{Json, quoted};

/// What a name costs beside its own bytes: quotes, a colon, a comma.
const AROUND: usize = 4;

/// A document that is being written, and the most bytes it may have.
pub(super) struct Splice {
    out: Vec<u8>,
    max_bytes: usize,
}

impl Splice {
    /// Room for all answers and their names, so that it is seldom made again.
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

    pub(super) fn put(&mut self, piece: &[u8]) -> Result<(), MergeError> {
        if piece.len() > self.max_bytes - self.out.len() {
            return Err(MergeError::TooLarge);
        }
        self.out.extend_from_slice(piece);
        Ok(())
    }

    /// What stands before the member or item at `place`.
    pub(super) fn part(&mut self, place: usize) -> Result<(), MergeError> {
        if place > 0 { self.put(b",") } else { Ok(()) }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.out.into()
    }

    /// An object of all answers.
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

    /// An array of the items of all answers.
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

/// The items of an array as they are written, and what is no array itself.
fn items(answer: &[u8]) -> &[u8] {
    match answer {
        [b'[', items @ .., b']'] => items.trim_ascii(),
        item => item,
    }
}
