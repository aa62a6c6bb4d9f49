//! The engine: plans a run and decides what happens next.
//!
//! [`plan()`] makes step instances out of a pipeline. [`decide`] is the only place where anything changes status: it takes
//! the world, something that came from outside and the time, and answers with facts, commands and reasons. It has no
//! clock, no dice and no network, so that a whole scheduler runs in a test and a recorded run replays to the same state.
//!
//! The loop around it, the same for `pace run`, the server and the tests:
//!
//! ```text
//! let decision = decide(&world, &input, now);
//! append(&decision.events);                   // before anything else happens
//! world.take(&input, &decision)?;             // the facts, and who the agents are (no fact of a run)
//! carry_out(decision.commands);
//! sleep_until(world.next_wake());             // then Input::Tick
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod again;
mod approval;
mod attempt;
mod cascade;
mod cells;
mod concurrency;
mod decide;
mod draft;
mod fleet;
mod graph;
mod grow;
pub mod invariant;
mod lease;
mod matrix;
mod nearest;
pub mod params;
mod plan;
mod queue;
mod render;
mod retry;
mod run;
mod scope;
mod select;
mod step;
pub mod trigger;
mod verdict;
mod waiting;
mod world;

pub use decide::decide;
pub use fleet::AgentState;
pub use nearest::nearest;
pub use plan::{PlanError, plan};
pub use run::{Cancel, RunPhase, RunState};
pub use step::{Lease, StepState};
pub use waiting::waiting;
pub use world::{IllegalEvent, World};
