use std::time::{Duration, SystemTime};

use http::{HeaderValue, Response, header::RETRY_AFTER};
use tower_fanout::layers::{Class, Classify, ClassifyHttp, Rejection};
use tower_fanout_http::correlation::CorrelationId;

/// An accepted correlation id has 1 to 128 safe characters, begins with a letter or digit, and is forwarded
/// unchanged.
pub fn correlation_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let expected = data.len() <= 128
        && data.first().is_some_and(u8::is_ascii_alphanumeric)
        && data.iter().all(|byte| safe(*byte));
    let parsed = CorrelationId::parse(text);
    assert_eq!(parsed.is_some(), expected);
    if let Some(id) = parsed {
        assert_eq!(id.as_str(), text);
        assert_eq!(id.header_value(), text);
    }
}

/// `Retry-After` is read as whole seconds or as a date, and ignored otherwise.
pub fn retry_after(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let mut response = Response::new(());
    *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(RETRY_AFTER, value);
    let classify = ClassifyHttp::with_clock(|| SystemTime::UNIX_EPOCH);
    let class = classify.classify(Ok::<_, &Rejection>(&response), Duration::ZERO);
    let Class::Throttled { retry_after } = class else {
        panic!("expected status 429 to be throttled, got {class:?}")
    };
    let text = std::str::from_utf8(data).unwrap_or_default();
    let text = text.trim_matches([' ', '\t']);
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let (true, Ok(seconds)) = (number, text.parse()) {
        assert_eq!(retry_after, Some(Duration::from_secs(seconds)));
    } else if !number && !text.contains(' ') {
        assert_eq!(retry_after, None, "{text:?} is neither seconds nor a date");
    }
}
