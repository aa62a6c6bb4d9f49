//! What has to be done now and then: helpers that nobody needs end, and what was kept long enough goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Timestamp;
use store::StoreError;

use crate::Shared;
use crate::clock::now;
use crate::records::Project;

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A git that answers questions ends when nobody asked for so long.
const GIT_UNUSED: Duration = Duration::from_secs(120);
/// How often runs are looked for that were kept long enough.
const CLEAR_EVERY: Duration = Duration::from_secs(3600);
/// Projects that are read at a time.
const PAGE: usize = 500;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Looks after things until the server ends.
pub(crate) fn run(shared: &Arc<Shared>) {
    let mut cleared: Option<Instant> = None;
    while shared.stopping.wait(LOOK_EVERY) {
        shared.sources.rest(GIT_UNUSED);
        if shared.desk.epoch().is_some() && cleared.is_none_or(|at| at.elapsed() >= CLEAR_EVERY) {
            cleared = Some(Instant::now());
            if let Err(error) = clear(shared, now()) {
                tracing::warn!("what was kept long enough stays for another hour: {error}");
            }
        }
    }
}

/// Removes runs that were kept as long as their projects say.
fn clear(shared: &Shared, at: Timestamp) -> Result<(), StoreError> {
    let mut after = String::new();
    loop {
        let page = shared.store.records::<Project>("", &after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.value.name);
        for project in page.into_iter().map(|kept| kept.value) {
            let Some(before) = kept_since(&project, at) else { continue };
            let gone = shared.store.delete_before(shared.desk.epoch(), &project.id(), before, at, "server")?;
            if gone > 0 {
                tracing::info!(project = project.name, "{gone} runs went after {} days", project.keep_days);
            }
        }
    }
}

/// What ended before is removed; `None`: nothing.
fn kept_since(project: &Project, at: Timestamp) -> Option<Timestamp> {
    let kept = u64::try_from(DAY.saturating_mul(project.keep_days).as_micros()).unwrap_or(u64::MAX);
    (project.keep_days > 0).then(|| Timestamp(at.0.saturating_sub(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_kept_for_the_days_that_the_project_says_or_for_ever() {
        let at = Timestamp(1_700_000_000_000_000);
        let kept = |keep_days| kept_since(&Project { keep_days, ..Project::default() }, at);
        assert_eq!(kept(0), None);
        assert_eq!(kept(1), Some(Timestamp(at.0 - 86_400_000_000)));
        assert_eq!(kept(u32::MAX), Some(Timestamp(0)));
    }
}
