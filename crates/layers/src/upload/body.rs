//! A body that every clone reads from its beginning.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::Upload;
use crate::reject::BoxError;

/// A body that every clone reads from its beginning, as long as it is not too large to be kept.
///
/// What one clone has read of the caller's body is kept for the others. Data and trailers are the
/// same for each, and so are their limits: [`Body::is_end_stream`] and [`Body::size_hint`] are
/// exact. A clone for which a part is missing ends with an error.
pub struct ReplayBody<B> {
    shared: Arc<Shared<B>>,
    /// How many frames this clone has read.
    read: usize,
}

struct Shared<B> {
    upload: Arc<Upload>,
    max: u64,
    source: Mutex<Source<B>>,
}

struct Source<B> {
    /// The caller's body, until its end.
    rest: Option<Pin<Box<B>>>,
    /// How many frames were read of it.
    taken: usize,
    /// Those frames, unless they are lost.
    kept: Vec<Piece>,
    size: u64,
    lost: bool,
    /// Clones that wait for the caller.
    waiting: Vec<Waker>,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn of<D: Buf>(frame: Frame<D>) -> Self {
        let trailers = match frame.into_data() {
            Ok(mut data) => return Self::Data(data.copy_to_bytes(data.remaining())),
            Err(frame) => frame.into_trailers(),
        };
        Self::Trailers(trailers.unwrap_or_default())
    }

    fn size(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Trailers(trailers) => {
                let sizes = trailers
                    .iter()
                    .map(|(name, value)| name.as_str().len() + value.len());
                sizes.sum::<usize>() as u64
            }
        }
    }

    fn into_frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B: Body> ReplayBody<B> {
    /// `body`, of which up to `max` bytes are kept; `upload` is told how far it is.
    pub(super) fn new(body: B, max: u64, upload: Arc<Upload>) -> Self {
        let lost = body.size_hint().lower() > max;
        let ended = body.is_end_stream();
        if lost {
            upload.lost();
        }
        if ended {
            upload.whole();
        }
        let source = Source {
            rest: (!ended).then(|| Box::pin(body)),
            taken: 0,
            kept: Vec::new(),
            size: 0,
            lost,
            waiting: Vec::new(),
        };
        let shared = Shared {
            upload,
            max,
            source: Mutex::new(source),
        };
        Self {
            shared: Arc::new(shared),
            read: 0,
        }
    }
}

impl<B> Shared<B> {
    fn source(&self) -> MutexGuard<'_, Source<B>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Source<B> {
    /// The frame after the first `read`, if it was kept.
    fn kept(&self, read: usize) -> Option<Piece> {
        self.kept.get(read).filter(|_| !self.lost).cloned()
    }

    /// Keeps `piece` for the clones that have not read it, if there are any and it fits.
    fn keep(&mut self, piece: &Piece, wanted: bool, max: u64) {
        self.taken += 1;
        self.size += piece.size();
        self.lost |= !wanted || self.size > max;
        if self.lost {
            self.kept = Vec::new();
        } else {
            self.kept.push(piece.clone());
        }
    }

    /// Tells how far a clone is that has read so many frames.
    fn tell(&self, read: usize, failed: bool, upload: &Upload) {
        if self.lost || failed {
            upload.lost();
        }
        if self.rest.is_none() && !failed {
            upload.whole();
            if read >= self.taken {
                upload.sent(Instant::now());
            }
        }
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

impl<B> Source<B>
where
    B: Body<Error: Into<BoxError>>,
{
    /// The next frame of the caller's body.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BoxError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = rest.as_mut().poll_frame(cx) else {
            if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                self.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        };
        let goes_on = matches!(frame, Some(Ok(_))) && !rest.is_end_stream();
        self.rest.take_if(|_| !goes_on);
        self.wake();
        Poll::Ready(frame.map(|frame| frame.map(Piece::of).map_err(Into::into)))
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Self { shared, read } = &mut *self;
        let wanted = Arc::strong_count(shared) > 1;
        let mut source = shared.source();
        if *read == 0 {
            shared.upload.sending();
        }
        let piece = match source.kept(*read) {
            Some(piece) => Some(Ok(piece)),
            None if *read < source.taken => {
                Some(Err("the body was too large to be sent again".into()))
            }
            None => ready!(source.pull(cx)),
        };
        if let Some(Ok(piece)) = &piece {
            *read += 1;
            if *read > source.taken {
                source.keep(piece, wanted, shared.max);
            }
        }
        source.tell(
            *read,
            piece.as_ref().is_some_and(Result::is_err),
            &shared.upload,
        );
        Poll::Ready(piece.map(|piece| piece.map(Piece::into_frame)))
    }

    fn is_end_stream(&self) -> bool {
        let source = self.shared.source();
        source.rest.is_none() && self.read >= source.taken
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.shared.source();
        if self.read < source.taken && source.lost {
            return SizeHint::default();
        }
        let kept = source.kept.iter().skip(self.read);
        let kept: u64 = kept
            .filter(|piece| matches!(piece, Piece::Data(_)))
            .map(Piece::size)
            .sum();
        let rest = match &source.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::default();
        hint.set_lower(rest.lower().saturating_add(kept));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint
    }
}

/// A clone reads the body from its beginning.
impl<B> Clone for ReplayBody<B> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            read: 0,
        }
    }
}

/// Whoever waits may have relied on this one to be woken.
impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        self.shared.source().wake();
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("upload", &self.shared.upload)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}
