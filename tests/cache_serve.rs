//! The shared cache as a process: the real binary, real connections, sudden deaths.

#[path = "cache_serve/damage.rs"]
mod damage;
#[path = "cache_serve/deaths.rs"]
mod deaths;
#[path = "cache_serve/rules.rs"]
mod rules;
#[path = "cache_serve/server.rs"]
mod server;
#[path = "cache_serve/tls.rs"]
mod tls;
#[path = "cache_serve/tokens.rs"]
mod tokens;
