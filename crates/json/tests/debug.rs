//! The `Debug` output of templates and values shows no text of theirs.
#![allow(missing_docs)]

use std::fmt::Debug;

use bytes::Bytes;
use http::Method;
use serde_json::json;
use tower_fanout_json::{
    Json,
    template::{Found, RequestTemplate},
};

const CANARY: &str = "canary";

/// Fails if the canary is in the `Debug` output of `value`.
fn shows_nothing(value: &impl Debug) {
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        assert!(!shown.contains(CANARY), "{shown}");
        let dense: String = shown.split_whitespace().collect();
        let bytes = format!("{:?}", CANARY.as_bytes()).replace(['[', ']', ' '], "");
        assert!(!dense.contains(&bytes), "{shown}");
    }
}

#[test]
fn fault_l4_debug_of_what_is_sent_to_services_shows_no_text_of_it() {
    let fallback = format!("{{header.x-a|{CANARY}}}");
    let template = RequestTemplate::new(Method::POST, &format!("/{CANARY}"))
        .and_then(|template| template.query("q", CANARY))
        .and_then(|template| template.header("x-api-key", CANARY))
        .and_then(|template| template.header("x-other", &fallback))
        .and_then(|template| template.body(&json!({"a": CANARY, "b": fallback})))
        .unwrap();
    shows_nothing(&template);
    template
        .references()
        .for_each(|reference| shows_nothing(&reference));
    let claims = json!({"sub": CANARY});
    shows_nothing(&Found::Tree(&claims));
    shows_nothing(&Found::Text(CANARY.into()));
    let json = Json::parse(Bytes::from(claims.to_string())).unwrap();
    shows_nothing(&json);
    shows_nothing(&Found::Json(json.get(&["sub"]).unwrap()));
}
