//! Which form of an answer a client accepts.

use http::{HeaderMap, HeaderValue, header::ACCEPT};

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In one piece, as `application/json`.
    Json,
    /// Each service as it ends.
    Stream(Framing),
}

/// How the records of a stream are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// Server-sent events, as
    /// [WHATWG](https://html.spec.whatwg.org/multipage/server-sent-events.html) has them:
    /// `event: service`, then `event: summary`, each with one line of data.
    EventStream,
    /// One JSON object on each line: `{"type":"service",…}`, then `{"type":"summary",…}`.
    NdJson,
}

impl Framing {
    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::EventStream => "text/event-stream",
            Self::NdJson => "application/x-ndjson",
        }
    }
}

impl Form {
    /// The form that the `accept` of `headers` asks for
    /// ([RFC 9110 §12.5.1](https://www.rfc-editor.org/rfc/rfc9110#section-12.5.1)).
    ///
    /// A stream must be named, wildcards do not ask for one, and JSON must not be preferred to it; of
    /// two streams it is the preferred one, or the one that is named first. In all other cases, also if
    /// nothing that we have is acceptable, it is JSON. Parameters other than the weight are not
    /// looked at, and a range whose weight is malformed counts for nothing.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT).into_iter();
        let ranges: Vec<Range<'_>> = lines
            .filter_map(|line: &HeaderValue| line.to_str().ok())
            .flat_map(|line| split(line, ','))
            .filter_map(Range::parse)
            .collect();
        let json = ["application/json", "application/*", "*/*"]
            .iter()
            .find_map(|name| weight(&ranges, name))
            .unwrap_or(0);
        let mut best = (json, Self::Json);
        for range in &ranges {
            let framing = [Framing::EventStream, Framing::NdJson]
                .into_iter()
                .find(|framing| range.is(framing.media_type()));
            let wins = range.weight > best.0 || range.weight == best.0 && best.1 == Self::Json;
            if let Some(framing) = framing
                && wins
                && range.weight > 0
            {
                best = (range.weight, Self::Stream(framing));
            }
        }
        best.1
    }
}

/// One media range.
struct Range<'h> {
    name: &'h str,
    /// In thousandths.
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

/// The weight of the range that is called `name`; of several the largest.
fn weight(ranges: &[Range<'_>], name: &str) -> Option<u16> {
    let same = ranges.iter().filter(|range| range.is(name));
    same.map(|range| range.weight).max()
}

/// A weight ([RFC 9110 §12.4.2](https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2)): 0 to 1 with at
/// most three digits behind the point.
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

/// The parts of `text` between separators that do not stand in a quoted string, without white space
/// around them.
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

    fn form(accept: &[&str]) -> Form {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(ACCEPT, line.parse().unwrap());
        }
        Form::of(&headers)
    }

    #[test]
    fn a_stream_is_sent_to_whoever_names_it_and_does_not_prefer_json() {
        let events = [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream, */*",
            "application/json, text/event-stream",
            "application/json;q=0.5, text/event-stream;q=0.5",
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
                Form::Stream(Framing::EventStream),
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
            assert_eq!(form(&[accept]), Form::Stream(Framing::NdJson), "{accept}");
        }
        let two = ["text/html", "application/x-ndjson"];
        assert_eq!(form(&two), Form::Stream(Framing::NdJson));
    }

    #[test]
    fn fault_d27_everything_else_is_json() {
        let json = [
            "",
            "*/*",
            "text/*",
            "application/*",
            "text/html, image/png",
            "application/json",
            "application/json, text/event-stream;q=0.9",
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
            assert_eq!(form(&[accept]), Form::Json, "{accept}");
        }
        assert_eq!(form(&[]), Form::Json);
    }
}
