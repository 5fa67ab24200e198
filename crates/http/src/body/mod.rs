//! Request bodies with limits of size and time.
//!
//! [`read_body`] reads a whole body. [`BodyLimitLayer`] applies the limits to any handler that
//! reads the body itself.
//!
//! ```
//! use bytes::Bytes;
//! use http::HeaderMap;
//! use http_body_util::Full;
//! use tower_fanout_http::body::{BodyError, BodyLimitConfig, read_body};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let limits = BodyLimitConfig::default().max(4_usize);
//! let body = Full::new(Bytes::from_static(b"12345"));
//! let read = read_body(&HeaderMap::new(), body, &limits).await;
//! assert_eq!(read, Err(BodyError::TooLarge));
//! # }
//! ```

#[cfg(feature = "decompression")]
mod decode;
mod layer;
mod limited;

use std::{error::Error, fmt, pin::pin, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue,
    header::{CONNECTION, CONTENT_ENCODING},
};
use http_body::Body;
use http_body_util::BodyExt;
use tower_fanout_layers::{
    config,
    config::{ConfigError, ConfigErrors, Validate},
};

pub use self::{
    layer::{BodyLimit, BodyLimitLayer, ResponseFuture},
    limited::LimitedBody,
};
use crate::{
    bounds::WAIT,
    problem::{Code, Problem},
};

config! {
    /// Limits for request bodies.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct BodyLimitConfig {
        /// Maximum size of a body in bytes. Must be at least 1. Defaults to 1 MiB.
        ///
        /// If a body is decoded, the limit applies to both the encoded and the decoded size.
        pub max: usize = 1 << 20,
        /// Maximum time for the whole body to arrive, 1 ms to 365 days. Defaults to 10 s.
        pub timeout: Duration = Duration::from_secs(10),
        /// Decodes bodies with the content coding `gzip` or `br` in [`read_body`] (feature `decompression`).
        /// Defaults to `false`: [`read_body`] then returns [`BodyError::Encoding`] for them.
        ///
        /// A body that decodes to more than 64 KiB and more than 100 times the encoded bytes is rejected as
        /// [`BodyError::TooLarge`]. [`BodyLimitLayer`] ignores this setting and passes encoded bodies on.
        #[cfg(feature = "decompression")]
        pub decode: bool = false,
    }
}

impl Validate for BodyLimitConfig {
    fn errors(&self) -> Vec<ConfigError> {
        ConfigErrors::default()
            .at_least("max", self.max, 1)
            .within("timeout", self.timeout, WAIT)
            .into_vec()
    }
}

/// The reason why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The body exceeds the limit, or decodes to more than 64 KiB and more than 100 times its size.
    /// Sent as 413.
    TooLarge,
    /// The body did not arrive in time. Sent as 408.
    Timeout,
    /// The body is incomplete, or its encoding is damaged. Sent as 400.
    Broken,
    /// The content coding of the body is not supported, or decoding is not enabled. Sent as 415.
    /// Returned only by [`read_body`].
    Encoding,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is too large",
            Self::Timeout => "the body did not arrive in time",
            Self::Broken => "the body is incomplete or damaged",
            Self::Encoding => "the content coding of the body is not supported",
        })
    }
}

impl Error for BodyError {}

/// The response has `Connection: close`, because the rest of the body will not be read.
impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge => Code::PayloadTooLarge,
            BodyError::Timeout => Code::RequestTimeout,
            BodyError::Broken => Code::BrokenBody,
            BodyError::Encoding => Code::UnsupportedEncoding,
        };
        // hyper removes this header over HTTP/2, where the stream ends without closing the
        // connection.
        Self::new(code).header(CONNECTION, HeaderValue::from_static("close"))
    }
}

impl BodyError {
    /// Returns the `BodyError` among `error` and its sources. Returns `None` without one.
    fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        causes.find_map(|cause| cause.downcast_ref().copied())
    }
}

/// Reads all of `body`. With the feature `decompression` and `decode: true` in `limits`, the body
/// is decoded as the `Content-Encoding` in `headers` says.
///
/// A body whose `Content-Length` exceeds the limit is rejected before any of it is read. Memory is
/// allocated for the bytes that have arrived, never for an announced length. Dropping the future
/// stops reading.
///
/// The values of `limits` are not checked. With `max: 0` only an empty body can be read. With a
/// `timeout` of zero the function fails as soon as it would have to wait for data.
///
/// # Errors
/// Returns the reason if the body cannot be read within `limits`. See [`BodyError`]. Without the
/// feature `decompression` every content coding other than `identity` is a [`BodyError::Encoding`].
pub async fn read_body<B>(
    headers: &HeaderMap,
    body: B,
    limits: &BodyLimitConfig,
) -> Result<Bytes, BodyError>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let coding = coding(headers)?;
    if body.size_hint().lower() > limits.max as u64 {
        return Err(BodyError::TooLarge);
    }
    let body = LimitedBody::new(body, limits.max, limits.timeout);
    match coding {
        None => gather(body).await,
        #[cfg(feature = "decompression")]
        Some(coding) if limits.decode => decode::read(coding, body, limits.max).await,
        Some(_) => Err(BodyError::Encoding),
    }
}

/// Collects all of `body` into one buffer.
///
/// Chunks are joined as they arrive, so that many small chunks need no more memory than a large
/// one. A body of one chunk is not copied.
async fn gather<B: Body>(body: B) -> Result<Bytes, B::Error> {
    let mut body = pin!(body);
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data.copy_to_bytes(data.remaining()));
        }
        whole.put(data);
    }
    Ok(whole.freeze())
}

/// A content coding that can be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Brotli,
}

/// Returns the content coding in `headers`. `None` means `identity` or no header.
///
/// # Errors
/// [`BodyError::Encoding`] for another coding, or more than one.
fn coding(headers: &HeaderMap) -> Result<Option<Coding>, BodyError> {
    let mut lines = headers.get_all(CONTENT_ENCODING).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    let is = |known: &str| line.as_bytes().eq_ignore_ascii_case(known.as_bytes());
    match lines.next() {
        None if is("identity") => Ok(None),
        None if is("gzip") => Ok(Some(Coding::Gzip)),
        None if is("br") => Ok(Some(Coding::Brotli)),
        _ => Err(BodyError::Encoding),
    }
}

#[cfg(test)]
mod tests;
