//! The live tree: what a run looks like on a terminal at one moment.
//!
//! A frame is never wider and never taller than asked. Where there is no room, what is quiet folds first: matrix
//! instances under their step, then finished steps into a count, then waiting ones; what failed and what runs goes last.

use std::time::Duration;

use model::units::show_duration;
use model::{Fact, Group, NodeIx, Outcome, RunEvent, Timestamp};

use crate::ansi::{self, Paint, Style};
use crate::run::{Counts, RunView, StepState, StepView};
use crate::tree::{self, Place};

/// The lines of one moment: at most `height`, each at most `width` columns.
pub fn frame(view: &RunView, now: Timestamp, width: usize, height: usize, style: Style) -> Vec<String> {
    if height == 0 {
        return Vec::new();
    }
    let mut lines = vec![header(view, now, width, style)];
    let rows: Vec<Parts> = rows(view, height - 1).into_iter().map(|row| parts(view, row, now)).collect();
    let name_columns = rows.iter().map(|row| ansi::width(&row.name)).max().unwrap_or(0).min(width / 2);
    let time_columns = rows.iter().map(|row| row.time.len()).max().unwrap_or(0);
    lines.extend(rows.iter().map(|row| row.line(name_columns, time_columns, style)));
    lines.iter().map(|line| ansi::fit(line, width, style)).collect()
}

/// The line that stays above the tree when a step ended: `✓ build 3.2s`. `None` for all other facts, and for steps
/// that nobody asked for.
pub fn finished_line(view: &RunView, fact: &Fact, width: usize, style: Style) -> Option<String> {
    let RunEvent::StepEnded { node, outcome, .. } = &fact.event else { return None };
    let step = view.step(*node).filter(|step| !step.silent)?;
    if matches!(outcome, Outcome::Skipped(model::Skip::NotSelected)) {
        return None;
    }
    let row = step_parts(step, step.name.to_string(), fact.at);
    Some(ansi::fit(&row.line(0, 0, style), width, style))
}

// ---- the first line

