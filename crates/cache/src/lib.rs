//! The shared cache as a service: REAPI over gRPC, plain HTTP and the caches of other tools, over one store.
//!
//! One port speaks it all: what is `application/grpc` goes to [`grpc`], the rest to [`http`]. Who may do what is decided
//! in one place, [`access`]; a handler parses, asks the store, and answers.

pub mod access;
pub mod config;
pub mod grpc;
pub mod http;
mod serve;
mod service;

pub use config::Config;
pub use serve::{Running, ServeError, serve};
pub use service::Service;
