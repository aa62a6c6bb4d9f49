//! Whether a pipeline runs for an event.

use alloc::string::{String, ToString};

use model::{EventKind, GlobList, PushFilter, Trigger, Triggers};

/// Whether `on` lets this event start a run.
///
/// # Errors
/// Why not, a short sentence.
pub fn fires(on: &Triggers, trigger: &Trigger) -> Result<(), String> {
    let missing = |word: &str| alloc::format!("`on` does not name `{word}`");
    match trigger.event.kind {
        EventKind::Push => push(on.push.as_ref().ok_or_else(|| missing("push"))?, trigger),
        EventKind::PullRequest => {
            pull_request(on.pull_request.as_ref().ok_or_else(|| missing("pull_request"))?, trigger)
        }
        EventKind::Schedule if on.schedule.is_empty() => Err(missing("schedule")),
        EventKind::Manual if !on.manual && *on != Triggers::default() => Err(missing("manual")),
        EventKind::Schedule | EventKind::Manual => Ok(()),
    }
}

fn push(filter: &PushFilter, trigger: &Trigger) -> Result<(), String> {
    let git = &trigger.git;
    match git.tag.is_empty() {
        false => named("tag", &git.tag, filter.tags.as_ref(), filter.branches.is_some())?,
        true => named("branch", &git.branch, filter.branches.as_ref(), filter.tags.is_some())?,
    }
    paths(filter, trigger)
}

/// `other`: the list of the other kind is written. Who lists only tags wants no branches, and the other way round.
fn named(kind: &str, name: &str, list: Option<&GlobList>, other: bool) -> Result<(), String> {
    match list {
        Some(list) if list.matches(name) => Ok(()),
        Some(list) => {
            let texts = list.texts().collect::<alloc::vec::Vec<_>>().join(", ");
            Err(alloc::format!("{kind} `{name}` matches none of `{texts}`"))
        }
        None if other => Err(alloc::format!("`on.push` lists no {kind} that would match `{name}`")),
        None => Ok(()),
    }
}

fn pull_request(filter: &PushFilter, trigger: &Trigger) -> Result<(), String> {
    named("target branch", &trigger.git.target, filter.branches.as_ref(), false)?;
    paths(filter, trigger)
}

/// What changed is not always known (a new branch, a force push); then nothing is held back.
fn paths(filter: &PushFilter, trigger: &Trigger) -> Result<(), String> {
    let (Some(paths), Some(changed)) = (&filter.paths, &trigger.event.changed) else { return Ok(()) };
    match changed.iter().any(|path| paths.matches(path)) {
        true => Ok(()),
        false => Err("no changed file matches `paths`".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use model::{Event, Git, Glob};

    fn globs(texts: &[&str]) -> Option<GlobList> {
        Some(GlobList(texts.iter().map(|text| Glob::parse(text).expect("a good pattern")).collect()))
    }

    fn on_push(branches: Option<GlobList>, tags: Option<GlobList>, paths: Option<GlobList>) -> Triggers {
        Triggers { push: Some(PushFilter { branches, tags, paths }), ..Triggers::default() }
    }

    fn pushed(branch: &str, tag: &str, changed: Option<&[&str]>) -> Trigger {
        let changed = changed.map(|paths| paths.iter().map(ToString::to_string).collect::<Vec<_>>());
        Trigger {
            event: Event { kind: EventKind::Push, changed, ..Event::default() },
            git: Git { branch: branch.into(), tag: tag.into(), ..Git::default() },
        }
    }

    #[test]
    fn a_push_without_filters_always_fires() {
        let on = on_push(None, None, None);
        assert_eq!(fires(&on, &pushed("x", "", None)), Ok(()));
        assert_eq!(fires(&on, &pushed("", "v1", None)), Ok(()));
    }

    #[test]
    fn branches_and_tags_are_held_against_their_own_lists() {
        let both = on_push(globs(&["main", "release/**"]), globs(&["v*"]), None);
        assert_eq!(fires(&both, &pushed("release/1/x", "", None)), Ok(()));
        assert_eq!(fires(&both, &pushed("", "v1", None)), Ok(()));
        assert_eq!(
            fires(&both, &pushed("dev", "", None)),
            Err("branch `dev` matches none of `main, release/**`".into())
        );
        let branches = on_push(globs(&["main"]), None, None);
        assert_eq!(
            fires(&branches, &pushed("", "v1", None)),
            Err("`on.push` lists no tag that would match `v1`".into())
        );
        assert!(fires(&on_push(None, globs(&["v*"]), None), &pushed("main", "", None)).is_err());
    }

    #[test]
    fn paths_hold_back_only_when_it_is_known_what_changed() {
        let on = on_push(None, None, globs(&["svc/**"]));
        assert_eq!(fires(&on, &pushed("x", "", Some(&["README.md", "svc/a.go"]))), Ok(()));
        assert_eq!(fires(&on, &pushed("x", "", Some(&["README.md"]))), Err("no changed file matches `paths`".into()));
        assert_eq!(fires(&on, &pushed("x", "", None)), Ok(()));
    }

    #[test]
    fn a_pull_request_is_held_against_the_branch_it_goes_to() {
        let filter = PushFilter { branches: globs(&["main"]), ..PushFilter::default() };
        let on = Triggers { pull_request: Some(filter), ..Triggers::default() };
        let mut trigger = pushed("feature", "", None);
        trigger.event.kind = EventKind::PullRequest;
        trigger.git.target = "main".into();
        assert_eq!(fires(&on, &trigger), Ok(()));
        trigger.git.target = "old".into();
        assert!(fires(&on, &trigger).is_err());
    }

    #[test]
    fn a_pipeline_without_on_is_started_by_hand_only() {
        let nothing = Triggers::default();
        assert_eq!(fires(&nothing, &Trigger::default()), Ok(()));
        assert_eq!(fires(&nothing, &pushed("main", "", None)), Err("`on` does not name `push`".into()));
        assert!(fires(&on_push(None, None, None), &Trigger::default()).is_err(), "`manual` is not written");
        let mut clock = Trigger::default();
        clock.event.kind = EventKind::Schedule;
        assert_eq!(fires(&nothing, &clock), Err("`on` does not name `schedule`".into()));
    }
}
