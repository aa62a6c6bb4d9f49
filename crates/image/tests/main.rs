//! Images end to end: a real registry, real layouts, hostile layers, and the tools that others use.

mod archive;
mod build;
mod hostile;
mod registry;
mod token;
mod world;
