//! The law of transparency: a success passes through unchanged.

use super::{
    Laws, Layered, Traffic,
    drive::{self, require, within},
};

const TRANSPARENCY: &str = "transparency";

impl<T: Traffic, S: Layered<T>> Laws<'_, T, S> {
    /// Tries that each request reaches the inner service exactly once, with its number, and that
    /// its answer comes back.
    ///
    /// # Panics
    ///
    /// Panics if a call fails, an answer is another's, or the inner service is called more or less
    /// often than the layer.
    pub async fn transparency(&self) {
        let trial = self.trial(self.echo().after_polls(1));
        let mut service = trial.service;
        let numbers: Vec<u64> = (1..=8).collect();
        for &number in &numbers {
            within(TRANSPARENCY, drive::ready(&mut service)).await.ok();
            let answer = within(TRANSPARENCY, service.call(self.traffic.request(number))).await;
            let received = answer.ok().map(|response| self.traffic.received(&response));
            require(
                TRANSPARENCY,
                received.is_some(),
                "a call failed that the inner service answered",
            );
            require(
                TRANSPARENCY,
                received == Some(number),
                "an answer was changed",
            );
        }
        let sent: Vec<u64> = trial
            .script
            .requests()
            .iter()
            .map(|request| self.traffic.sent(request))
            .collect();
        require(
            TRANSPARENCY,
            sent.len() == numbers.len(),
            "one success took not exactly one inner call",
        );
        require(TRANSPARENCY, sent == numbers, "a request was changed");
    }
}
