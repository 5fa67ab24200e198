//! Rules that only `check --strict` applies: configurations that work, but lack a protection or have limits that
//! contradict each other.

use std::time::Duration;

use tower_fanout::{Policy, layers::config::duration::written};

use super::{
    Config, DownstreamConfig, PlanConfig,
    downstream::{highest, limited_connections},
    reader::ValueReader,
    redact::is_secret,
};

/// Applies the rules to `config`, which `reader` has read without errors. Parts with variables that are not set are
/// left out.
pub(super) fn lint(reader: &ValueReader<'_>, config: &Config) {
    let plans = plans(reader, config);
    // Without its variables, a policy has defaults, which the file does not say.
    let knows_policies = ["policies", "downstreams"]
        .iter()
        .all(|key| reader.at(key).is_sound());
    for (at, plan) in &plans {
        check_auth(at, plan);
        for (name, node) in at.members("plan") {
            check_request(&node.at("request"));
            if knows_policies {
                check_policy(&node, plan, &plan.nodes[&name].downstream, config);
            }
        }
    }
    for (name, at) in reader.members("downstreams") {
        if knows_policies {
            let downstream = &config.downstreams[&name];
            check_breaker(&name, &at, downstream);
            check_connections(&at, downstream);
        }
    }
    for (_, provider) in reader.members("auth.jwt") {
        check_keys(&provider);
    }
    check_tiers(reader, config, &plans);
    check_drain(reader, config, &plans);
}

/// Returns the plans with the readers of the maps that have them.
fn plans<'c, 't>(
    reader: &ValueReader<'t>,
    config: &'c Config,
) -> Vec<(ValueReader<'t>, &'c PlanConfig)> {
    let routes = reader.items("routes").into_iter().filter_map(|at| {
        let name = at.at("name").tree.as_text()?;
        let route = config.routes.iter().find(|route| route.name == name)?;
        Some((at, &route.plan))
    });
    let orchestrate = config.orchestrate.as_ref();
    let orchestrate = orchestrate.map(|plan| (reader.at("orchestrate"), plan));
    routes.chain(orchestrate).collect()
}

fn check_auth(route: &ValueReader<'_>, plan: &PlanConfig) {
    if plan.auth.is_none() {
        let name = route.at("name").tree.as_text().unwrap_or("orchestrate");
        route.warning(
            "no_auth",
            format!("every caller is admitted: \"{name}\" has no auth"),
            "set auth, with a provider under auth.jwt",
        );
    }
}

fn check_breaker(name: &str, downstream: &ValueReader<'_>, config: &DownstreamConfig) {
    let per_key = config.policy.per_key.as_ref();
    let has_own = per_key.is_some_and(|per_key| per_key.circuit_breaker.is_some());
    if config.policy.circuit_breaker.is_none() && !has_own {
        let policy = policy_of(config);
        downstream.at("policy").warning(
            "no_breaker",
            format!("calls to \"{name}\" have no circuit breaker: it is off in {policy}"),
            "remove circuit_breaker: off from the policy",
        );
    }
}

/// Returns the name of the policy for messages.
fn policy_of(downstream: &DownstreamConfig) -> String {
    match &downstream.policy_name {
        Some(name) => format!("policy \"{name}\""),
        None => "the default policy".to_owned(),
    }
}

/// Reports secrets in the file itself.
fn check_keys(provider: &ValueReader<'_>) {
    for key in provider
        .items("keys")
        .iter()
        .filter(|key| key.has("secret"))
    {
        let secret = key.at("secret");
        if is_inline(&secret) {
            let help = "use a variable without a default, such as ${JWT_SECRET:?}, or secret_file";
            let message = match secret.tree.variables() {
                Some(_) => "the default of the variable is a secret in the file",
                None => "the secret is in the file",
            };
            secret.warning("inline_secret", message, help);
        }
    }
}

/// Reports headers, query parameters and members of the body that have a secret in the file itself.
fn check_request(request: &ValueReader<'_>) {
    for part in ["headers", "query", "body"] {
        if request.has(part) {
            check_members(&request.at(part));
        }
    }
}

/// Reports the members of a map, and of the maps inside it, that have a secret in the file itself.
fn check_members(map: &ValueReader<'_>) {
    map.list().iter().for_each(check_members);
    for (name, member) in map.entries() {
        check_members(&member);
        let text = member
            .tree
            .as_text()
            .filter(|_| is_secret(&name) && is_inline(&member));
        let message = match text {
            Some(text) if !text.contains('{') => {
                format!("the value of \"{name}\" is in the file, and may be a secret")
            }
            Some(text) if has_default(text) => {
                format!(
                    "the default of a placeholder in \"{name}\" is in the file, and may be a secret"
                )
            }
            _ => continue,
        };
        member.warning(
            "inline_secret",
            message,
            "use a variable, such as ${API_KEY:?}",
        );
    }
}