fn header(view: &RunView, now: Timestamp, width: usize, style: Style) -> String {
    let counts = view.counts();
    let title = ansi::strip(&format!("{} run {}", view.pipeline(), view.number()));
    let mut parts = vec![style.paint(Paint::Bold, &title), format!("{} of {} done", counts.done(), counts.total)];
    parts.extend((counts.cached > 0).then(|| format!("{} cached", counts.cached)));
    parts.extend((counts.failed > 0).then(|| style.paint(Paint::Red, &format!("{} failed", counts.failed))));
    parts.push(show_duration(view.elapsed(now)));
    parts.extend(ending(view, now));
    let long = parts.join(style.dot());
    let room = width.saturating_sub(ansi::width(&long) + 2);
    if room >= BAR_COLUMNS_MIN {
        return format!("{long}  {}", bar(progress(view, now), room.min(BAR_COLUMNS_MAX), style));
    }
    if ansi::width(&long) <= width {
        return long;
    }
    format!("{} {}/{} {}", view.number(), counts.done(), counts.total, show_duration(view.elapsed(now)))
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

// ---- which rows

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    /// One instance; `true`: with its whole name.
    Node(NodeIx, usize, bool),
    /// A step with several instances; `true`: with its whole name.
    Step(Place, bool),
    /// Quiet instances by number.
    Folded(Quiet, usize),
    /// Rows that had no room.
    More(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quiet {
    Finished,
    Waiting,
}

/// How much of the tree is shown, most first.
const DETAILS: [Detail; 5] =
    [Detail::All, Detail::BusyMatrices, Detail::NoInstances, Detail::NoFinished, Detail::NoWaiting];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Detail {
    All,
    BusyMatrices,
    NoInstances,
    NoFinished,
    NoWaiting,
}

/// How loud a row is, loudest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Noise {
    Failed,
    Running,
    Waiting,
    Finished,
}

fn rows(view: &RunView, height: usize) -> Vec<Row> {
    let order = tree::order(view.groups());
    let mut rows = Vec::new();
    for detail in DETAILS {
        rows = rows_at(view, &order, detail);
        if rows.len() <= height {
            return rows;
        }
    }
    rows.sort_by_key(|row| row_noise(view, row));
    let kept = height.saturating_sub(1);
    let more = rows.len() - kept;
    rows.truncate(kept);
    rows.extend((height > 0).then_some(Row::More(more)));
    rows
}

fn rows_at(view: &RunView, order: &[Place], detail: Detail) -> Vec<Row> {
    let flat = detail >= Detail::NoFinished;
    let (mut rows, mut finished, mut waiting) = (Vec::new(), 0, 0);
    let mut push = |row: Row, instances: usize| match row_noise(view, &row) {
        Noise::Finished if flat => finished += instances,
        Noise::Waiting if detail >= Detail::NoWaiting => waiting += instances,
        _ => rows.push(row),
    };
    for place in order {
        let group = &view.groups()[place.group.at()];
        let silent = view.step(group.first).is_some_and(|step| step.silent);
        match group.count {
            _ if silent && flat => {}
            1 => push(Row::Node(group.first, place.depth, flat), 1),
            count => {
                push(Row::Step(*place, flat), count as usize);
                if shows_instances(view, group, detail) {
                    instances(group).for_each(|node| push(Row::Node(node, place.depth + 1, flat), 1));
                }
            }
        }
    }
    let homeless = view.steps().iter().enumerate().filter(|(_, step)| step.group.is_none());
    homeless.for_each(|(at, _)| push(Row::Node(NodeIx(at as u32), 0, true), 1));
    rows.extend((finished > 0).then_some(Row::Folded(Quiet::Finished, finished)));
    rows.extend((waiting > 0).then_some(Row::Folded(Quiet::Waiting, waiting)));
    rows
}

fn shows_instances(view: &RunView, group: &Group, detail: Detail) -> bool {
    match detail {
        Detail::All => true,
        Detail::BusyMatrices => group_noise(view, group) <= Noise::Running,
        _ => false,
    }
}

fn instances(group: &Group) -> impl Iterator<Item = NodeIx> + use<> {
    (group.first.0..group.first.0.saturating_add(group.count)).map(NodeIx)
}

fn row_noise(view: &RunView, row: &Row) -> Noise {
    match row {
        Row::Node(node, ..) => view.step(*node).map_or(Noise::Waiting, |step| noise(&step.state)),
        Row::Step(place, _) => group_noise(view, &view.groups()[place.group.at()]),
        Row::Folded(..) | Row::More(_) => Noise::Finished,
    }
}

fn noise(state: &StepState) -> Noise {
    match state {
        StepState::Running { .. } => Noise::Running,
        StepState::Waiting | StepState::Ready { .. } | StepState::Retrying { .. } => Noise::Waiting,
        StepState::Done { outcome: Outcome::Failed { allowed: false, .. }, .. } => Noise::Failed,
        StepState::Done { .. } => Noise::Finished,
    }
}

fn group_noise(view: &RunView, group: &Group) -> Noise {
    let counts = group_counts(view, group);
    match counts {
        Counts { failed: 1.., .. } => Noise::Failed,
        Counts { running: 1.., .. } => Noise::Running,
        Counts { waiting: 1.., .. } => Noise::Waiting,
        _ => Noise::Finished,
    }
}

fn group_counts(view: &RunView, group: &Group) -> Counts {
    let mut counts = Counts::default();
    instances(group).filter_map(|node| view.step(node)).for_each(|step| counts.add(&step.state));
    counts
}

// ---- one row

/// What stands in a row, not yet laid out.
struct Parts {
    symbol: Symbol,
    name: String,
    time: String,
    detail: String,
    dim: bool,
}

impl Parts {
    fn line(&self, name_columns: usize, time_columns: usize, style: Style) -> String {
        let name = ansi::pad(&self.name, name_columns);
        let detail = if self.dim { style.dim(&self.detail) } else { self.detail.clone() };
        let (indent, word) = name.split_at(name.len() - name.trim_start().len());
        let line = format!("{indent}{} {word} {:>time_columns$}  {detail}", self.symbol.show(style), self.time);
        line.trim_end().to_owned()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Symbol {
    Good,
    Bad,
    Allowed,
    Busy,
    Waits,
    Passed,
}

impl Symbol {
    pub(crate) fn show(self, style: Style) -> String {
        match self {
            Symbol::Good => style.paint(Paint::Green, style.pick("✓", "+")),
            Symbol::Bad => style.paint(Paint::Red, style.pick("✗", "x")),
            Symbol::Allowed => style.paint(Paint::Yellow, style.pick("✗", "x")),
            Symbol::Busy => style.paint(Paint::Blue, style.pick("●", "*")),
            Symbol::Waits => style.dim(style.pick("○", "-")),
            Symbol::Passed => style.dim(style.pick("⤼", "/")),
        }
    }
}

fn parts(view: &RunView, row: Row, now: Timestamp) -> Parts {
    match row {
        Row::Node(node, depth, whole) => node_parts(view, node, depth, whole, now),
        Row::Step(place, whole) => group_parts(view, place, whole),
        Row::Folded(Quiet::Finished, n) => quiet(Symbol::Good, format!("{n} finished")),
        Row::Folded(Quiet::Waiting, n) => quiet(Symbol::Waits, format!("{n} waiting")),
        Row::More(n) => quiet(Symbol::Waits, format!("{n} more")),
    }
}

fn quiet(symbol: Symbol, name: String) -> Parts {
    Parts { symbol, name, time: String::new(), detail: String::new(), dim: true }
}

fn node_parts(view: &RunView, node: NodeIx, depth: usize, whole: bool, now: Timestamp) -> Parts {
    let Some(step) = view.step(node) else {
        return quiet(Symbol::Waits, indented(&view.name(node), depth));
    };
    let group = step.group.and_then(|group| view.groups().get(group.at()));
    let name = match group {
        Some(group) if !whole => below_parent(group, &step.name, depth),
        _ => &step.name,
    };
    step_parts(step, indented(name, if whole { 0 } else { depth }), now)
}

/// Instances stand below their step, so only what tells them apart is shown: `[go=1.22]`.
fn below_parent<'a>(group: &Group, name: &'a str, depth: usize) -> &'a str {
    match name.strip_prefix(group.step.id.as_str()) {
        Some(cell) if group.count > 1 && !cell.is_empty() => cell,
        _ if depth > 0 => tree::short_name(group, name),
        _ => name,
    }
}

fn indented(name: &str, depth: usize) -> String {
    format!("{:1$}{2}", "", depth * 2, ansi::strip(name))
}

fn step_parts(step: &StepView, name: String, now: Timestamp) -> Parts {
    let (symbol, time, words) = match &step.state {
        StepState::Waiting | StepState::Ready { .. } => (Symbol::Waits, None, step.reason.clone().unwrap_or_default()),
        StepState::Running { since, .. } => (Symbol::Busy, Some(now.since(*since)), step.last_line.clone()),
        StepState::Retrying { not_before, cause } => (Symbol::Waits, None, retry_words(step, *not_before, cause, now)),
        StepState::Done { outcome, .. } => ended(step, outcome),
    };
    let attempt = step.attempt_words().filter(|_| !matches!(step.state, StepState::Retrying { .. }));
    let detail: Vec<String> = attempt.into_iter().chain(Some(words).filter(|words| !words.is_empty())).collect();
    Parts {
        symbol,
        name,
        time: time.map(show_duration).unwrap_or_default(),
        detail: ansi::strip(detail.join(": ").lines().next().unwrap_or_default()),
        dim: symbol != Symbol::Bad,
    }
}

fn retry_words(step: &StepView, not_before: Timestamp, cause: &model::Cause, now: Timestamp) -> String {
    let next = step.attempts.saturating_add(1);
    let wait = show_duration(not_before.since(now));
    format!("attempt {next} of {} in {wait}: {cause}", step.attempts_max.max(next))
}

fn ended(step: &StepView, outcome: &Outcome) -> (Symbol, Option<Duration>, String) {
    match outcome {
        Outcome::Succeeded { cached: false } => (Symbol::Good, step.took(), String::new()),
        Outcome::Succeeded { cached: true } => (Symbol::Good, None, cached_words(step)),
        Outcome::Failed { cause, allowed: false } => (Symbol::Bad, step.took(), cause.to_string()),
        Outcome::Failed { cause, allowed: true } => (Symbol::Allowed, step.took(), format!("allowed to fail: {cause}")),
        Outcome::Skipped(skip) => (Symbol::Passed, None, format!("skipped: {skip}")),
        Outcome::Cancelled => (Symbol::Passed, step.took(), "cancelled".to_owned()),
    }
}

/// `cached (took 3.2s in run #12)`.
pub(crate) fn cached_words(step: &StepView) -> String {
    match step.cached() {
        Some(from) => format!("cached (took {} in run {})", show_duration(from.took), from.number),
        None => "cached".to_owned(),
    }
}

fn group_parts(view: &RunView, place: Place, whole: bool) -> Parts {
    let group = &view.groups()[place.group.at()];
    let counts = group_counts(view, group);
    let symbol = match group_noise(view, group) {
        Noise::Failed => Symbol::Bad,
        Noise::Running => Symbol::Busy,
        Noise::Waiting => Symbol::Waits,
        Noise::Finished if counts.succeeded == 0 => Symbol::Passed,
        Noise::Finished => Symbol::Good,
    };
    let mut words = vec![format!("{} of {} done", counts.done(), counts.total)];
    words.extend((counts.failed > 0).then(|| format!("{} failed", counts.failed)));
    words.extend((counts.running > 0).then(|| format!("{} running", counts.running)));
    words.extend((counts.cached > 0).then(|| format!("{} cached", counts.cached)));
    let id = group.step.id.as_str();
    let name = if whole { id } else { tree::short_name(group, id) };
    let depth = if whole { 0 } else { place.depth };
    Parts { symbol, name: indented(name, depth), time: String::new(), detail: words.join(", "), dim: true }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use model::{Cause, RunOutcome, Skip};

    use super::*;
    use crate::scene::{Scene, exit};

    /// Nine instances in every state.
    fn busy() -> Scene {
        let mut scene = Scene::new("deps build:deps lint:deps test[3]:build deploy:build deploy.push:build ship:test");
        scene.inside("deploy.push", "deploy").retries("build", 3);
        scene.request().leases("deps").hits("deps", 34.0).leases("build").leases("lint");
        scene.at(1.0).fails("lint", exit(2), &[]).at(2.0).fails_for_now("build", exit(75), 1.0);
        scene.at(3.0).leases("build").at(5.0).succeeds("build");
        scene.leases("test[1/3]").leases("test[2/3]").at(17.2).succeeds("test[1/3]");
        scene.prints("test[2/3]", "\x1b[32mok\x1b[0m  github.com/x/y/z/with/a/long/path  0.4s\x1b[2J");
        scene.waits(&[("test[3/3]", "waits for a free slot"), ("ship", "waits for `test`")]);
        scene
    }

    #[test]
    fn the_whole_tree_where_there_is_room() {
        assert_snapshot!(busy().frame(80, 24), @"
        ci-build run #12 · 4 of 8 done · 1 cached · 1 failed · 17s  ██████████░░░░░░░░░░
        ✓ deps          cached (took 34s in run #11)
        ✓ build   5.0s  attempt 2 of 3
        ✗ lint    1.0s  exit code 2
        ● test          1 of 3 done, 1 running
          ✓ [1/3]  12s
          ● [2/3]  12s  ok  github.com/x/y/z/with/a/long/path  0.4s
          ○ [3/3]       waits for a free slot
        ○ deploy
          ○ push
        ○ ship          waits for `test`
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_lines_and_never_wraps() {
        assert_snapshot!(busy().frame(40, 24), @"
        #12 4/8 17s
        ✓ deps          cached (took 34s in run…
        ✓ build   5.0s  attempt 2 of 3
        ✗ lint    1.0s  exit code 2
        ● test          1 of 3 done, 1 running
          ✓ [1/3]  12s
          ● [2/3]  12s  ok  github.com/x/y/z/wi…
          ○ [3/3]       waits for a free slot
        ○ deploy
          ○ push
        ○ ship          waits for `test`
        ");
    }

    #[test]
    fn a_low_terminal_folds_what_is_quiet() {
        assert_snapshot!(busy().frame(80, 8), @"
        ci-build run #12 · 4 of 8 done · 1 cached · 1 failed · 17s  ██████████░░░░░░░░░░
        ✓ deps         cached (took 34s in run #11)
        ✓ build  5.0s  attempt 2 of 3
        ✗ lint   1.0s  exit code 2
        ● test         1 of 3 done, 1 running
        ○ deploy
          ○ push
        ○ ship         waits for `test`
        ");
        assert_snapshot!(busy().frame(80, 6), @"
        ci-build run #12 · 4 of 8 done · 1 cached · 1 failed · 17s  ██████████░░░░░░░░░░
        ✗ lint        1.0s  exit code 2
        ● test              1 of 3 done, 1 running
        ○ deploy.push
        ○ ship              waits for `test`
        ✓ 2 finished
        ");
    }

    #[test]
    fn the_smallest_terminal_shows_what_failed_and_what_runs() {
        assert_snapshot!(busy().frame(20, 5), @"
        #12 4/8 17s
        ✗ lint       1.0s  …
        ● test             …
        ✓ 2 finished
        ○ 2 waiting
        ");
    }

    #[test]
    fn ascii_terminals_get_ascii() {
        let scene = busy();
        let lines = frame(scene.view(), scene.now(), 80, 24, Style::PLAIN);
        assert!(lines.iter().all(|line| line.is_ascii()), "{lines:#?}");
        assert_snapshot!(lines[1..5].join("\n"), @"
        + deps          cached (took 34s in run #11)
        + build   5.0s  attempt 2 of 3
        x lint    1.0s  exit code 2
        * test          1 of 3 done, 1 running
        ");
    }

    #[test]
    fn the_estimate_is_shown_when_every_step_ran_before() {
        let mut scene = Scene::new("a b");
        scene.took_before("a", 40.0).took_before("b", 20.0).request().leases("a").leases("b").at(10.0);
        assert_snapshot!(scene.frame(80, 1), @"ci-build run #12 · 0 of 2 done · 10s · about 30s left  ████████░░░░░░░░░░░░░░░░");
        scene.at(20.0).succeeds("b").at(50.0);
        assert_snapshot!(scene.frame(80, 1), @"ci-build run #12 · 1 of 2 done · 50s  ██████████████████████░░");
    }

    #[test]
    fn no_estimate_is_made_up_for_steps_that_never_ran() {
        let mut scene = Scene::new("a b");
        scene.took_before("a", 40.0).request().leases("a").at(10.0);
        assert!(!scene.frame(80, 9).contains("left"), "{}", scene.frame(80, 9));
    }

    #[test]
    fn finished_steps_leave_a_line_behind() {
        let mut scene = busy();
        let style = Style { color: false, unicode: true };
        let facts = scene.facts();
        let lines: Vec<String> = facts.iter().filter_map(|fact| finished_line(scene.view(), fact, 80, style)).collect();
        assert_snapshot!(lines.join("\n"), @"
        ✓ deps   cached (took 34s in run #11)
        ✗ lint 1.0s  exit code 2
        ✓ build 5.0s  attempt 2 of 3
        ✓ test[1/3] 12s
        ");
    }

    #[test]
    fn reasons_are_those_that_hold_now() {
        let mut scene = busy();
        scene.waits(&[("ship", "waits for a person")]);
        let text = scene.frame(80, 24);
        assert!(text.contains("waits for a person") && !text.contains("waits for a free slot"), "{text}");
    }

    #[test]
    fn frames_fit_every_terminal_whatever_steps_print() {
        let mut scene = busy();
        scene.prints("test[2/3]", &format!("\x1b]0;x\x07\x1b[1;1H\r\u{202e}日本{}", "\u{301}x".repeat(1 << 20)));
        scene.tell(RunEvent::StepEnded {
            node: NodeIx(8),
            outcome: Outcome::Skipped(Skip::RunFailed("a\x1b[2J\n\nb".into())),
            values: Default::default(),
        });
        let style = Style { color: true, unicode: true };
        for (width, height) in (0..90).flat_map(|width| (0..14).map(move |height| (width, height))) {
            let lines = frame(scene.view(), scene.now(), width, height, style);
            assert!(lines.len() <= height, "{width}x{height}: {} lines", lines.len());
            for line in lines {
                assert!(ansi::width(&line) <= width, "{width}x{height}: {line:?}");
                assert!(!line.contains("\x1b[1;1H") && !line.contains(['\n', '\r', '\x07', '\u{202e}']), "{line:?}");
            }
        }
    }

    #[test]
    fn ten_thousand_steps_fit_a_frame() {
        let mut scene = Scene::new("first wide[1000] last[8999]");
        scene.request().leases("first").succeeds("first");
        for n in 1..=100 {
            scene.leases(&format!("wide[{n}/1000]"));
        }
        scene.fails("wide[7/1000]", Cause::Exit(1), &[]);
        let lines = frame(scene.view(), scene.now(), 80, 24, Style::PLAIN);
        assert_eq!(lines.len(), 4);
        assert_snapshot!(lines.join("\n"), @"
        ci-build run #12, 2 of 10000 done, 1 failed, 0ms  ........................
        + first 0ms
        x wide       1 of 1000 done, 1 failed, 99 running
        - last       0 of 8999 done
        ");
        let steps: Vec<String> = (0..10_000).map(|n| format!("s{n}")).collect();
        let mut scene = Scene::new(&steps.join(" "));
        scene.request();
        steps[..50].iter().for_each(|step| {
            scene.leases(step);
        });
        scene.fails("s49", Cause::Exit(1), &[]);
        assert_snapshot!(scene.frame(60, 5), @"
        ci-build run #12 · 1 of 10000 done · 1 failed · 0ms
        ✗ s49     0ms  exit code 1
        ● s0      0ms
        ● s1      0ms
        ○ 48 more
        ");
    }

    #[test]
    fn memory_stays_flat_whatever_a_step_prints() {
        let mut scene = Scene::new("a");
        scene.request().leases("a");
        let mut view = scene.view().clone();
        let text = "error: ".to_owned() + &"x".repeat(1 << 20);
        for _ in 0..200 {
            view.log(&crate::LogLine {
                at: scene.now(),
                node: NodeIx(0),
                attempt: model::AttemptNo(1),
                text: text.clone(),
            });
        }
        let step = &view.steps()[0];
        let kept: usize = step.tail().iter().map(|line| line.len()).sum();
        assert!(step.tail().len() == model::TAIL_LINES_MAX && kept <= 40 * 4096 && step.last_line.len() <= 512);
        assert!(step.error_lines().len() <= crate::run::ERROR_LINES_MAX);
    }

    #[test]
    fn a_cancelled_run_says_that_it_stops_and_an_ended_one_how() {
        let mut scene = busy();
        assert!(scene.cancels("Ctrl-C").frame(80, 1).contains("stopping"));
        assert!(scene.ends(RunOutcome::Cancelled).frame(80, 1).contains("17s · cancelled"));
    }
}
