//! The words between a server and its agents: one stream each way, small envelopes, bodies as JSON.
//!
//! Envelopes are protobuf with field numbers that are never used again, bodies are JSON of `model` whose unknown fields are
//! passed over: a server and an agent that are one minor release apart understand each other. No build step makes code
//! of this; the messages are written as Rust.
//!
//! The agent dials (`paceline.Agents/Work`), says [`Hello`], and hears [`Welcome`]. Everything the agent tells is
//! acknowledged, and told again after a reconnect until it is: log bytes by offset, results by fencing number.
#![forbid(unsafe_code)]

mod client;
mod message;
mod service;

pub use client::AgentsClient;
pub use message::*;
pub use service::{Agents, AgentsServer};

/// Version of the words. Both sides say theirs; a difference in the first number ends the conversation with a sentence.
pub const PROTOCOL: (u32, u32) = (1, 0);

/// Bytes of one message: a result with the longest tail, or a spec with the longest script.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Bytes of one log message.
pub const LOG_BYTES_MAX: usize = 256 << 10;

/// Name of the service: calls are `/paceline.Agents/<method>`.
pub const SERVICE: &str = "paceline.Agents";
const WORK_PATH: &str = "/paceline.Agents/Work";
const REGISTER_PATH: &str = "/paceline.Agents/Register";
