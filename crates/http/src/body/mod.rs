//! The body of a request, within limits of size and time.
//!
//! [`read_body`] reads it whole; [`BodyLimitLayer`] puts the limits around any handler that reads it
//! by itself.
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
    config::{ConfigError, Validate},
    setters,
};

pub use self::{
    layer::{BodyLimit, BodyLimitLayer, ResponseFuture},
    limited::LimitedBody,
};
use crate::{
    bounds::{Bounds, WAIT},
    problem::{Code, Problem},
};

/// How bodies are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodyLimitConfig {
    /// The largest body, in bytes, both as it is sent and decoded; 1 MiB by default.
    pub max: usize,
    /// How long a body may take to come; 10 s by default.
    pub timeout: Duration,
    /// Whether bodies in gzip and brotli are decoded; by default they are refused.
    #[cfg(feature = "decompression")]
    pub decode: bool,
}

setters! {
    BodyLimitConfig {
        max: usize,
        timeout: Duration,
    }
}

#[cfg(feature = "decompression")]
setters! {
    without new BodyLimitConfig {
        decode: bool,
    }
}

impl Validate for BodyLimitConfig {
    fn errors(&self) -> Vec<ConfigError> {
        Bounds::default()
            .unless(self.max > 0, "max", "0 is less than 1")
            .time("timeout", self.timeout, WAIT)
            .into_vec()
    }
}

impl Default for BodyLimitConfig {
    fn default() -> Self {
        Self {
            max: 1 << 20,
            timeout: Duration::from_secs(10),
            #[cfg(feature = "decompression")]
            decode: false,
        }
    }
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// It is larger than the limit, or decodes to more than 100 times its size.
    TooLarge,
    /// It did not come in time.
    Timeout,
    /// It broke off, or what is encoded is damaged.
    Broken,
    /// It is encoded, and not in a way that is decoded here.
    Encoding,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the body is too large",
            Self::Timeout => "the body came too slowly",
            Self::Broken => "the body broke off",
            Self::Encoding => "the body is encoded in a way that is not read here",
        })
    }
}

impl Error for BodyError {}

/// The connection is closed after it: the rest of the body will not be read.
impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::TooLarge => Code::PayloadTooLarge,
            BodyError::Timeout => Code::RequestTimeout,
            BodyError::Broken => Code::BrokenBody,
            BodyError::Encoding => Code::UnsupportedEncoding,
        };
        // In HTTP/2 hyper takes the header out: there a stream ends by itself.
        Self::new(code).header(CONNECTION, HeaderValue::from_static("close"))
    }
}

impl BodyError {
    /// The limit that was the cause of `error`, if it was one.
    fn find(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |&error| error.source());
        causes.find_map(|cause| cause.downcast_ref().copied())
    }
}

/// Reads all of `body`, decoded by the `Content-Encoding` in `headers`.
///
/// A length that is said in advance and too large is refused before anything is read. Memory is
/// taken for what has come, never for what is announced.
///
/// # Errors
/// See [`BodyError`].
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

/// All of `body` in one piece. Pieces are joined as they come: many small ones take no more room than
/// one large one.
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

/// How a body is encoded, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Gzip,
    Brotli,
}

/// The one coding that is said; none for `identity`.
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
