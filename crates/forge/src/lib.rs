//! Forges and git: what a webhook says, what a status is told, and how a repository is fetched, read and served.
//!
//! ```text
//! webhook ─▶ verify (raw body) ─▶ delivery_id ─▶ … kept … ─▶ parse ─▶ Happening ─▶ Mirror::ensure, read, changed_files
//! status::request ◀─ what a run came to
//! ```
#![forbid(unsafe_code)]

pub mod git;
mod happening;
mod kind;
mod parse;
pub mod status;
mod verify;

pub use git::{Mirror, Mirrors};
pub use happening::{Happening, PullRequest, Push, Tag};
pub use kind::Kind;
pub use parse::{ParseError, parse};
pub use verify::{Forged, delivery_id, kept_headers, sign, verify};

/// Length of a delivery in bytes: what GitHub sends at most. Larger ones are refused before they are read.
pub const DELIVERY_BYTES_MAX: usize = 25 << 20;
