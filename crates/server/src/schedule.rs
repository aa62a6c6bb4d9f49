//! Runs by the clock: cron entries of the default branch's pipelines, in their time zones.
//!
//! What is due after a downtime is made up for once when it is late by less than an hour, else skipped and said. A wall clock
//! that goes back or forth is the time zone's affair: `croner` knows the rules of summer time.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use croner::Cron;
use jiff::tz::TimeZone;
use model::{Event, EventKind, Git, Record, Selection, Timestamp, Trigger};
use serde::{Deserialize, Serialize};
use store::{Batch, Change, Expect};

use crate::Shared;
use crate::clock::now;
use crate::desk::{Refusal, RunWish};
use crate::intake::id;
use crate::records::Project;
use crate::sources::Repository;

/// What is later than this is skipped.
const LATE_MAX: Duration = Duration::from_secs(3600);
/// How often it is looked what is due: cron counts minutes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Schedules that are read at a time.
const PAGE: usize = 500;

/// The cron entries of a project's default branch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Schedules {
    /// The project.
    pub project: String,
    /// The branch.
    pub branch: String,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// One cron entry of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Entry {
    /// File of the pipeline.
    pub file: String,
    /// Five fields.
    pub cron: String,
    /// IANA name.
    pub timezone: String,
    /// Up to when it was dealt with: microseconds since 1970.
    pub done_us: u64,
}

impl Record for Schedules {
    const KIND: &'static str = "schedules";
    fn key(&self) -> String {
        self.project.clone()
    }
}

/// What an entry asks for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A run, for this moment.
    Run(Timestamp),
    /// Nothing any more: the moment is too long ago.
    Missed(Timestamp),
}

/// Takes in the schedules of a commit of the default branch. Other branches have none.
pub(crate) fn learn(
    shared: &Shared,
    project: &Project,
    repository: &Repository,
    branch: &str,
    commit: &str,
) -> Result<(), Refusal> {
    let known = shared.store.record::<Schedules>(&project.name)?;
    let is_default = match (project.default_branch.as_str(), &known) {
        ("", Some(known)) => known.value.branch == branch,
        _ => repository.default_branch(project)? == branch,
    };
    if !is_default {
        return Ok(());
    }
    let old: BTreeMap<_, _> = known
        .iter()
        .flat_map(|known| &known.value.entries)
        .map(|entry| ((entry.file.clone(), entry.cron.clone(), entry.timezone.clone()), entry.done_us))
        .collect();
    let mut new = Schedules { project: project.name.clone(), branch: branch.into(), entries: Vec::new() };
    for file in shared.sources.files(project, repository, commit)? {
        let Ok(found) = shared.sources.read(repository, commit, file.clone()) else { continue };
        for schedule in found.pipeline.iter().flat_map(|pipeline| &pipeline.on.schedule) {
            let key = (file.clone(), schedule.cron.clone(), schedule.timezone.clone());
            let done_us = old.get(&key).copied().unwrap_or(now().0);
            new.entries.push(Entry { file: key.0, cron: key.1, timezone: key.2, done_us });
        }
    }
    if known.is_some_and(|known| known.value == new) {
        return Ok(());
    }
    keep(shared, &new, "schedules.read")
}

fn keep(shared: &Shared, schedules: &Schedules, act: &str) -> Result<(), Refusal> {
    let change = Change::put(now(), "server", act, schedules, Expect::Any);
    shared.store.append(None, Batch { changes: vec![change], ..Batch::default() })?;
    Ok(())
}

/// Starts what is due, until the server ends.
pub(crate) fn run(shared: &Arc<Shared>) {
    while shared.stopping.wait(LOOK_EVERY) {
        if shared.desk.epoch().is_some()
            && let Err(refusal) = look(shared, now())
        {
            tracing::warn!("schedules wait: {refusal}");
        }
    }
}

fn look(shared: &Shared, at: Timestamp) -> Result<(), Refusal> {
    let mut after = String::new();
    loop {
        let page = shared.store.records::<Schedules>("", &after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.value.project);
        for kept in page {
            let mut schedules = kept.value;
            let mut changed = false;
            let (project, branch) = (schedules.project.clone(), schedules.branch.clone());
            for entry in &mut schedules.entries {
                let Some(due) = due(entry, at) else { continue };
                match due {
                    Due::Run(moment) => start(shared, &project, &branch, entry, moment)?,
                    Due::Missed(moment) => missed(shared, &project, entry, moment),
                }
                entry.done_us = at.0;
                changed = true;
            }
            if changed {
                keep(shared, &schedules, "schedules.done")?;
            }
        }
    }
}

