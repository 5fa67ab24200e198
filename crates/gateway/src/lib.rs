//! `fanout`: a gateway that answers one request from several services.
//!
//! The binary is a page (`main.rs`); what it serves is put together in [`app`], from the
//! configuration that [`config`] has read.

pub mod app;
pub mod auth;
pub mod backend;
pub mod cli;
pub mod config;
pub mod demo;
pub mod health;
pub mod inbound;
pub mod openapi;
pub mod orchestrate;
pub mod route;
pub mod run;
pub mod telemetry;
