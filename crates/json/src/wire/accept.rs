//! Content negotiation between a JSON document and a stream.

use http::{HeaderMap, HeaderValue, header::ACCEPT};

/// The format of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFormat {
    /// One document, as `application/json`.
    Json,
    /// A stream with one record for each service, sent when the service ends.
    Stream(StreamFormat),
}

/// The format of a stream of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamFormat {
    /// Server-sent events
    /// ([WHATWG](https://html.spec.whatwg.org/multipage/server-sent-events.html)): an
    /// `event: service` for each service, then one `event: summary`, each with one line of data.
    EventStream,
    /// One JSON object per line: a `{"type":"service",…}` for each service, then one
    /// `{"type":"summary",…}`.
    NdJson,
}

impl StreamFormat {
    /// Returns the media type of the stream.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::NdJson => "application/x-ndjson",
        }
    }
}

impl ResponseFormat {
    /// Returns the format that is selected by the `accept` headers in `headers`
    /// ([RFC 9110 §12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1)).
    ///
    /// A stream is selected if its media type is named (wildcards do not count) and preferred to JSON:
    /// its weight is higher than that of a named `application/json`, or not lower than that of a
    /// wildcard that covers JSON. Of two streams, the one with the higher weight is selected, or the
    /// one that is named first. In all other cases the result is JSON, even if nothing on offer is
    /// acceptable.
    ///
    /// Parameters other than the weight are ignored. A range with a malformed weight is ignored
    /// too.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).into_iter();
        let ranges: Vec<Range<'_>> = lines
            .filter_map(|line: &HeaderValue| line.to_str().ok())
            .flat_map(|line| split(line, ','))
            .filter_map(Range::parse)
            .collect();
        // The weight of JSON is that of the most specific range that covers it.
        let weight = |name: &str| {
            let same = ranges.iter().filter(|range| range.is(name));
            same.map(|range| range.weight).max()
        };
        let named = weight("application/json");
        let covering = || weight("application/*").or_else(|| weight("*/*"));
        // Of a stream and JSON with the same weight, JSON is preferred only if it is named as well.
        let least = match named {
            Some(json) => json + 1,
            None => covering().unwrap_or(0).max(1),
        };
        let streams = ranges.iter().rev().filter_map(|range| {
            let formats = [StreamFormat::EventStream, StreamFormat::NdJson];
            let format = (formats.into_iter()).find(|format| range.is(format.media_type()))?;
            Some((range.weight, format))
        });
        // Of equal weights the last one counts, which is the one that is named first.
        match streams.max_by_key(|(weight, _)| *weight) {
            Some((weight, format)) if weight >= least => Self::Stream(format),
            _ => Self::Json,
        }
    }
}

/// A media range of an `accept` header.
struct Range<'h> {
    name: &'h str,
    /// Weight in thousandths.
    weight: u16,
}

impl<'h> Range<'h> {
    fn parse(text: &'h str) -> Option<Self> {
        let mut parts = split(text, ';');
        let name = parts.next()?;
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.eq_ignore_ascii_case("q").then_some(value)
        });
        let weight = weight.map_or(Some(1000), thousandths)?;
        Some(Self { name, weight })
    }

    fn is(&self, media_type: &str) -> bool {
        self.name.eq_ignore_ascii_case(media_type)
    }
}

/// Parses a weight ([RFC 9110 §12.4.2](https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2)): 0
/// to 1 with at most three decimal places.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || digits.len() > 3 {
        return None;
    }
    let fraction: u16 = format!("{digits:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

/// Splits `text` at separators outside of quoted strings, and trims the parts.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |char| {
        let separates = char == separator && !quoted;
        quoted ^= char == '"' && !escaped;
        escaped = quoted && char == '\\' && !escaped;
        separates
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(accept: &[&str]) -> ResponseFormat {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        ResponseFormat::of(&headers)
    }

    #[test]
    fn fault_d27_selects_a_stream_if_named_and_preferred() {
        let events = [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream, */*",
            "application/*, text/event-stream",
            "application/json;q=0.4, text/event-stream;q=0.5",
            "application/json;q=0.999, text/event-stream",
            "text/event-stream;q=0.1",
            "text/event-stream;q=0.9, application/x-ndjson;q=0.8",
            "text/event-stream, application/x-ndjson",
            "text/event-stream;q=0.3, */*;q=0.3",
            "application/json;q=0, */*, text/event-stream;q=0.1",
            "text/x;a=\"1, application/json, 2\", text/event-stream;q=0.4",
            "text/x;a=\"\\\", application/json, \", text/event-stream;q=0.4",
            "application/json;q=0.9999, text/event-stream;q=0.5",
        ];
        for accept in events {
            assert_eq!(
                form(&[accept]),
                ResponseFormat::Stream(StreamFormat::EventStream),
                "{accept}"
            );
        }
        let lines = [
            "application/x-ndjson",
            "application/x-ndjson, text/event-stream",
            "application/x-ndjson;q=1.000, text/event-stream;q=0.999",
            "text/html, application/x-ndjson ; Q=0.2",
        ];
        for accept in lines {
            assert_eq!(
                form(&[accept]),
                ResponseFormat::Stream(StreamFormat::NdJson),
                "{accept}"
            );
        }
        let two = ["text/html", "application/x-ndjson"];
        assert_eq!(form(&two), ResponseFormat::Stream(StreamFormat::NdJson));
    }

    #[test]
    fn fault_d27_selects_json_in_all_other_cases() {
        let json = [
            "",
            "*/*",
            "text/*",
            "application/*",
            "text/html, image/png",
            "application/json",
            "application/json, text/event-stream;q=0.9",
            "application/json, text/event-stream",
            "text/event-stream, application/json",
            "application/json;q=0.5, text/event-stream;q=0.5",
            "application/json, text/event-stream, application/x-ndjson, */*",
            "application/*, text/event-stream;q=0.9",
            "*/*, text/event-stream;q=0.9",
            "text/event-stream;q=0",
            "application/json;q=0, text/event-stream;q=0",
            "text/event-stream;q=1.1",
            "text/event-stream;q=0.1234",
            "text/event-stream;q=",
            "text/event-stream;q=-1",
            "text/event-stream;q=abc",
            "text/x;a=\", text/event-stream, \"",
            "application/ndjson",
        ];
        for accept in json {
            assert_eq!(form(&[accept]), ResponseFormat::Json, "{accept}");
        }
        assert_eq!(form(&[]), ResponseFormat::Json);
    }
}