/// Returns `true` if a placeholder in the template `text` has a default, other than an empty one.
fn has_default(text: &str) -> bool {
    let placeholders = text
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'));
    placeholders
        .filter_map(|(inside, _)| inside.split_once('|'))
        .any(|(_, default)| !default.is_empty())
}

/// Returns `true` if the file has the value itself, or as the default of a variable.
fn is_inline(value: &ValueReader<'_>) -> bool {
    value
        .tree
        .variables()
        .is_none_or(|written| written.contains(":-"))
}

/// Reports timeouts and attempts of a policy that the limits of the route never leave room for. The default timeout is
/// not reported.
fn check_policy(node: &ValueReader<'_>, plan: &PlanConfig, downstream: &str, config: &Config) {
    let called = &config.downstreams[downstream];
    let (name, policy) = (policy_of(called), &called.policy);
    let chosen = |timeout: &Duration| Some(*timeout) != Policy::default().attempt_timeout;
    let deadline = plan.limits.deadline.max;
    for (key, timeout) in [
        ("total_timeout", policy.total_timeout),
        ("attempt_timeout", policy.attempt_timeout.filter(chosen)),
    ] {
        if let Some(timeout) = timeout.filter(|timeout| *timeout > deadline) {
            let (timeout, deadline) = (written(timeout), written(deadline));
            contradiction(
                &node.at("downstream"),
                format!(
                    "{key} of {name} is {timeout}, but the longest deadline of the route is {deadline}"
                ),
                &format!("set {key} to at most {deadline}, or deadline.max to at least {timeout}"),
            );
        }
    }
    // Only a request to the built-in API chooses a number.
    let (key, retries) = if node.path.starts_with("orchestrate.") {
        ("retry_attempts.max", plan.limits.retries.max)
    } else {
        ("retry_attempts.default", plan.limits.retries.default)
    };
    let allowed = policy.retry.as_ref().map_or(1, |retry| retry.max_attempts);
    if allowed > retries.saturating_add(1) {
        contradiction(
            &node.at("downstream"),
            format!("{name} allows {allowed} attempts, but {key} is {retries}"),
            &format!(
                "set max_attempts to at most {}, or {key} of the plan to at least {}",
                retries.saturating_add(1),
                allowed.saturating_sub(1)
            ),
        );
    }
}

fn check_connections(at: &ValueReader<'_>, downstream: &DownstreamConfig) {
    let limit = downstream.policy.concurrency.as_ref().map(highest);
    let connections = limited_connections(&downstream.client);
    if let (Some((name, calls)), Some(connections)) = (limit, connections)
        && calls > connections
    {
        contradiction(
            &at.at("max_connections"),
            format!(
                "{} admits {calls} calls at once, but max_connections is {connections}, so the others wait",
                policy_of(downstream)
            ),
            &format!(
                "set {name} of the policy to at most {connections}, or max_connections to at least {calls}"
            ),
        );
    }
}

fn check_tiers(
    reader: &ValueReader<'_>,
    config: &Config,
    plans: &[(ValueReader<'_>, &PlanConfig)],
) {
    let most = plans
        .iter()
        .map(|(_, plan)| plan.limits.max_concurrency.max);
    let Some(most) = most.max() else { return };
    for (name, at) in reader.members("tiers") {
        let limit = config
            .tiers
            .get(&name)
            .and_then(|tier| tier.max_concurrency);
        if let Some(limit) = limit.filter(|limit| *limit > most) {
            contradiction(
                &at.at("max_concurrency"),
                format!("max_concurrency is {limit}, but no route allows more than {most}"),
                "lower it, or raise max_concurrency.max of a route",
            );
        }
    }
}

fn check_drain(
    reader: &ValueReader<'_>,
    config: &Config,
    plans: &[(ValueReader<'_>, &PlanConfig)],
) {
    let deadlines = plans.iter().map(|(_, plan)| plan.limits.deadline.default);
    let (timeout, longest) = (config.server.config.grace, deadlines.max());
    let is_known = reader.at("server.drain").is_sound();
    if let Some(longest) = longest.filter(|longest| is_known && *longest > timeout) {
        let (timeout, longest) = (written(timeout), written(longest));
        contradiction(
            &reader.at("server.drain.timeout"),
            format!("on shutdown, requests are ended after {timeout}, but may run for {longest}"),
            &format!(
                "set server.drain.timeout to at least {longest}, or lower deadline.default of the routes"
            ),
        );
    }
}

fn contradiction(at: &ValueReader<'_>, message: String, help: &str) {
    at.warning("limits", message, help);
}
