//! A world to play scenes in: the real engine under a simulated clock, with agents that do what the scene says.
//!
//! Given by a text ([`World::push`]) or by building ([`step`], [`pipeline`]), when by acting ([`World::passes`], [`World::vanishes`], [`World::pass`]),
//! then by what a person would see ([`World::sees`], [`World::timeline`]). After every input all invariants of
//! [`engine::invariant`] are checked, so that each scene guards them too.

mod build;
mod world;

pub use build::{StepBuilder, context, is, no, outcome, pipeline, reads, step, text, value};
pub use world::World;
