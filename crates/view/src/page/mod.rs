//! The pages of a server as HTML: pure functions from what is known to a text. No page decides, reads or asks anything.
//!
//! Everything that a stranger wrote (titles, names of branches, output of steps) goes through [`part::said`] or
//! [`ansi_html::line`]: escaped for HTML, without terminal sequences, and unable to turn the reading direction of what is around
//! it. No page holds a script or a style, so that the strictest content security policy fits.

pub mod admin;
pub mod ansi_html;
pub mod failure;
pub mod frame;
pub mod graph;
pub mod log;
pub mod part;
pub mod path;
pub mod project;
pub mod projects;
pub mod run;
pub mod secrets;
pub mod settings;
pub mod sign_in;
pub mod step;
#[cfg(test)]
mod tests;
pub mod tokens;
pub mod trigger;

pub use frame::{Crumb, Frame, Notice, Site, Visitor};
