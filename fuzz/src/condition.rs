use std::borrow::Cow;

use tower_fanout_json::{
    Json,
    condition::Condition,
    template::{Found, Lookup, Reference, Root},
};

/// A request that has the same text everywhere, and a body.
struct Everywhere<'v> {
    text: &'v str,
    body: Option<Json>,
}

impl Lookup for Everywhere<'_> {
    fn lookup(&self, reference: &Reference) -> Option<Found<'_>> {
        match reference.root {
            Root::Body => self.body.as_ref()?.get(&reference.path).map(Found::Json),
            // A text without a last letter stands for a missing value.
            _ if self.text.ends_with(' ') => None,
            _ => Some(Found::Text(Cow::Borrowed(self.text))),
        }
    }
}

/// Parsing a condition ends with an error in the text or with a condition that keeps its text, reads only the request,
/// and has one result for one request.
///
/// The input is a condition, a line break and the value of all texts, which is also the body if it is JSON.
pub fn condition(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (text, value) = text.split_once('\n').unwrap_or((text, "x"));
    let condition = match Condition::parse(text) {
        Ok(condition) => condition,
        Err(error) => {
            let last = text.chars().count() + 1;
            assert!((1..=last.max(1025)).contains(&error.column), "{error}");
            assert!(!error.message.is_empty());
            return;
        }
    };
    assert_eq!(condition.to_string(), text);
    for (reference, column) in condition.references() {
        assert!(!matches!(reference.root, Root::Node(_)), "{reference}");
        assert!(*column <= text.chars().count());
    }
    let request = Everywhere {
        text: value,
        body: Json::parse(value.to_owned().into()).ok(),
    };
    let holds = condition.holds(&request);
    assert_eq!(holds, condition.holds(&request));
    let again = Condition::parse(&condition.to_string());
    assert_eq!(
        again.expect("the text was parsed before").holds(&request),
        holds
    );
}
