//! Routes of the candidates.

use crate::stub::SLOW;

/// Numbers of downstream calls per request.
pub(crate) const NODES: [usize; 3] = [1, 4, 10];

/// A route that calls `nodes` downstreams at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) nodes: usize,
    /// `true` if the gateway requires a token.
    pub(crate) token: bool,
    slow: bool,
}

impl Route {
    /// A route whose downstreams take seconds to respond.
    pub(crate) const SLOW: Self = Self {
        nodes: 4,
        token: false,
        slow: true,
    };

    /// Creates a route that responds at once.
    pub(crate) const fn new(nodes: usize, token: bool) -> Self {
        let slow = false;
        Self { nodes, token, slow }
    }

    /// Returns the routes that respond at once.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let each = |nodes| [false, true].map(|token| Self::new(nodes, token));
        NODES.into_iter().flat_map(each)
    }

    /// Returns the path of the route.
    pub(crate) fn path(self) -> String {
        match self {
            Self { slow: true, .. } => SLOW.to_owned(),
            Self { token: true, .. } => format!("/token/{}", self.nodes),
            Self { .. } => format!("/{}", self.nodes),
        }
    }

    /// Returns the path at the downstreams.
    pub(crate) const fn called(self) -> &'static str {
        if self.slow { SLOW } else { "/data/7" }
    }
}
