//! The law of transparency: requests and responses pass unchanged.

use super::{
    Laws, Layered, Traffic,
    drive::{self, Law},
};

const TRANSPARENCY: Law = Law("transparency");

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Checks that each request reaches the inner service exactly once with its number, and that its
    /// response comes back.
    ///
    /// # Panics
    ///
    /// Panics if a call fails, a response belongs to another request, or the number of inner calls
    /// differs from the number of requests.
    pub async fn transparency(&self) {
        let trial = self.trial(self.echo().after_polls(1));
        let mut service = trial.service;
        let numbers: Vec<u64> = (1..=8).collect();
        for &number in &numbers {
            TRANSPARENCY.complete(drive::ready(&mut service)).await.ok();
            let response = self.send(TRANSPARENCY, &mut service, number).await;
            let received = response.map(|response| self.traffic.response_number(&response));
            TRANSPARENCY.require(
                received.is_some(),
                "a call failed although the inner service succeeded",
            );
            TRANSPARENCY.require(
                received == Some(number),
                format!("the layer changed response {number}"),
            );
        }
        let sent: Vec<u64> = trial
            .script
            .requests()
            .iter()
            .map(|request| self.traffic.request_number(request))
            .collect();
        TRANSPARENCY.require(
            sent.len() == numbers.len(),
            format!(
                "{} requests took {} inner calls, expected one call per request",
                numbers.len(),
                sent.len()
            ),
        );
        TRANSPARENCY.require(sent == numbers, "the layer changed a request");
    }
}
