//! A page that a `FanOut` of your own puts together: no gateway, no file, typed requests and answers.
//! Each service has its stack of layers, orders need the user, and a page can do without prices.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example page
//! ```

use std::time::Duration;

use tower::{BoxError, Service, ServiceExt, layer::util::Identity, service_fn};
use tower_fanout::{
    Answer, Downstream, FanOut, FanOutError, Plan, Policy, Strategy,
    layers::{ClassifyResult, With},
    stack::stack,
};

#[derive(Clone, Debug, PartialEq)]
struct User {
    name: &'static str,
    account: u32,
}

/// The page: who it is for, what they ordered and, if they are known, today's prices.
#[derive(Debug, PartialEq)]
struct Page {
    user: User,
    orders: Vec<String>,
    price: Option<f64>,
}

/// A service that is asked for `Req` and answers `Res`.
trait Source<Req, Res>:
    Service<With<Req>, Response = Res, Error = BoxError, Future: Send> + Clone + Send + Sync + 'static
{
}

impl<Req, Res, S> Source<Req, Res> for S where
    S: Service<With<Req>, Response = Res, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A service behind a stack of its own: 300 ms per attempt, three attempts, a breaker, a limit.
fn careful<Req, Res>(name: &str, service: impl Source<Req, Res>) -> impl Source<Req, Res>
where
    Req: Clone + Send + Sync + 'static,
    Res: Send + 'static,
{
    let policy = Policy::build(|policy| policy.attempt_timeout = Some(Duration::from_millis(300)));
    let downstream = Downstream::new(name, policy.expect("300 ms is a time"), ClassifyResult);
    stack(
        &downstream,
        downstream.fallback(),
        Identity::new(),
        Identity::new(),
        service,
    )
}

/// The plan, as a service from the number of a user to their page.
fn app(
    prices: impl Source<(), f64>,
) -> impl Service<u32, Response = Page, Error = FanOutError> + Clone {
    let users = service_fn(|_: With<u32>| async {
        let (name, account) = ("Ada", 42);
        Ok(User { name, account })
    });
    let orders = service_fn(|account: With<u32>| async move {
        Ok(vec![format!("a book, paid by {}", account.get())])
    });

    let mut plan = Plan::builder();
    let user = plan
        .node("user", careful("users", users), |id, _| {
            Ok(With::new(*id).idempotent())
        })
        .key();
    let orders = plan
        .node("orders", careful("orders", orders), move |_, answers| {
            Ok(With::new(answers.get(user)?.account).idempotent())
        })
        .after(user)
        .key();
    let price = plan
        .node("price", careful("prices", prices), |_, _| {
            Ok(With::new(()).idempotent())
        })
        .optional()
        .key();
    let plan = plan
        .build()
        .expect("the names are unique and the graph has no cycle");
    FanOut::new(plan)
        .strategy(Strategy::Partial)
        .max_concurrency(5)
        .map_response(move |mut answer: Answer| Page {
            user: answer.take(user).expect("it is required"),
            orders: answer.take(orders).expect("it is required"),
            price: answer.take(price),
        })
}

#[tokio::main]
async fn main() -> Result<(), FanOutError> {
    let prices = service_fn(|_: With<()>| async { Ok(9.5) });
    println!("{:#?}", app(prices).oneshot(7).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(price: Option<f64>) -> Page {
        let (name, account) = ("Ada", 42);
        Page {
            user: User { name, account },
            orders: vec!["a book, paid by 42".into()],
            price,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_page_has_all_three_answers() {
        let prices = service_fn(|_: With<()>| async { Ok(9.5) });
        assert_eq!(app(prices).oneshot(7).await.unwrap(), expected(Some(9.5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_without_prices_is_a_page() {
        let prices = service_fn(|_: With<()>| async { Err("the exchange is closed".into()) });
        assert_eq!(app(prices).oneshot(7).await.unwrap(), expected(None));
    }
}
