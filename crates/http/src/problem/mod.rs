//! Error responses as problem details ([RFC 9457]), and the mapping from failures to them.
//!
//! A problem contains neither input nor internal details. Titles are fixed per code, and details are
//! written by the program. A body with all members of this crate:
//!
//! ```json
//! {
//!   "type": "urn:tower-fanout:problem:validation",
//!   "title": "The request has invalid fields",
//!   "status": 422,
//!   "detail": "one field is out of range",
//!   "instance": "order-7",
//!   "code": "validation",
//!   "correlationId": "order-7",
//!   "errors": [{ "pointer": "/timeout", "code": "range", "detail": "must be at most 60" }],
//!   "retryAfter": 2
//! }
//! ```
//!
//! `type` is `urn:tower-fanout:problem:` and the code. `instance` and `correlationId` are both the
//! [`CorrelationId`]. `detail`, `instance`, `correlationId`, `errors` and `retryAfter` are absent without a
//! value. Members added with [`Problem::extension`] follow at the end.
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use tower_fanout_http::problem::{Code, Problem};
//!
//! let response = Problem::new(Code::NotFound).into_response::<Full<Bytes>>(None);
//! assert_eq!(response.status(), 404);
//! assert_eq!(response.headers()["content-type"], "application/problem+json");
//! ```
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

mod code;
mod convert;
mod layer;

use std::{borrow::Cow, fmt, time::Duration};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
};
use serde_json::value::RawValue;

pub use self::{
    code::Code,
    layer::{ProblemLayer, ProblemService, ResponseFuture},
};
use crate::correlation::CorrelationId;

/// An error in one field of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    pointer: String,
    code: &'static str,
    detail: Cow<'static, str>,
}

impl FieldError {
    /// Creates an error for the field at `pointer` ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)).
    ///
    /// `code` is your own machine-readable name of the violated rule, such as `range`. `detail` is text for
    /// people, and must not contain any part of the input.
    pub fn new(
        pointer: impl Into<String>,
        code: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            pointer: pointer.into(),
            code,
            detail: detail.into(),
        }
    }

    /// Returns the JSON Pointer of the field.
    #[must_use]
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// Returns the machine-readable error code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    fn to_json(&self) -> String {
        let mut members = Members(String::new());
        members.text("pointer", Some(&self.pointer));
        members.text("code", Some(self.code));
        members.text("detail", Some(&self.detail));
        members.end()
    }
}

/// A problem that can be sent as a response. `Debug` shows no headers and no extension members.
#[derive(Clone)]
pub struct Problem {
    code: Code,
    detail: Option<Cow<'static, str>>,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Vec<(&'static str, Box<RawValue>)>,
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problem")
            .field("code", &self.code)
            .field("detail", &self.detail)
            .field("errors", &self.errors)
            .field("retry_after", &self.retry_after)
            .finish_non_exhaustive()
    }
}

/// Writes the problem as text: its title, its detail and its field errors.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.title())?;
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { ": " } else { ", " };
            write!(f, "{separator}{} ({})", error.pointer, error.detail)?;
        }
        Ok(())
    }
}

/// A JSON object under construction.
struct Members(String);

impl Members {
    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            // A string has a JSON form, and the buffer in memory takes it.
            let quoted = serde_json::to_string(value).expect("text is always JSON");
            self.raw(name, &quoted);
        }
    }

    /// Adds a member whose value is JSON. `name` must not need escapes.
    fn raw(&mut self, name: &str, value: &str) {
        let before = if self.0.is_empty() { '{' } else { ',' };
        self.0.push(before);
        self.0.extend(["\"", name, "\":", value]);
    }

    fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

impl Problem {
    /// Maximum number of [`errors`](Self::errors), so that a problem is small for any input.
    pub const MAX_ERRORS: usize = 50;

    /// Creates the problem `code`.
    #[must_use]
    pub const fn new(code: Code) -> Self {
        Self {
            code,
            detail: None,
            errors: Vec::new(),
            retry_after: None,
            headers: Vec::new(),
            extensions: Vec::new(),
        }
    }

    /// Returns the code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// Sets the detail. The text must not contain any part of the input.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the field errors. Keeps the first [`MAX_ERRORS`](Self::MAX_ERRORS) of them.
    #[must_use]
    pub fn errors(mut self, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(Self::MAX_ERRORS);
        self.errors = errors;
        self
    }

    /// Sets the time after which a retry may succeed. Rounded up to whole seconds, at least one.
    #[must_use]
    pub fn retry_after(mut self, retry_after: impl Into<Option<Duration>>) -> Self {
        self.retry_after = retry_after.into();
        self
    }

    /// Adds an extension member after those of this crate. `name` must not need escapes.
    ///
    /// Names are not checked: a name that is already in use, such as `status`, results in a duplicate
    /// member.
    #[must_use]
    pub fn extension(mut self, name: &'static str, value: Box<RawValue>) -> Self {
        self.extensions.push((name, value));
        self
    }

