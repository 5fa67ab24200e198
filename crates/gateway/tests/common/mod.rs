//! A gateway in a process of its own, services for it to call, and a client.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]

mod client;
pub(crate) mod issuer;
#[path = "../../../../tests/common/mod.rs"]
mod net;
mod process;
mod stub;

pub(crate) use self::{client::*, net::*, process::*, stub::*};
