//! Text to a checked pipeline, with diagnostics that point at the byte.
//!
//! bytes → YAML tree ([`yaml`]) → decoded file ([`decode`] by the tables of [`keyword`]) → pipeline ([`resolve`], with
//! the expressions of [`expr`]). No step stops at the first fault, and none does IO.
#![forbid(unsafe_code)]

mod code;
mod decode;
mod diagnostic;
mod expr;
mod fuzz;
mod keyword;
mod machine;
mod raw;
mod reference;
mod render;
mod report;
mod resolve;
mod schema;
mod span_map;
mod yaml;

pub use code::{codes, explain};
pub use diagnostic::{Diagnostic, Severity};
pub use expr::fuzz_expression;
pub use fuzz::fuzz_pipeline;
pub use machine::sarif;
pub use reference::reference;
pub use report::Report;
pub use resolve::{Outer, ReadError, load, load_expansion};
pub use schema::json_schema;
