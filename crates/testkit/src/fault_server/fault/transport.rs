//! Connections that stall, close or reset at the wrong time.

use super::{Fault, PARTIAL_BODY, json_head, status_line};

impl Fault {
    /// Reads the request and never responds.
    #[must_use]
    pub fn never_respond() -> Self {
        Self::new().stall()
    }

    /// Sends part of the head and then stalls.
    #[must_use]
    pub fn stall_in_head() -> Self {
        Self::new().send(head_part()).stall()
    }

    /// Sends the head and part of the body and then stalls.
    #[must_use]
    pub fn stall_in_body() -> Self {
        json_head(100).send(PARTIAL_BODY).stall()
    }

    /// Resets the connection instead of responding.
    #[must_use]
    pub fn reset_before_head() -> Self {
        Self::new().reset()
    }

    /// Sends part of the head and resets the connection.
    #[must_use]
    pub fn reset_in_head() -> Self {
        Self::new().send(head_part()).reset()
    }

    /// Sends the head and part of the body and resets the connection.
    #[must_use]
    pub fn reset_in_body() -> Self {
        json_head(100).send(PARTIAL_BODY).reset()
    }
}

fn head_part() -> String {
    status_line(200) + "content-ty"
}
