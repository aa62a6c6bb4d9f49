//! Scenes, policy transcripts and random simulations of the engine.
mod again;
mod fleet;
mod log;
mod queue;
mod scenes;
mod served;
mod simulation;
mod storm;
mod text;
mod transcript;
