//! Scenes: attacks that take several steps, runs or projects, or whose harm is seen outside. Played by `tests/attacks.rs`.

use crate::Attack;

pub const ATTACKS: &[Attack] = &[];

