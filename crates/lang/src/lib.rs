//! Text to a checked pipeline, with diagnostics that point at the byte.
#![forbid(unsafe_code)]

mod code;
mod diagnostic;
mod expr;
mod span_map;

pub use code::{codes, explain};
pub use diagnostic::{Diagnostic, Severity};
pub use expr::{Type, fuzz_expression};
