//! From decoded files to a pipeline: includes are followed, templates unfolded, names looked up, expressions checked.

pub(crate) mod codes;
mod expansion;
mod graph;
mod include;
mod load;
mod script;
mod typing;
mod unfold;
mod with;

pub use expansion::{Outer, load_expansion};
pub use include::ReadError;
pub use load::load;
