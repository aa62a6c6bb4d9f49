//! The server: one process, one port. Triggers come in, runs are decided, agents execute, statuses go out; every fact is an
//! event in the store.
//!
//! ```text
//! hooks ─▶ store (delivery) ─▶ intake ─▶ desk: decide, append, fold ─▶ hub (agents), errands (forges, notices)
//! api, web ─────────────────────────────▶ desk                     └─▶ live (SSE), metrics, traces
//! ```
//!
//! `desk` is the only thing that changes a run: it owns the engine's world in one thread. Everybody else asks it, or reads
//! the store.
#![forbid(unsafe_code)]

pub mod api;
pub mod archive;
pub mod authentication;
pub mod badges;
mod cache_door;
mod care;
pub mod clock;
pub mod config;
pub mod desk;
pub mod errands;
pub mod githost;
pub mod hooks;
pub mod hub;
pub mod intake;
pub mod journal;
mod listen;
pub mod live;
pub mod notify;
pub mod observe;
pub mod oidc;
pub mod problem;
pub mod records;
mod routes;
pub mod schedule;
pub mod secrets;
mod shared;
pub mod sources;
pub mod stopping;
pub mod verbs;
pub mod watch;
pub mod web;

pub use config::Config;
pub use listen::{Server, StartError};
pub use shared::{Hidden, Shared};
