//! A gateway in its own process, stub services for it to call, and a client.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test file uses a part of this module"
)]

mod client;
pub(crate) mod issuer;
#[path = "../../../../tests/common/mod.rs"]
mod net;
mod process;
mod stub;

pub(crate) use self::{client::*, net::*, process::*, stub::*};
