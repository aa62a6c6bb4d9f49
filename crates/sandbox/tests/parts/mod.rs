//! Promises by what they are about.

mod confine;
mod identity;
mod image;
mod network;
