//! The first line of a frame: which run, how far, how long still.

use std::time::Duration;

use model::Timestamp;
use model::units::show_duration;

use crate::ansi::{self, Paint, Style};
use crate::run::{RunView, StepState};

/// As much of it as `width` columns hold; the bar where there is room for one.
pub fn header(view: &RunView, now: Timestamp, width: usize, style: Style) -> String {
    let counts = view.counts();
    let title = ansi::strip(&format!("{} run {}", view.pipeline(), view.number()));
    let (title, done) = (style.paint(Paint::Bold, &title), format!("{} of {} done", counts.done(), counts.total));
    let elapsed = show_duration(view.elapsed(now));
    let failed = (counts.failed > 0).then(|| style.paint(Paint::Red, &format!("{} failed", counts.failed)));
    let cached = (counts.cached > 0).then(|| format!("{} cached", counts.cached));
    let short = format!("{} {}/{} {elapsed}", view.number(), counts.done(), counts.total);
    let middle = [Some(title.clone()), Some(done.clone()), failed.clone(), Some(elapsed.clone())];
    let long = [Some(title), Some(done), cached, failed, Some(elapsed), ending(view, now)];
    let [long, middle] = [&long[..], &middle[..]]
        .map(|parts| parts.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(style.dot()));
    let room = width.saturating_sub(ansi::width(&long) + 2);
    if room >= BAR_COLUMNS_MIN {
        return format!("{long}  {}", bar(progress(view, now), room.min(BAR_COLUMNS_MAX), style));
    }
    [long, middle].into_iter().find(|line| ansi::width(line) <= width).unwrap_or(short)
}

const BAR_COLUMNS_MIN: usize = 10;
const BAR_COLUMNS_MAX: usize = 24;

/// The end of the first line: how it ended, that it stops, or how long it will still take if that is known.
fn ending(view: &RunView, now: Timestamp) -> Option<String> {
    if let Some(outcome) = view.outcome() {
        return Some(outcome.word().to_owned());
    }
    if view.cancelled_by().is_some() {
        return Some("stopping".to_owned());
    }
    Some(format!("about {} left", show_duration(Duration::from_secs(time_left(view, now)?.as_secs().max(1)))))
}

fn bar(done: f64, columns: usize, style: Style) -> String {
    let full = ((done * columns as f64) as usize).min(columns);
    let (on, off) = (style.pick("█", "#"), style.pick("░", "."));
    style.paint(Paint::Green, &on.repeat(full)) + &style.dim(&off.repeat(columns - full))
}

/// Share of the run that is behind, 0 to 1, by what the instances took before. One that never ran counts as the
/// average of the others; a running one counts for at most nine tenths of itself, for it may take longer this time.
fn progress(view: &RunView, now: Timestamp) -> f64 {
    let steps = || view.steps().iter().filter(|step| !step.silent);
    let known: Vec<f64> = steps().filter_map(|step| step.estimate).map(|time| time.as_secs_f64()).collect();
    let average = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
    let (mut done, mut total) = (0.0, 0.0);
    for step in steps() {
        // Never nothing: a run of steps that took no time at all moves by their number.
        let weight = step.estimate.map_or(average, |time| time.as_secs_f64()).max(0.001);
        total += weight;
        done += match &step.state {
            StepState::Done { .. } => weight,
            StepState::Running { since, .. } if step.estimate.is_some() => {
                now.since(*since).as_secs_f64().min(weight * 0.9)
            }
            _ => 0.0,
        };
    }
    if total > 0.0 { done / total } else { 0.0 }
}

/// How long the rest will take, or nothing if one of its instances never ran before: a number that leaves out what
/// nobody knows would be a promise that is not kept.
fn time_left(view: &RunView, now: Timestamp) -> Option<Duration> {
    let plan = view.plan()?;
    let (mut longest, mut sum, mut running) = (Duration::ZERO, Duration::ZERO, 0u32);
    for (at, step) in view.steps().iter().enumerate().filter(|(_, step)| !step.silent) {
        let spent = match &step.state {
            StepState::Done { .. } => continue,
            StepState::Running { since, .. } => {
                running += 1;
                now.since(*since)
            }
            _ => Duration::ZERO,
        };
        let estimate = step.estimate?;
        let path = Duration::from_millis(plan.nodes.get(at)?.rank).max(estimate);
        longest = longest.max(path.saturating_sub(spent.min(estimate)));
        sum += estimate.saturating_sub(spent);
    }
    // Either the longest chain decides, or the hands at work do.
    Some(longest.max(sum / running.max(1))).filter(|left| !left.is_zero())
}
