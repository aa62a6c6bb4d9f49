//! Clients of the shared cache over plain HTTP: the protocols by hand, and the real clients. Each real client does its
//! work, loses everything local, and does it again; what counts is that nothing was executed.

#[path = "cache_http/clients.rs"]
mod clients;
#[path = "cache_http/github.rs"]
mod github;
#[path = "cache_http/protocol.rs"]
mod protocol;
#[path = "cache_http/server.rs"]
mod server;
