//! The shared cache as a service: REAPI over gRPC, plain HTTP and the caches of other tools, over one store.
//!
//! One port speaks it all: what is `application/grpc` goes to [`grpc`], the rest to [`http`]. Who may do what is decided
//! in one place, [`access`]; a handler parses, asks the store, and answers.

pub mod access;
pub mod admin;
pub mod care;
pub mod config;
pub mod execution;
pub mod grpc;
pub mod http;
pub mod keys;
pub mod meters;
pub mod s3;
mod serve;
mod service;
pub mod upstream;

pub use config::Config;
pub use serve::{Peer, Routes, Running, ServeError, serve, serve_within};
pub use service::Service;

/// Tells whoever looks after this server, on standard error. Nobody is left to hear that this failed.
pub(crate) fn complain(what: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "warning: {what}");
}
