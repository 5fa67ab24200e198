//! The rules that diagnostics report. `docs/check.md` has the same table for users.

/// A kind of mistake, with an identifier that stays the same between versions.
#[derive(Debug)]
pub(super) struct Rule {
    /// The identifier, which diagnostics have as their code.
    pub(super) id: &'static str,
    /// Description of what the rule finds.
    pub(super) finds: &'static str,
    /// The consequence of leaving it as it is. Empty for errors: the configuration cannot be used.
    pub(super) why: &'static str,
    /// The change that makes the diagnostic disappear.
    pub(super) cure: &'static str,
}

/// Returns all rules.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    STRICT.iter().chain(WARNINGS).chain(ERRORS)
}

/// Returns the identifiers of the rules whose diagnostics are warnings.
pub(super) fn warning_ids() -> Vec<&'static str> {
    let rules = STRICT.iter().chain(WARNINGS);
    rules.map(|rule| rule.id).collect()
}

/// Returns `true` if only `check --strict` applies the rule.
pub(super) fn is_strict(id: &str) -> bool {
    STRICT.iter().any(|rule| rule.id == id)
}

const fn warning(
    id: &'static str,
    finds: &'static str,
    why: &'static str,
    cure: &'static str,
) -> Rule {
    Rule {
        id,
        finds,
        why,
        cure,
    }
}

const fn error(id: &'static str, finds: &'static str, cure: &'static str) -> Rule {
    warning(id, finds, "", cure)
}

/// Rules that only `check --strict` applies.
const STRICT: &[Rule] = &[
    warning(
        "inline_secret",
        "A secret is in the file.",
        "Everyone who can read the file, its backups and its history has the secret.",
        "Use a variable without a default, or a key that ends in _file.",
    ),
    warning(
        "limits",
        "Two limits contradict each other.",
        "One of them never applies, or requests are cut off although a limit allows them.",
        "Change one of the two, as the message says.",
    ),
    warning(
        "no_auth",
        "A route has no auth.",
        "Every caller that reaches the listener can use it.",
        "Set auth of the route.",
    ),
    warning(
        "no_breaker",
        "Calls of a service have no circuit breaker.",
        "A service that is down keeps receiving calls, and each of them waits for its timeout.",
        "Remove circuit_breaker: off from the policy.",
    ),
];

/// Rules about configurations that can be used.
const WARNINGS: &[Rule] = &[
    warning(
        "amplification",
        "A request can send many attempts to one service.",
        "Retries and hedges multiply the load of a service that is already slow or failing.",
        "Lower max_attempts or max_hedges, or retry_attempts of the route.",
    ),
    warning(
        "body",
        "A route for GET or HEAD reads the request body.",
        "Browsers and many proxies send no body with these methods.",
        "Set match.method to POST, or read the values from the path or the query.",
    ),
    warning(
        "certificate_validity",
        "A certificate has expired or is not valid yet.",
        "The other side of the connection will refuse it.",
        "Renew the certificate.",
    ),
    warning(
        "conditional_dependency",
        "A node depends on a node with a condition or tiers.",
        "Where the other node is skipped, this one is skipped too.",
        "Make the dependency optional, or give both nodes the same condition.",
    ),
    warning(
        "conflict",
        "Two nodes can write the same member of the response.",
        "The request fails when both do. If they always do, this is an error.",
        "Rename the member in one of them, or set on_conflict.",
    ),
    warning(
        "expected_time",
        "The expected time of a plan is above its deadline.",
        "Requests of usual duration would be cut off.",
        "Raise the deadline, or make the slowest node faster.",
    ),
    warning(
        "max_concurrency",
        "The nodes meet the deadline only without the limit of concurrent calls.",
        "Nodes that wait for a free place can end after the deadline.",
        "Raise max_concurrency or the deadline.",
    ),
    warning(
        "never_fails",
        "A route succeeds even if all of its services are down.",
        "Monitoring of statuses does not see the outage.",
        "Mark a node without a static fallback as required.",
    ),
    warning(
        "no_effect",
        "A key has no effect beside the others.",
        "The configuration does not do what the key says.",
        "Remove the key, or set those that it needs.",
    ),
    warning(
        "not_verified",
        "Certificates of a service are not verified.",
        "An attacker on the network can read and change the traffic.",
        "Remove tls.verify, and set tls.ca_file to the CA to trust.",
    ),
    warning(
        "open_admin",
        "The admin address is reachable from other hosts.",
        "It has no authentication, and shows metrics and health.",
        "Listen on 127.0.0.1, or restrict access by other means.",
    ),
    warning(
        "unknown_variable",
        "An environment variable begins with FANOUT_ and overrides no value.",
        "It may be misspelt.",
        "Correct its name, or remove it.",
    ),
    warning(
        "unsafe_hedge",
        "A policy hedges a request that may change state.",
        "The service can apply the change twice.",
        "Remove idempotent from hedge, unless the request is safe to send twice.",
    ),
    warning(
        "unsafe_retry",
        "A policy retries a request that may change state.",
        "The service can apply the change twice.",
        "Remove idempotent from retry, unless the request is safe to send twice.",
    ),
    warning(
        "unused",
        "A definition is not used.",
        "It may be misspelt where it is meant to be used.",
        "Use it, or remove it.",
    ),
    warning(
        "worst_case",
        "The worst case of a plan is above its deadline.",
        "Retries that the policy allows are cut off by the deadline.",
        "Lower attempt_timeout, set total_timeout, or allow fewer attempts.",
    ),
];

