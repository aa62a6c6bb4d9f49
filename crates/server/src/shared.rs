//! What all parts of a server share.

use crate::config::Config;
use crate::desk::Desk;
use crate::live::Live;

/// What all parts of a server share. Handlers get it in an `Arc`.
#[derive(Debug)]
pub struct Shared {
    /// What it was told.
    pub config: Config,
    /// What is kept.
    pub store: store::Store,
    /// The only way to change a run.
    pub desk: Desk,
    /// What just happened, for those who watch.
    pub live: Live,
}
