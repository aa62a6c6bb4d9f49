//! Scenes, policy transcripts and random simulations of the engine.
mod scenes;
mod simulation;
mod text;
mod transcript;
