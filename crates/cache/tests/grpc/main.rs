//! The services over a real connection, with the clients that the protocol's own definition gives.
#![allow(clippy::unwrap_used)]

mod access;
mod actions;
mod asset;
mod bytestream;
mod cas;
mod tree;
mod world;
