//! The parts `routes` and `orchestrate`: requests, and the plans that they run.

use std::time::Duration;

use http::Method;
use indexmap::IndexMap;
use tower_fanout::{ReturnWhen, Strategy, layers::config::duration::written};
use tower_fanout_json::merge::{MergeMode, OnConflict};

use super::{
    super::{
        plan::{LIMITS, SHORTEST_DEADLINE},
        text::Parsed,
    },
    Node, RouteAuth, section,
};

section! {
    /// A route. Each request that matches it runs the plan.
    #[schemars(extend("required" = ["name", "match", "plan"], "x-partial" = true))]
    Route {
        /// Name of the route in logs and metrics, unique among routes.
        name: Option<String> = None,
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
        method: Option<Parsed<Method>> = None,
        /// Path of the request, such as `/pages/{id}`. `{id}` is one segment, and `{*rest}` all that follow.
        path: Option<String> = None,
    }
}

section! {
    /// A plan and the limits of its runs.
    #[schemars(extend("required" = ["plan"], "x-partial" = true))]
    Plan {
        /// Authentication and authorization. Without it, every caller is admitted.
        auth: Option<RouteAuth> = None,
        /// Time limit of a run.
        deadline: Deadline = Deadline::default(),
        /// Maximum number of calls in flight for one request.
        max_concurrency: MaxConcurrency = MaxConcurrency::default(),
        /// Maximum number of retries of one call.
        retry_attempts: RetryAttempts = RetryAttempts::default(),
        /// Nodes by name: the calls of the plan.
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
        default: Option<Parsed<Duration>> = None,
        /// Longest limit that a request may choose.
        #[schemars(extend(
            "x-minimum" = written(SHORTEST_DEADLINE).to_string(),
            "x-maximum" = format!("{:?}", LIMITS.deadline.max)
        ))]
        max: Option<Parsed<Duration>> = None,
    }
}

section! {
    /// Maximum number of calls in flight for one request. Defaults to 5, and at most 10.
    MaxConcurrency {
        /// Number of a request that does not choose one.
        #[schemars(range(min = 1, max = LIMITS.max_concurrency.max))]
        default: Option<u8> = None,
        /// Largest number that a request may choose.
        #[schemars(range(min = 1, max = LIMITS.max_concurrency.max))]
        max: Option<u8> = None,
    }
}

section! {
    /// Maximum number of retries of one call. Defaults to 2, and at most 5.
    RetryAttempts {
        /// Number of a request that does not choose one.
        #[schemars(range(min = 0, max = LIMITS.retries.max))]
        default: Option<u8> = None,
        /// Largest number that a request may choose.
        #[schemars(range(min = 0, max = LIMITS.retries.max))]
        max: Option<u8> = None,
    }
}

section! {
    /// Success criterion, time of the response, and merge of the responses.
    Aggregate {
        /// Success criterion.
        strategy: Strategy = Strategy::default(),
        /// Time of the response.
        return_when: ReturnWhen = ReturnWhen::default(),
        /// Extra time for optional nodes after all required nodes have completed.
        grace: Parsed<Duration> = Parsed(Duration::ZERO),
        /// Form of the merged document.
        merge: MergeMode = MergeMode::default(),
        /// Handling of a member that two responses have.
        on_conflict: OnConflict = OnConflict::default(),
    }
}