    /// Adds a header to the response. Values that the header already has are kept, including the
    /// `Content-Type`, `Cache-Control`, `X-Content-Type-Options` and `Retry-After` of the problem.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn seconds(&self) -> Option<u64> {
        let wait = self.retry_after?;
        // A started second counts as a whole one. At least one keeps clients from retrying at once.
        let begun = u64::from(wait.subsec_nanos() > 0);
        Some(wait.as_secs().saturating_add(begun).max(1))
    }

    /// Returns the problem as a JSON object. `id` is written as `instance` and `correlationId`.
    #[must_use]
    pub fn to_json(&self, id: Option<&CorrelationId>) -> String {
        let r#type = format!("urn:tower-fanout:problem:{}", self.code.as_str());
        self.write(Some(&r#type), id)
    }

    /// Returns the problem as a JSON object without `type`, for a record that has a type of its own.
    #[must_use]
    pub fn to_json_untyped(&self, id: Option<&CorrelationId>) -> String {
        self.write(None, id)
    }

    fn write(&self, r#type: Option<&str>, id: Option<&CorrelationId>) -> String {
        let id = id.map(CorrelationId::as_str);
        let mut members = Members(String::new());
        members.text("type", r#type);
        members.text("title", Some(self.code.title()));
        members.raw("status", self.code.status().as_str());
        members.text("detail", self.detail.as_deref());
        members.text("instance", id);
        members.text("code", Some(self.code.as_str()));
        members.text("correlationId", id);
        if !self.errors.is_empty() {
            let errors: Vec<_> = self.errors.iter().map(FieldError::to_json).collect();
            members.raw("errors", &format!("[{}]", errors.join(",")));
        }
        if let Some(seconds) = self.seconds() {
            members.raw("retryAfter", &seconds.to_string());
        }
        for (name, value) in &self.extensions {
            members.raw(name, value.get());
        }
        members.end()
    }

    /// Returns the problem as a response. The [`Code`] is added to the response's extensions, for
    /// metrics.
    ///
    /// `id` is written into the body only, as `instance` and `correlationId`.
    /// [`CorrelationLayer`](crate::correlation::CorrelationLayer) adds the header.
    #[must_use]
    pub fn into_response<B: From<Bytes>>(self, id: Option<&CorrelationId>) -> Response<B> {
        let mut response = Response::new(B::from(self.to_json(id).into()));
        *response.status_mut() = self.code.status();
        response.extensions_mut().insert(self.code);
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        // Errors must be neither cached nor sniffed as another content type.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Some(seconds) = self.seconds() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        headers.extend(self.headers);
        response
    }
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::Rejection;

    use super::*;

    #[test]
    fn writes_the_members_and_headers_of_rfc_9457() {
        let id = CorrelationId::parse("req-1").unwrap();
        let problem = Problem::new(Code::Validation)
            .detail("two fields")
            .errors(vec![FieldError::new("/timeout", "range", "too large")])
            .extension(
                "data",
                RawValue::from_string("{\"n\":1e400}".into()).unwrap(),
            );
        assert_eq!(
            problem.to_json(Some(&id)),
            "{\"type\":\"urn:tower-fanout:problem:validation\",\"title\":\"The request has invalid fields\",\
             \"status\":422,\"detail\":\"two fields\",\"instance\":\"req-1\",\"code\":\"validation\",\
             \"correlationId\":\"req-1\",\"errors\":[{\"pointer\":\"/timeout\",\"code\":\"range\",\
             \"detail\":\"too large\"}],\"data\":{\"n\":1e400}}"
        );
        assert_eq!(
            problem.to_string(),
            "The request has invalid fields: two fields: /timeout (too large)"
        );
        let response = problem.into_response::<Bytes>(Some(&id));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.extensions().get(), Some(&Code::Validation));
    }

    #[test]
    fn fault_e37_keeps_a_bounded_number_of_errors() {
        let errors: Vec<_> = (0..1000)
            .map(|n| FieldError::new(format!("/{n}"), "type", "wrong"))
            .collect();
        let problem = Problem::new(Code::Validation).errors(errors);
        assert_eq!(problem.errors.len(), Problem::MAX_ERRORS);
        assert_eq!(problem.errors[1].pointer(), "/1");
    }

    #[test]
    fn cb_12_retry_after_is_rounded_up_to_whole_seconds() {
        for (wait, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (4999, "5")] {
            let retry_after = Some(Duration::from_millis(wait));
            let response =
                Problem::from(Rejection::CircuitOpen { retry_after }).into_response::<Bytes>(None);
            assert_eq!(response.status(), 503);
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
        let forever = Problem::new(Code::Overloaded).retry_after(Duration::MAX);
        let response = forever.into_response::<Bytes>(None);
        assert_eq!(response.headers()[RETRY_AFTER], u64::MAX.to_string());
    }
}
