//! Promises by what they are about.

mod identity;
mod image;
mod network;
