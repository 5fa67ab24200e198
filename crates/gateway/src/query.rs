//! The query of a client request.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;

/// The query of a client request, which is decoded only where it is read.
#[derive(Clone, Default)]
pub(crate) struct Query(Uri);

impl Query {
    /// Creates the query of a request to `uri`.
    pub(crate) fn of(uri: &Uri) -> Self {
        Self(uri.clone())
    }

    /// Returns the values of the parameter `name`, decoded from the form `application/x-www-form-urlencoded`. A
    /// value that is not UTF-8 is `None`.
    pub(crate) fn values(&self, name: &str) -> impl Iterator<Item = Option<Cow<'_, str>>> {
        let query = self.0.query().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let of_name = pairs.filter(move |(own, _)| decoded(own).is_some_and(|own| own == name));
        of_name.map(|(_, value)| decoded(value))
    }
}

/// Decodes a name or value. Returns `None` if the result is not UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['+', '%']) {
        return Some(text.into());
    }
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8().ok()?;
    Some(decoded.into_owned().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_names_and_values_of_forms() {
        let query = Query::of(&"/?a=1&b%20c=x+y&&a=%C3%A9=&d&a=%FF".parse().unwrap());
        let values = |name| query.values(name).collect::<Vec<_>>();
        assert_eq!(
            values("a"),
            [Some("1".into()), Some("\u{e9}=".into()), None]
        );
        assert_eq!(values("b c"), [Some("x y".into())]);
        assert_eq!(values("d"), [Some("".into())]);
        assert_eq!(values("e"), []);
        let none = Query::default();
        assert_eq!(none.values("a").count(), 0);
    }
}
