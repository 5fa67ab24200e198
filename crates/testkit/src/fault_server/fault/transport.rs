//! Connections that stall or end where they should not.

use super::{Fault, PART, json_head, status_line};

impl Fault {
    /// Accepts the request and never answers.
    #[must_use]
    pub fn never_answer() -> Self {
        Self::new().stall()
    }

    /// Sends a part of the head, and never the rest.
    #[must_use]
    pub fn stall_in_head() -> Self {
        Self::new().send(head_part()).stall()
    }

    /// Sends the head and a part of the body, and never the rest.
    #[must_use]
    pub fn stall_in_body() -> Self {
        json_head(100).send(PART).stall()
    }

    /// Closes the connection instead of answering.
    #[must_use]
    pub fn close_before_head() -> Self {
        Self::new().close()
    }

    /// Resets the connection instead of answering.
    #[must_use]
    pub fn reset_before_head() -> Self {
        Self::new().reset()
    }

    /// Resets the connection within the head.
    #[must_use]
    pub fn reset_in_head() -> Self {
        Self::new().send(head_part()).reset()
    }

    /// Resets the connection within the body.
    #[must_use]
    pub fn reset_in_body() -> Self {
        json_head(100).send(PART).reset()
    }

    /// Answers `{}` as if it kept the connection, and then resets it: a pool has a dead connection.
    #[must_use]
    pub fn reset_after_answer() -> Self {
        Self::json("{}").reset()
    }

    /// Answers `{}` as if it kept the connection, and then closes it: a pool has a dead connection.
    #[must_use]
    pub fn close_after_answer() -> Self {
        Self::json("{}").close()
    }
}

fn head_part() -> String {
    status_line(200) + "content-ty"
}
