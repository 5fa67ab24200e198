//! Decodes a request body, and stops as soon as it becomes too large.

use std::{
    convert::Infallible,
    future::ready,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderValue, Request, Response, header::CONTENT_ENCODING};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use tower::{ServiceExt, service_fn};
use tower_http::decompression::{Decompression, DecompressionBody};

use super::{BodyError, Coding};

/// Maximum ratio of decoded to encoded bytes. Text has a ratio of about 10; gzip can reach 1,032.
const MAX_RATIO: u64 = 100;

/// Decoded size in bytes up to which the ratio is not checked: the ratio of a small body means
/// little, and its size does no harm.
const SMALL: u64 = 64 << 10;

/// Reads all of `body` and decodes it.
///
/// # Errors
/// - [`BodyError::TooLarge`] if the decoded body exceeds `max` bytes, or is larger than 64 KiB and
///   more than [`MAX_RATIO`] times as large as the bytes read so far.
/// - [`BodyError::Broken`] if the body does not decode.
/// - The error of `body`.
pub(super) async fn read<B>(coding: Coding, body: B, max: usize) -> Result<Bytes, BodyError>
where
    B: Body<Error = BodyError>,
{
    let encoded = AtomicU64::new(0);
    let counted = Counted {
        inner: body,
        count: &encoded,
    };
    let mut decoded = pin!(decoder(coding, counted).await);
    let mut whole = BytesMut::new();
    while let Some(frame) = decoded.frame().await {
        let frame = frame.map_err(|error| BodyError::find(&*error).unwrap_or(BodyError::Broken))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let size = (whole.len() + data.len()) as u64;
        let ratio = size > SMALL && size / MAX_RATIO > encoded.load(Ordering::Relaxed);
        if size > max as u64 || ratio {
            return Err(BodyError::TooLarge);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Wraps `body` in tower-http's decoder.
///
/// tower-http does not export a constructor of [`DecompressionBody`], only a layer that decodes
/// responses. So `body` passes through that layer as the body of a response.
async fn decoder<B: Body>(coding: Coding, body: B) -> DecompressionBody<B> {
    let coding = HeaderValue::from_static(match coding {
        Coding::Gzip => "gzip",
        Coding::Brotli => "br",
    });
    let as_response = service_fn(|body: Request<B>| {
        let mut response = Response::new(body.into_body());
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, coding.clone());
        ready(Ok::<_, Infallible>(response))
    });
    let decoding = Decompression::new(as_response).oneshot(Request::new(body));
    match decoding.await {
        Ok(response) => response.into_body(),
        Err(never) => match never {},
    }
}

pin_project! {
    /// A body that adds the number of bytes read to `count`.
    struct Counted<'c, B> {
        #[pin]
        inner: B,
        count: &'c AtomicU64,
    }
}

impl<B: Body> Body for Counted<'_, B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.inner.poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let size = frame.data_ref().map_or(0, Buf::remaining);
            this.count.fetch_add(size as u64, Ordering::Relaxed);
        }
        polled
    }
}