/// What an entry asks for at a moment: of all that it missed since it was dealt with, the latest counts.
fn due(entry: &Entry, at: Timestamp) -> Option<Due> {
    let cron = Cron::from_str(&entry.cron).ok()?;
    let zone = TimeZone::get(&entry.timezone).ok()?;
    let zoned = |time: u64| {
        let time = jiff::Timestamp::from_microsecond(i64::try_from(time).ok()?).ok()?;
        Some(time.to_zoned(zone.clone()))
    };
    let moment = |zoned: jiff::Zoned| u64::try_from(zoned.timestamp().as_microsecond()).ok().map(Timestamp);
    let next = moment(cron.find_next_occurrence(&zoned(entry.done_us)?, false).ok()?)?;
    if next > at {
        return None;
    }
    let latest = moment(cron.find_previous_occurrence(&zoned(at.0)?, true).ok()?)?.max(next);
    Some(if at.since(latest) <= LATE_MAX { Due::Run(latest) } else { Due::Missed(latest) })
}

fn start(shared: &Shared, project: &str, branch: &str, entry: &Entry, moment: Timestamp) -> Result<(), Refusal> {
    let Entry { file, cron, timezone, .. } = entry;
    let run = id(&format!("schedule/{project}/{file}/{cron}/{timezone}/{}", moment.0));
    if shared.store.run(&run)?.is_some() {
        return Ok(());
    }
    let wish = RunWish {
        run,
        project: project.into(),
        pipeline: file.clone(),
        trigger: Trigger {
            event: Event { kind: EventKind::Schedule, ..Event::default() },
            git: Git { branch: branch.into(), ..Git::default() },
        },
        params: Vec::new(),
        selection: Selection::default(),
        by: "schedule".into(),
        priority: 0,
        fork: false,
    };
    let granted = shared.sources.order(&wish).and_then(|order| shared.desk.order_blocking(order));
    match granted {
        Ok(granted) => tracing::info!(project, "schedule `{cron}` of {file}: run {}", granted.number),
        Err(refusal @ (Refusal::NotLeader | Refusal::Unavailable(_))) => return Err(refusal),
        Err(refusal) => tracing::warn!(project, "schedule `{cron}` of {file}: no run: {refusal}"),
    }
    Ok(())
}

fn missed(shared: &Shared, project: &str, entry: &Entry, moment: Timestamp) {
    let at = i64::try_from(moment.0).ok().and_then(|time| jiff::Timestamp::from_microsecond(time).ok());
    let at = at.map(|at| at.to_string()).unwrap_or_default();
    let about = format!("{project}: schedule `{}` of {} at {at}, more than an hour ago", entry.cron, entry.file);
    tracing::warn!(project, "skipped: {about}");
    let note = Change::note(now(), "server", "schedule.missed", &about);
    // The log says it, too.
    let _ = shared.store.append(None, Batch { changes: vec![note], ..Batch::default() });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp(u64::try_from(time.as_microsecond()).unwrap())
    }

    fn entry(cron: &str, timezone: &str, done: &str) -> Entry {
        Entry { file: "paceline.yaml".into(), cron: cron.into(), timezone: timezone.into(), done_us: at(done).0 }
    }

    #[test]
    fn an_entry_is_due_in_its_own_time_zone() {
        let nightly = entry("0 2 * * *", "Europe/Berlin", "2026-01-10T00:00:00Z");
        assert_eq!(due(&nightly, at("2026-01-10T00:59:59Z")), None);
        assert_eq!(due(&nightly, at("2026-01-10T01:00:03Z")), Some(Due::Run(at("2026-01-10T01:00:00Z"))));
    }

    #[test]
    fn what_was_missed_runs_once_within_an_hour_and_never_after() {
        let often = entry("*/10 * * * *", "UTC", "2026-01-10T00:00:00Z");
        assert_eq!(due(&often, at("2026-01-12T05:05:00Z")), Some(Due::Run(at("2026-01-12T05:00:00Z"))));
        let nightly = entry("0 2 * * *", "UTC", "2026-01-10T00:00:00Z");
        assert_eq!(due(&nightly, at("2026-01-12T02:59:00Z")), Some(Due::Run(at("2026-01-12T02:00:00Z"))));
        assert_eq!(due(&nightly, at("2026-01-12T03:01:00Z")), Some(Due::Missed(at("2026-01-12T02:00:00Z"))));
    }

    #[test]
    fn the_hour_that_summer_time_takes_away_costs_no_run_and_the_one_that_it_doubles_makes_no_second() {
        let nightly = entry("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z");
        let spring = due(&nightly, at("2026-03-29T01:30:00Z"));
        assert!(matches!(spring, Some(Due::Run(_))), "{spring:?}");
        let nightly = entry("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z");
        let first = due(&nightly, at("2026-10-25T00:30:00Z"));
        assert_eq!(first, Some(Due::Run(at("2026-10-25T00:30:00Z"))));
        let again = Entry { done_us: at("2026-10-25T00:30:00Z").0, ..nightly };
        assert_eq!(due(&again, at("2026-10-25T01:45:00Z")), None);
    }
}
