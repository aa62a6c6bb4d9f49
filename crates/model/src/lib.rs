//! The values of Paceline: ids, the typed pipeline, the plan, states, events, inputs and commands.
//!
//! Nothing here does IO, reads a clock, throws dice or waits. The crate is `no_std` so that the compiler keeps it
//! that way: there is no file, socket, clock or environment to reach for.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod attempt;
pub mod digest;
pub mod event;
mod exact;
pub mod expr;
pub mod glob;
pub mod host;
pub mod id;
pub mod input;
pub mod limits;
pub mod pipeline;
pub mod plan;
pub mod record;
pub mod summary;
pub mod terms;
pub mod units;
pub mod usage;

pub use attempt::*;
pub use digest::Digest;
pub use event::*;
pub use glob::{Glob, GlobList};
pub use host::{Host, HostPort, HostPortError};
pub use id::*;
pub use input::*;
pub use pipeline::*;
pub use plan::*;
pub use record::Record;
pub use summary::*;
pub use terms::*;
pub use units::{Bytes, Span, Timestamp};
pub use usage::*;
