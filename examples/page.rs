//! A typed `FanOut` over services written in Rust, without the gateway. Each service has its own stack of
//! layers. Orders depend on the user, and the page lists the parts that are missing.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example page
//! ```

use std::{error::Error, time::Duration};

use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout::{
    Downstream, FanOut, FanOutError, FanOutResponse, Plan, Policy, Strategy,
    layers::{ClassifyResult, ConfigError, Deadline, LayerError, WithCall},
};

#[derive(Clone, Debug, PartialEq)]
struct User {
    name: &'static str,
    account: u32,
}

/// The response: a user, the titles that they ordered, and recommended titles.
#[derive(Debug, PartialEq)]
struct Page {
    user: User,
    orders: Option<Vec<&'static str>>,
    tips: Vec<&'static str>,
    /// Names of the nodes without a response.
    missing: Vec<Box<str>>,
}

/// A service for requests of type `Req` with responses of type `Res`.
trait Source<Req, Res>:
    Service<WithCall<Req>, Response = Res, Error = LayerError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<Req, Res, S> Source<Req, Res> for S where
    S: Service<WithCall<Req>, Response = Res, Error = LayerError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Puts a stack of layers around `service`: 300 ms per attempt, three attempts, a breaker and a limit. If
/// the call fails, `fallback` is the response.
fn careful<Req, Res>(
    name: &str,
    fallback: Option<Res>,
    service: impl Source<Req, Res>,
) -> Result<impl Source<Req, Res>, ConfigError>
where
    Req: Clone + Send + Sync + 'static,
    Res: Clone + Send + Sync + 'static,
{
    let policy = Policy::new().attempt_timeout(Duration::from_millis(300));
    let downstream = Downstream::new(name, policy, ClassifyResult)?;
    let fallback = fallback.map(|answer| downstream.fallback().response(answer));
    Ok(ServiceBuilder::new()
        .option_layer(fallback)
        .layer(&downstream)
        .service(service))
}

/// Builds a service from a user's number to their page. A call takes at most half a second.
fn app(
    users: impl Source<u32, User>,
    orders: impl Source<u32, Vec<&'static str>>,
    tips: impl Source<(), Vec<&'static str>>,
) -> Result<impl Service<u32, Response = Page, Error = FanOutError> + Clone, Box<dyn Error>> {
    let mut plan = Plan::builder();
    let user = plan
        .node(
            "user",
            careful("users", None, users)?,
            |id: &WithCall<u32>, _| Ok(WithCall::new(*id.get()).idempotent()),
        )
        .key();
    let orders = plan
        .node(
            "orders",
            careful("orders", None, orders)?,
            move |_, answers| Ok(WithCall::new(answers.get(user)?.account).idempotent()),
        )
        .after(user)
        .optional()
        .key();
    let bestsellers = vec!["a bestseller"];
    let tips = plan
        .node("tips", careful("tips", Some(bestsellers), tips)?, |_, _| {
            Ok(WithCall::new(()).idempotent())
        })
        .key();
    let bound = plan.build()?;
    let plan = bound.plan().clone();
    Ok(FanOut::new(bound)
        .strategy(Strategy::Partial)
        .max_concurrency(5)
        .map_response(move |mut answer: FanOutResponse| Page {
            user: answer
                .take(user)
                .expect("a run only succeeds with its required nodes"),
            orders: answer.take(orders),
            tips: answer
                .take(tips)
                .expect("a run only succeeds with its required nodes"),
            missing: missing(&plan, &answer),
        })
        .map_request(|id| {
            WithCall::new(id).deadline(Deadline::at(Instant::now() + Duration::from_millis(500)))
        }))
}

/// Returns the names of the nodes without a response.
fn missing(plan: &Plan, answer: &FanOutResponse) -> Vec<Box<str>> {
    let branches = answer.report().branches.iter();
    branches
        .filter(|branch| !branch.status.is_answered())
        .map(|branch| plan.names()[branch.node].clone())
        .collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let users = service_fn(|_: WithCall<u32>| async {
        let (name, account) = ("Ada", 42);
        Ok(User { name, account })
    });
    let orders = service_fn(|_: WithCall<u32>| async { Ok(vec!["a book"]) });
    let tips = service_fn(|_: WithCall<()>| async { Err("no recommendations".into()) });
    println!("{:#?}", app(users, orders, tips)?.oneshot(7).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tower_fanout::Verdict;
    use tower_fanout_testkit::script::ScriptedService;

    use super::*;

    /// Scripted services for the three nodes.
    struct Services {
        users: ScriptedService<WithCall<u32>, User, LayerError>,
        orders: ScriptedService<WithCall<u32>, Vec<&'static str>, LayerError>,
        tips: ScriptedService<WithCall<()>, Vec<&'static str>, LayerError>,
    }

    fn ada() -> User {
        let (name, account) = ("Ada", 42);
        User { name, account }
    }

    impl Services {
        fn new() -> Self {
            Self {
                users: ScriptedService::new().respond(ada()),
                orders: ScriptedService::new().respond(vec!["a book"]),
                tips: ScriptedService::new().respond(vec!["a pen"]),
            }
        }

        async fn page(&self) -> Result<Page, FanOutError> {
            let (users, orders) = (self.users.clone(), self.orders.clone());
            let app = app(users, orders, self.tips.clone()).unwrap();
            app.oneshot(7).await
        }
    }

    fn whole() -> Page {
        Page {
            user: ada(),
            orders: Some(vec!["a book"]),
            tips: vec!["a pen"],
            missing: vec![],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_page_has_all_three_responses() {
        let services = Services::new();
        assert_eq!(services.page().await.unwrap(), whole());
        assert_eq!(*services.users.requests()[0].get(), 7);
        assert_eq!(*services.orders.requests()[0].get(), 42);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_without_orders_lists_them_as_missing() {
        let orders = ScriptedService::new().fail("the archive is closed");
        let services = Services {
            orders,
            ..Services::new()
        };
        let (orders, missing) = (None, vec!["orders".into()]);
        let expected = Page {
            orders,
            missing,
            ..whole()
        };
        assert_eq!(services.page().await.unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn tips_have_a_fallback() {
        let tips = ScriptedService::new().fail("no recommendations");
        let services = Services {
            tips,
            ..Services::new()
        };
        let tips = vec!["a bestseller"];
        assert_eq!(services.page().await.unwrap(), Page { tips, ..whole() });
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_takes_at_most_half_a_second() {
        let users = ScriptedService::new().hang();
        let services = Services {
            users,
            ..Services::new()
        };
        let start = Instant::now();
        let Err(FanOutError::Failed { verdict, response }) = services.page().await else {
            panic!("expected FanOutError::Failed, because the user is required");
        };
        assert!(start.elapsed() <= Duration::from_millis(500));
        assert_eq!(verdict, Verdict::Timeout);
        assert_eq!(response.report().branches[0].attempts, 2);
    }
}
