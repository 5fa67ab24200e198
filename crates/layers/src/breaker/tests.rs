//! The state machine against its statements.
