//! What has to be done now and then: helpers that nobody needs end.

use std::sync::Arc;
use std::time::Duration;

use crate::Shared;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A git that answers questions ends when nobody asked for so long.
const GIT_UNUSED: Duration = Duration::from_secs(120);

/// Looks after things until the server ends.
pub(crate) fn run(shared: &Arc<Shared>) {
    while shared.stopping.wait(LOOK_EVERY) {
        shared.sources.rest(GIT_UNUSED);
    }
}
