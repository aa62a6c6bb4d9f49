//! What all parts of a server share.

use std::sync::Arc;

use crate::authentication::Authentication;
use crate::config::Config;
use crate::desk::Desk;
use crate::hub::Hub;
use crate::intake::Intake;
use crate::live::Live;
use crate::observe::Meters;
use crate::sources::Sources;
use crate::stopping::Stopping;

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
    /// Repositories and the pipelines in them.
    pub sources: Arc<Sources>,
    /// Whether it ends.
    pub stopping: Stopping,
    /// Woken when a delivery became durable.
    pub deliveries: Stopping,
    /// Deliveries that are worked on.
    pub intake: Intake,
    /// Its agents.
    pub hub: Arc<Hub>,
    /// What is counted.
    pub meters: Meters,
    /// Credential of the agent in this process; in no store.
    pub builtin: Hidden,
    /// Who asks, and the keys of what is kept secret.
    pub authentication: Authentication,
}

/// A text that no log gets to see.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}
