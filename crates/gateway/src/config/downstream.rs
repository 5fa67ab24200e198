//! Reads policies, and the services that are treated by them.

use std::time::Duration;

use http::Uri;
use indexmap::IndexMap;
use tower_fanout::{Policy, policy::PolicySettings};
use tower_fanout_http::client;

use super::{
    DownstreamConfig,
    reader::Field,
    value::{Span, known, size, span},
};

pub(super) fn policies(members: Vec<(String, Field<'_>)>) -> IndexMap<String, Policy> {
    members
        .into_iter()
        .map(|(name, field)| (name, policy(&field)))
        .collect()
}

fn policy(field: &Field<'_>) -> Policy {
    let mut settings = PolicySettings::default();
    let mut section = field.section();
    if let Some(field) = section.take("total_timeout") {
        settings.total_timeout = unless_off(&field, |field| field.get()).map(|Span(span)| span);
    }
    if let Some(field) = section.take("attempt_timeout") {
        settings.attempt_timeout = unless_off(&field, |field| field.get()).map(|Span(span)| span);
    }
    if let Some(field) = section.take("last_attempt_uses_deadline") {
        settings.last_attempt_uses_deadline = field.get().unwrap_or_default();
    }
    if let Some(field) = section.take("classify") {
        settings.classify = field.settings().unwrap_or_default();
    }
    if let Some(field) = section.take("retry") {
        settings.retry = unless_off(&field, Field::settings);
    }
    if let Some(field) = section.take("hedge") {
        settings.hedge = unless_off(&field, Field::settings);
    }
    if let Some(field) = section.take("circuit_breaker") {
        settings.circuit_breaker = unless_off(&field, Field::settings);
    }
    if let Some(field) = section.take("throttle") {
        settings.throttle = unless_off(&field, Field::settings);
    }
    if let Some(field) = section.take("concurrency") {
        settings.concurrency = unless_off(&field, Field::settings);
    }
    section.finish();
    if field.check(&settings) {
        Policy::new(settings).unwrap_or_default()
    } else {
        Policy::default()
    }
}

/// A part of a policy, which the word `off` turns off.
fn unless_off<'t, T>(field: &Field<'t>, read: impl FnOnce(&Field<'t>) -> Option<T>) -> Option<T> {
    (!field.is_word("off")).then(|| read(field)).flatten()
}

pub(super) fn downstreams(
    members: Vec<(String, Field<'_>)>,
    policies: &IndexMap<String, Policy>,
) -> IndexMap<String, DownstreamConfig> {
    let read = members
        .into_iter()
        .map(|(name, field)| (name, downstream(&field, policies)));
    read.collect()
}

fn downstream(field: &Field<'_>, policies: &IndexMap<String, Policy>) -> DownstreamConfig {
    let mut section = field.section();
    let endpoint = section
        .require("endpoints")
        .and_then(|field| endpoint(&field))
        .unwrap_or_default();
    let policy = section
        .take("policy")
        .and_then(|field| known(&field, "policy", policies.keys()));
    let config = DownstreamConfig {
        endpoint,
        policy: policy
            .map(|name| policies[&name].clone())
            .unwrap_or_default(),
        max_response: size(section.take("max_response"), 2 << 20),
        connect_timeout: span(section.take("connect_timeout"), Duration::from_secs(1)),
    };
    section.not_built(&[
        ("health_check", "checking health"),
        ("tls", "TLS to downstreams"),
    ]);
    section.finish();
    config
}

fn endpoint(field: &Field<'_>) -> Option<Uri> {
    let endpoints = field.list();
    match endpoints.as_slice() {
        [] => field.error("missing", "a downstream has an endpoint"),
        [_] => {}
        [_, second, ..] => second.not_built("balancing between several endpoints"),
    }
    let mut section = endpoints.first()?.section();
    if let Some(weight) = section.take("weight") {
        weight.not_built("weighing endpoints");
    }
    let url = section.require("url");
    section.finish();
    let url = url?;
    let uri = url.text()?.parse::<Uri>();
    match uri
        .as_ref()
        .map_err(|_| "this is no address such as \"http://users:8080\"".to_owned())
        .map(client::check)
    {
        Ok(Ok(_)) => return uri.ok(),
        Ok(Err(error)) => url.error("invalid", error),
        Err(error) => url.error("invalid", error),
    }
    None
}
