//! Tar archives: a bounded reader for what strangers made, and a writer whose output depends on nothing but its input.

mod read;
mod write;

pub(crate) use read::{Entry, Kind, Reader, TarError};
pub(crate) use write::Writer;

const BLOCK: usize = 512;
/// Length of a path, or of where a link points: Linux takes no longer ones.
pub(crate) const PATH_BYTES_MAX: usize = 4096;
/// Extended headers of one entry: room for some attributes of the largest size that Linux takes.
const EXTENDED_BYTES_MAX: u64 = 1 << 20;
