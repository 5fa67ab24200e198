//! The parts `routes` and `orchestrate`: requests, and the plans that they run.

use std::time::Duration;

use http::Method;
use indexmap::IndexMap;
use tower_fanout::{ReturnWhen, Strategy, layers::config::duration::written};
use tower_fanout_json::{
    merge::{MergeMode, OnConflict},
    template::Root,
};

use super::{
    super::{
        RESERVED_NAMES,
        plan::{LIMITS, SHORTEST_DEADLINE},
        text::{Parsed, VisibleText},
    },
    Node, RouteAuth, names_except, section,
};

/// Regular expression of the paths of routes: literal segments and parameters, and no path of the gateway itself.
const PATH: &str = concat!(
    r"^(?!/(livez|readyz|openapi\.json|docs)(/|$))",
    r"(/(?!\.\.?(/|$))(\{[^\x00-,./:-@\[-^`{-\x7F]+\}|[^{}?#*\\%:/][^{}?#*\\%/]*|))+$"
);

section! {
    /// A route. Each request that matches it runs the plan.
    #[schemars(extend("required" = ["name", "match", "plan"], "x-partial" = true))]
    Route {
        /// Name of the route in logs and metrics, unique among routes.
        #[schemars(example = &"page", extend("not" = serde_json::json!({ "enum": RESERVED_NAMES })))]
        name: Option<Parsed<VisibleText>> = None,
        /// Requests that the route matches.
        #[serde(rename = "match")]
        matched: Option<Match> = None,
        #[serde(flatten)]
        plan: Plan = Plan::default(),
    }
}

section! {
    /// Requests that a route matches.
    #[schemars(extend("required" = ["path"], "x-partial" = true))]
    Match {
        /// Method of the request. Defaults to `GET`.
        #[schemars(example = &"GET")]
        method: Option<Parsed<Method>> = None,
        /// Path of the request, such as `/pages/{id}`. `{id}` is one segment with any text.
        #[schemars(example = &"/pages/{id}", regex(pattern = PATH))]
        path: Option<String> = None,
    }
}

section! {
    /// A plan and the limits of its runs.
    #[schemars(extend("required" = ["plan"], "x-partial" = true))]
    Plan {
        /// Authentication and authorization. Without it, every caller is admitted.
        auth: Option<RouteAuth> = None,
        /// Time limit of a run. Defaults to 30 s, and at most 120 s.
        deadline: Deadline = Deadline::default(),
        /// Maximum number of calls in flight for one request. Defaults to 5, and at most 10.
        max_concurrency: MaxConcurrency = MaxConcurrency::default(),
        /// Maximum number of retries of one call. Defaults to 2, and at most 5.
        retry_attempts: RetryAttempts = RetryAttempts::default(),
        /// Nodes by name: the calls of the plan.
        #[schemars(extend("propertyNames" = names_except(&Root::RESERVED), "minProperties" = 1))]
        plan: Option<IndexMap<String, Node>> = None,
        /// Success criterion, time of the response, and merge of the responses.
        aggregate: Aggregate = Aggregate::default(),
    }
}

section! {
    /// Time limit of a run. Defaults to 30 s, and at most 120 s.
    Deadline {
        /// Limit of a request that does not choose one.
        #[schemars(extend(
            "x-minimum" = written(SHORTEST_DEADLINE).to_string(),
            "x-maximum" = format!("{:?}", LIMITS.deadline.max)
        ))]
        #[schemars(example = &"1500ms")]
        default: Option<Parsed<Duration>> = None,
        /// Longest limit that a request may choose.
        #[schemars(extend(
            "x-minimum" = written(SHORTEST_DEADLINE).to_string(),
            "x-maximum" = format!("{:?}", LIMITS.deadline.max)
        ))]
        #[schemars(example = &"10s")]
        max: Option<Parsed<Duration>> = None,
    }
}

section! {
    /// Maximum number of calls in flight for one request. Defaults to 5, and at most 10.
    MaxConcurrency {
        /// Number of a request that does not choose one.
        #[schemars(range(min = 1, max = LIMITS.max_concurrency.max))]
        #[schemars(example = 3)]
        default: Option<u8> = None,
        /// Largest number that a request may choose.
        #[schemars(range(min = 1, max = LIMITS.max_concurrency.max))]
        #[schemars(example = 8)]
        max: Option<u8> = None,
    }
}

section! {
    /// Maximum number of retries of one call. Defaults to 2, and at most 5.
    RetryAttempts {
        /// Number of a request that does not choose one.
        #[schemars(range(min = 0, max = LIMITS.retries.max))]
        #[schemars(example = 1)]
        default: Option<u8> = None,
        /// Largest number that a request may choose.
        #[schemars(range(min = 0, max = LIMITS.retries.max))]
        #[schemars(example = 3)]
        max: Option<u8> = None,
    }
}

section! {
    /// Success criterion, time of the response, and merge of the responses.
    Aggregate {
        /// Condition under which the request succeeds.
        strategy: Strategy = Strategy::default(),
        /// Time at which the gateway responds.
        return_when: ReturnWhen = ReturnWhen::default(),
        /// Extra time for optional nodes after all required nodes have completed.
        grace: Parsed<Duration> = Parsed(Duration::ZERO),
        /// Form of the merged document.
        merge: MergeMode = MergeMode::default(),
        /// Handling of a member that two responses have.
        on_conflict: OnConflict = OnConflict::default(),
    }
}
