//! A request body that each clone reads from the start.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Upload;
use crate::{
    rejection::BoxError,
    sync::{Mutex, MutexGuard, lock},
};

/// A request body that each clone reads from the start, unless the body is too large to be kept (feature `http`).
///
/// Frames that one clone has read from the caller's body are kept for the other clones. Each clone gets
/// the same data and trailers, and [`Body::is_end_stream`] and [`Body::size_hint`] are exact for each. A
/// clone that needs a frame that was not kept ends with an error. If the caller's body ends with an
/// error, every clone does.
///
/// [`Body::is_end_stream`]: https://docs.rs/http-body/1/http_body/trait.Body.html#method.is_end_stream
/// [`Body::size_hint`]: https://docs.rs/http-body/1/http_body/trait.Body.html#method.size_hint
pub struct ReplayBody<B> {
    shared: Arc<Shared<B>>,
    upload: Upload,
    /// Number of frames that this clone has read.
    read: usize,
    /// This clone has ended with an error.
    failed: bool,
}

struct Shared<B> {
    max: u64,
    source: Mutex<Source<B>>,
}

/// The caller's body and the frames that were read from it.
struct Source<B> {
    /// The caller's body. `None` after its end.
    rest: Option<Pin<Box<B>>>,
    /// Number of frames that were read from the caller's body.
    taken: usize,
    /// These frames, unless `lost`.
    kept: Vec<Piece>,
    /// Size of these frames in bytes, trailers included.
    size: u64,
    /// At least one frame was not kept, so no other clone can read the body.
    lost: bool,
    /// The error that ended the caller's body.
    broken: Option<String>,
    waiting: Arc<Waiting>,
}

/// The wakers of all clones that wait for the caller.
///
/// The caller's body remembers only the waker of its last poll. The clone behind that waker may have been
/// dropped, so the caller's body wakes all clones.
#[derive(Default)]
struct Waiting(Mutex<Vec<Waker>>);