/// Rules about configurations that cannot be used. These diagnostics are errors.
const ERRORS: &[Rule] = &[
    error(
        "ambiguous_key",
        "A key fits several of the allowed algorithms.",
        "Set algorithm of the key.",
    ),
    error(
        "ambiguous_variable",
        "An environment variable could override several values, or contradicts another variable.",
        "Rename one of the values, or remove the variable.",
    ),
    error(
        "condition",
        "A condition is no valid expression, or can cost too much.",
        "Change the condition as the message says.",
    ),
    error(
        "cycle",
        "Nodes depend on each other, or fallbacks lead back to their own service.",
        "Remove one of the dependencies or fallbacks.",
    ),
    error(
        "duplicate",
        "A key, name or path is set twice.",
        "Remove or rename one of them.",
    ),
    error("empty_plan", "A plan has no nodes.", "Add a node."),
    error(
        "invalid",
        "A value is not valid, or contradicts another one.",
        "Change the value as the message says.",
    ),
    error("missing", "A required key is missing.", "Add the key."),
    error(
        "mixed_algorithms",
        "HMAC and public-key algorithms are combined.",
        "Allow only one of the two kinds.",
    ),
    error(
        "mixed_keys",
        "A JWK set is combined with other keys.",
        "Keep only one of the two.",
    ),
    error(
        "never_runs",
        "No request can reach a node or a route.",
        "Change its condition, tiers or auth, or remove it.",
    ),
    error(
        "not_a_dependency",
        "A node reads the response of a node that it does not depend on.",
        "Add the other node to depends_on.",
    ),
    error(
        "not_built",
        "A key of a feature that is not supported yet.",
        "Remove the key for now.",
    ),
    error(
        "range",
        "A value is out of range.",
        "Choose a value within the bounds.",
    ),
    error(
        "reference",
        "A placeholder names a value that the request does not have.",
        "Correct the name, or add the value to the request.",
    ),
    error(
        "reserved",
        "A name is used by the gateway itself.",
        "Choose another name.",
    ),
    error(
        "same_issuer",
        "Two providers of one route accept the same issuer.",
        "Use one of them.",
    ),
    error(
        "syntax",
        "The file is not valid YAML or JSON.",
        "Correct the syntax.",
    ),
    error(
        "template",
        "A template is not valid.",
        "Change the template as the message says.",
    ),
    error("too_large", "The file is too large.", "Remove parts of it."),
    error(
        "type",
        "A value has the wrong type.",
        "Write a value of the expected type.",
    ),
    error(
        "unknown_algorithm",
        "A signature algorithm is not known.",
        "Use one of the listed algorithms.",
    ),
    error(
        "unknown_key",
        "A key is not known.",
        "Correct its spelling, or remove it.",
    ),
    error(
        "unknown_name",
        "A name is not defined.",
        "Correct the name, or define it.",
    ),
    error(
        "unknown_node",
        "The plan does not have the node.",
        "Correct the name, or add the node.",
    ),
    error(
        "unreachable",
        "A node can never start.",
        "Change its dependencies.",
    ),
    error(
        "unreadable",
        "A file cannot be read.",
        "Correct the path, or the permissions of the file.",
    ),
    error(
        "variable",
        "An environment variable is missing, or its reference is not valid.",
        "Set the variable, or add a default: ${NAME:-default}.",
    ),
];
