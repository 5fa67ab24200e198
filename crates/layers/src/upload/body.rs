//! A body that every clone reads from its beginning.

use std::{
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker, ready},
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Upload;
use crate::rejection::BoxError;

/// A body that every clone reads from its beginning, as long as it is not too large to be kept.
///
/// What one clone has read of the caller's body is kept for the others. Data and trailers are the
/// same for each, and so are their limits: [`Body::is_end_stream`] and [`Body::size_hint`] are
/// exact. A clone for which a part is missing ends with an error, and where the caller's body broke
/// off, every clone does.
pub struct ReplayBody<B> {
    shared: Arc<Shared<B>>,
    upload: Upload,
    /// How many frames this clone has read.
    read: usize,
    /// It has ended with an error.
    failed: bool,
}

struct Shared<B> {
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
    /// What the caller's body broke off with, after those frames.
    broken: Option<String>,
    waiting: Arc<Waiting>,
}

/// Clones that wait for the caller. The caller's body knows only who polled it last, who may never
/// poll again: so it wakes all.
#[derive(Default)]
struct Waiting(Mutex<Vec<Waker>>);

impl Waiting {
    fn wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, waker: &Waker) {
        let mut wakers = self.wakers();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn remove(&self, waker: &Waker) {
        self.wakers().retain(|known| !known.will_wake(waker));
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = mem::take(&mut *self.wakers());
        wakers.into_iter().for_each(Waker::wake);
    }
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
    pub(super) fn new(body: B, max: u64, upload: Upload) -> Self {
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

    /// Tells what has become of the caller's body.
    fn tell(&self, upload: &Upload) {
        if self.lost || self.broken.is_some() {
            upload.lost();
        }
        if self.is_whole() {
            upload.whole();
        }
    }

    /// Whether the caller's body was read to its end.
    fn is_whole(&self) -> bool {
        self.rest.is_none() && self.broken.is_none()
    }
}

impl<B> Source<B>
where
    B: Body<Error: Into<BoxError>>,
{
    /// The frame after the first `read`.
    fn next(&mut self, read: usize, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BoxError>>> {
        if let Some(piece) = self.kept(read) {
            return Poll::Ready(Some(Ok(piece)));
        }
        let missing = if read < self.taken {
            BoxError::from("the body was too large to be sent again")
        } else if let Some(error) = &self.broken {
            format!("the caller's body broke off: {error}").into()
        } else {
            return self.pull(cx);
        };
        Poll::Ready(Some(Err(missing)))
    }

    /// The next frame of the caller's body.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BoxError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        self.waiting.add(cx.waker());
        let all = Waker::from(Arc::clone(&self.waiting));
        let frame = ready!(rest.as_mut().poll_frame(&mut Context::from_waker(&all)));
        self.waiting.remove(cx.waker());
        let goes_on = matches!(frame, Some(Ok(_))) && !rest.is_end_stream();
        self.rest.take_if(|_| !goes_on);
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
        let wanted = Arc::strong_count(shared) > 1;
        let mut source = shared.source();
        let pulls = *read >= source.taken;
        let Poll::Ready(piece) = source.next(*read, cx) else {
            upload.waits();
            return Poll::Pending;
        };
        upload.goes_on();
        match &piece {
            Some(Ok(piece)) => {
                *read += 1;
                if pulls {
                    source.keep(piece, wanted, shared.max);
                }
            }
            Some(Err(_)) => *failed = true,
            None => {}
        }
        source.tell(upload);
        if pulls {
            wake(source);
        }
        Poll::Ready(piece.map(|piece| piece.map(Piece::into_frame)))
    }

    fn is_end_stream(&self) -> bool {
        let source = self.shared.source();
        self.failed || source.is_whole() && self.read >= source.taken
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.shared.source();
        if self.failed {
            return SizeHint::with_exact(0);
        }
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

/// A clone reads the body from its beginning.
impl<B> Clone for ReplayBody<B> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            upload: self.upload.of_clone(),
            read: 0,
            failed: false,
        }
    }
}

/// Whoever waits may have relied on this one to be woken.
impl<B> Drop for ReplayBody<B> {
    fn drop(&mut self) {
        self.upload.goes_on();
        wake(self.shared.source());
    }
}

/// Lets go of the source, and only then wakes those who wait: a waker may ask for the body at once.
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