impl Waiting {
    fn add(&self, waker: &Waker) {
        let mut wakers = lock(&self.0);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn remove(&self, waker: &Waker) {
        lock(&self.0).retain(|known| !known.will_wake(waker));
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = mem::take(&mut *lock(&self.0));
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A frame that can be cloned.
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

    /// Returns the size in bytes. Names and values count for trailers.
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
    /// Wraps `body` and keeps up to `max` bytes of it. Reports the progress to `upload`.
    pub(super) fn new(body: B, max: u64, upload: Upload) -> Self {
        let lost = body.size_hint().lower() > max;
        let ended = body.is_end_stream();
        if lost {
            upload.mark_unrepeatable();
        }
        if ended {
            upload.mark_complete();
        }
        let source = Source {
            rest: (!ended).then(|| Box::pin(body)),
            taken: 0,
            kept: Vec::new(),
            size: 0,
            lost,
            broken: None,
            waiting: Arc::default(),
        };
        let shared = Shared {
            max,
            source: Mutex::new(source),
        };
        Self {
            shared: Arc::new(shared),
            upload,
            read: 0,
            failed: false,
        }
    }
}

impl<B> Source<B> {
    /// Returns the frame at index `read`, if it was kept.
    fn kept(&self, read: usize) -> Option<Piece> {
        self.kept.get(read).filter(|_| !self.lost).cloned()
    }

    /// Keeps `piece` if another clone may read it and if the kept frames stay within `max` bytes.
    fn keep(&mut self, piece: &Piece, has_other_readers: bool, max: u64) {
        self.taken += 1;
        self.size += piece.size();
        self.lost |= !has_other_readers || self.size > max;
        if self.lost {
            // Once a frame is missing, no clone can send the whole body again.
            self.kept = Vec::new();
        } else {
            self.kept.push(piece.clone());
        }
    }

    /// Reports the state of the caller's body.
    fn report(&self, upload: &Upload) {
        if self.lost || self.broken.is_some() {
            upload.mark_unrepeatable();
        }
        if self.is_complete() {
            upload.mark_complete();
        }
    }

    /// Returns `true` if the caller's body was read to its end without an error.
    fn is_complete(&self) -> bool {
        self.rest.is_none() && self.broken.is_none()
    }
}

impl<B> Source<B>
where
    B: Body<Error: Into<BoxError>>,
{
    /// Returns the frame at index `read`, kept or from the caller's body.
    fn next(&mut self, read: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BoxError>>> {
        if let Some(piece) = self.kept(read) {
            return Poll::Ready(Some(Ok(piece)));
        }
        let missing = if read < self.taken {
            BoxError::from("cannot send the request body again: too large to be kept")
        } else if let Some(error) = &self.broken {
            format!("the caller's request body ended early: {error}").into()
        } else {
            return self.pull(cx);
        };
        Poll::Ready(Some(Err(missing)))
    }

    /// Reads the next frame from the caller's body.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BoxError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        self.waiting.add(cx.waker());
        // All waiting clones are woken, not only the one that polled last.
        let all = Waker::from(Arc::clone(&self.waiting));
        let frame = ready!(rest.as_mut().poll_frame(&mut Context::from_waker(&all)));
        self.waiting.remove(cx.waker());
        // Drops the caller's body at its end, because a body must not be polled after that.
        let has_more = matches!(frame, Some(Ok(_))) && !rest.is_end_stream();
        self.rest.take_if(|_| !has_more);
        let piece = frame.map(|frame| frame.map(Piece::of).map_err(Into::into));
        if let Some(Err(error)) = &piece {
            self.broken = Some(error.to_string());
        }
        Poll::Ready(piece)
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
        let Self {
            shared,
            upload,
            read,
            failed,
        } = &mut *self;
        if *failed {
            return Poll::Ready(None);
        }
        // The last clone keeps no frames, because no other clone can read them.
        let has_other_readers = Arc::strong_count(shared) > 1;
        let mut source = lock(&shared.source);
        let is_new = *read >= source.taken;
        let Poll::Ready(piece) = source.next(*read, cx) else {
            upload.start_waiting();
            return Poll::Pending;
        };
        upload.stop_waiting();
        match &piece {
            Some(Ok(piece)) => {
                *read += 1;
                if is_new {
                    source.keep(piece, has_other_readers, shared.max);
                }
            }
            Some(Err(_)) => *failed = true,
            None => {}
        }
        source.report(upload);
        // A new frame is also available to the clones that wait for it.
        if is_new {
            wake(source);
        }
        Poll::Ready(piece.map(|piece| piece.map(Piece::into_frame)))
    }

    fn is_end_stream(&self) -> bool {
        let source = lock(&self.shared.source);
        self.failed || source.is_complete() && self.read >= source.taken
    }

    fn size_hint(&self) -> SizeHint {
        let source = lock(&self.shared.source);
        if self.failed {
            return SizeHint::with_exact(0);
        }
        // The next frame is missing, so this clone ends with an error at an unknown size.
        if self.read < source.taken && source.lost {
            return SizeHint::default();
        }
        // The size of a body is its data, without the trailers.
        let kept = source.kept.iter().skip(self.read);
        let kept: u64 = kept
            .filter(|piece| matches!(piece, Piece::Data(_)))
            .map(Piece::size)
            .sum();
        let rest = match &source.rest {
            Some(rest) => rest.size_hint(),
            None if source.broken.is_some() => SizeHint::default(),
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

/// A clone reads the body from the start.
impl<B> Clone for ReplayBody<B> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            upload: self.upload.for_cloned_body(),
            read: 0,
            failed: false,
        }
    }
}

/// The caller's body may have been polled by this clone last. Waking the others makes one of them poll.
impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        self.upload.stop_waiting();
        wake(lock(&self.shared.source));
    }
}

/// Unlocks the source before waking the waiting clones, because a waker may poll the body at once.
fn wake<B>(source: MutexGuard<'_, Source<B>>) {
    let waiting = Arc::clone(&source.waiting);
    drop(source);
    waiting.wake_by_ref();
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody")
            .field("upload", &self.upload)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}
