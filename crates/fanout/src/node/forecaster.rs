//! The forecast of a plan, from what was learnt of its downstreams.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::plan::{Forecast, PlanGraph, Profile};

/// A forecast is replaced after this time, so that no request has to sort.
const FRESH: Duration = Duration::from_secs(1);

/// Keeps the forecast of a plan fresh.
#[derive(Debug)]
pub(crate) struct Forecaster {
    latest: Mutex<(Instant, Arc<Forecast>)>,
    /// Whether the forecast can change at all: an expected time is learnt for some node.
    learns: bool,
}

impl Forecaster {
    pub(super) fn new(plan: &PlanGraph, profiles: &[Option<Profile>]) -> Self {
        let now = Instant::now();
        let forecast = forecast(plan, profiles, now);
        Self {
            latest: Mutex::new((now, Arc::new(forecast))),
            learns: profiles.iter().any(Option::is_some),
        }
    }

    /// Returns the forecast at `now`, at most one second old, for the plan and the profiles that the
    /// forecaster was created with.
    pub(super) fn at(
        &self,
        now: Instant,
        plan: &PlanGraph,
        profiles: &[Option<Profile>],
    ) -> Arc<Forecast> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if self.learns && now.saturating_duration_since(latest.0) >= FRESH {
            *latest = (now, Arc::new(forecast(plan, profiles, now)));
        }
        Arc::clone(&latest.1)
    }
}

/// Expects of each node what its downstream took lately, or else what was declared.
fn forecast(plan: &PlanGraph, profiles: &[Option<Profile>], now: Instant) -> Forecast {
    Forecast::new(plan, |node| {
        let learnt = profiles[node]
            .as_ref()
            .and_then(|profile| profile.expected().at(now));
        learnt.or(plan.nodes[node].expected).unwrap_or_default()
    })
}
