//! What stands on the screen when a run is over: failures first, then the numbers.

use std::time::Duration;

use model::units::show_duration;
use model::{Cause, NodeIx, Outcome, RunOutcome};

use crate::ansi::{self, Paint, Style};
use crate::errors::looks_like_error;
use crate::live::Symbol;
use crate::run::{RunView, StepView, failures, skips};

/// Failed steps that are shown with their output; the others are named.
const FAILURES_SHOWN_MAX: usize = 10;
/// Lines of output shown of one failed step.
const LINES_SHOWN_MAX: usize = 20;
/// Bytes shown of one such line: some screens full, and no megabyte of minified script.
const LINE_BYTES_SHOWN_MAX: usize = 2000;
/// Lines before the first error-looking one that are shown with it.
const LINES_BEFORE: usize = 2;
/// Slowest steps that are named.
const SLOWEST_SHOWN: usize = 5;
/// Reasons for skipping, notes and artifacts that are listed, each.
const LISTED_MAX: usize = 20;

/// The summary, lines ended by `\n`. Lists of names are cut to `width` columns; output of steps is not.
pub fn render(view: &RunView, style: Style, width: usize) -> String {
    let mut page = Page { text: String::new(), style, width };
    failed_steps(view, &mut page);
    outcomes(view, &mut page);
    times(view, &mut page);
    notes(view, &mut page);
    artifacts(view, &mut page);
    last_line(view, &mut page);
    page.text
}

struct Page {
    text: String,
    style: Style,
    width: usize,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
    fn fitted(&mut self, line: &str) {
        self.line(&ansi::fit(line, self.width, self.style));
    }
    fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }
}

fn failed_steps(view: &RunView, page: &mut Page) {
    let failures = failures(view);
    for (step, cause) in failures.iter().take(FAILURES_SHOWN_MAX) {
        page.gap();
        failed_step(view, step, cause, page);
    }
    let more: Vec<&str> = failures.iter().skip(FAILURES_SHOWN_MAX).map(|(step, _)| &*step.name).collect();
    if !more.is_empty() {
        page.gap();
        page.fitted(&ansi::strip(&format!("{} more failed: {}", more.len(), more.join(", "))));
    }
    if !failures.is_empty() {
        page.gap();
        page.line("rerun: pace run --rerun-failed");
    }
}

fn failed_step(view: &RunView, step: &StepView, cause: &Cause, page: &mut Page) {
    let cause = ansi::strip_lines(&cause.to_string());
    let mut cause = cause.lines();
    let attempts = if step.attempts > 1 { format!(", {} attempts", step.attempts) } else { String::new() };
    let took = step.took().map(|took| format!(" ({}{attempts})", show_duration(took))).unwrap_or_default();
    let name = page.style.paint(Paint::Bold, &ansi::strip(&step.name));
    page.line(&format!("{} {name} failed: {}{took}", Symbol::Bad.show(page.style), cause.next().unwrap_or_default()));
    cause.for_each(|line| page.line(&format!("  {line}")));
    for line in failing_lines(step) {
        page.line(&shown(&line, page.style));
    }
    if step.started_at.is_some() {
        page.line(&format!("shell: pace shell {} {}", view.number().0, quoted(&step.name)));
    }
}

enum Line<'a> {
    Left(usize),
    Output(&'a str),
}

/// The end of the log from the first line that looks like an error on; before it, errors that the log's end does not
/// hold any more.
fn failing_lines(step: &StepView) -> Vec<Line<'_>> {
    let tail = step.tail();
    let bare: Vec<String> = tail.iter().map(|line| ansi::strip(ansi::head(line, LINE_BYTES_SHOWN_MAX))).collect();
    let first_error = bare.iter().position(|line| looks_like_error(line));
    let last_lines = tail.len().saturating_sub(LINES_SHOWN_MAX);
    let from = first_error.map_or(last_lines, |at| at.saturating_sub(LINES_BEFORE).min(tail.len()));
    let early: Vec<&String> = step.error_lines().iter().filter(|line| !has(&bare, line)).collect();

    let mut lines: Vec<Line<'_>> = early.iter().map(|line| Line::Output(line)).collect();
    lines.extend((!early.is_empty()).then_some(Line::Left(0)));
    let room = LINES_SHOWN_MAX.saturating_sub(lines.len());
    let rest = &tail[from..];
    if rest.len() <= room {
        lines.extend(rest.iter().map(|line| Line::Output(line)));
    } else {
        // The first errors and the very end: what broke, and what the tool said last.
        let (head, end) = (room / 2, room - room / 2 - 1);
        lines.extend(rest[..head].iter().map(|line| Line::Output(line)));
        lines.push(Line::Left(rest.len() - head - end));
        lines.extend(rest[rest.len() - end..].iter().map(|line| Line::Output(line)));
    }
    lines
}

fn has(bare: &[String], line: &str) -> bool {
    bare.iter().any(|known| known.starts_with(line))
}

fn shown(line: &Line<'_>, style: Style) -> String {
    match line {
        Line::Output(text) => {
            let text = ansi::clean(ansi::head(text, LINE_BYTES_SHOWN_MAX), style);
            let plain = ansi::strip(&text);
            let bare = text == plain && looks_like_error(&plain);
            let text = if bare { style.paint(Paint::Red, &text) } else { text };
            format!("  {} {text}", style.dim(style.pick("│", "|"))).trim_end().to_owned()
        }
        Line::Left(0) => format!("  {}", style.dim(style.pick("┆", ":"))),
        Line::Left(n) => format!("  {}", style.dim(&format!("{} {n} lines left out", style.pick("┆", ":")))),
    }
}

/// As a shell reads it: instance names hold brackets.
fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/=,".contains(c));
    if plain { name.to_owned() } else { format!("'{}'", ansi::strip(name).replace('\'', r"'\''")) }
}

fn outcomes(view: &RunView, page: &mut Page) {
    let counts = view.counts();
    let named = |wanted: fn(&Outcome) -> bool| {
        let steps = view.steps().iter().filter(|step| !step.silent && step.outcome().is_some_and(wanted));
        ansi::strip(&steps.map(|step| &*step.name).collect::<Vec<_>>().join(", "))
    };
    page.gap();
    if counts.failed > 0 {
        let failed = named(|outcome| matches!(outcome, Outcome::Failed { allowed: false, .. }));
        let number = page.style.paint(Paint::Red, &format!("{} failed", counts.failed));
        page.fitted(&format!("{number}: {failed}"));
    }
    if counts.allowed > 0 {
        let allowed = named(|outcome| matches!(outcome, Outcome::Failed { allowed: true, .. }));
        page.fitted(&format!("{} failed, which is allowed: {allowed}", counts.allowed));
    }
    if counts.cancelled > 0 {
        let cancelled = named(|outcome| matches!(outcome, Outcome::Cancelled));
        page.fitted(&format!("{} cancelled: {cancelled}", counts.cancelled));
    }
    if counts.succeeded > 0 {
        let cached = if counts.cached > 0 { format!(", {} from the cache", counts.cached) } else { String::new() };
        page.fitted(&format!("{} succeeded{cached}", counts.succeeded));
    }
    for (why, names) in skips(view).into_iter().take(LISTED_MAX) {
        page.fitted(&ansi::strip(&format!("{} skipped, {why}: {}", names.len(), names.join(", "))));
    }
}

fn times(view: &RunView, page: &mut Page) {
    let step = |node: NodeIx| view.step(node).map(|step| named_time(&step.name, step.took().unwrap_or_default()));
    let mut slow: Vec<&StepView> =
        view.steps().iter().filter(|step| step.took().is_some() && step.cached().is_none()).collect();
    slow.sort_by_key(|step| std::cmp::Reverse(step.took()));
    if slow.len() > 1 {
        let slow = slow.iter().take(SLOWEST_SHOWN).map(|step| named_time(&step.name, step.took().unwrap_or_default()));
        let line = format!("slowest: {}", slow.collect::<Vec<_>>().join(", "));
        page.fitted(&line);
    }
    let path = view.critical_path();
    if path.len() > 1 {
        let names: Vec<String> = path.iter().filter_map(|node| step(*node)).collect();
        page.fitted(&format!("critical path: {}", names.join(page.style.pick(" → ", " -> "))));
    }
    let saved = view.saved_by_cache();
    if saved >= Duration::from_millis(1) {
        page.line(&format!("saved by the cache: {}", show_duration(saved)));
    }
}

fn named_time(name: &str, took: Duration) -> String {
    format!("{} {}", ansi::strip(name), show_duration(took))
}

fn notes(view: &RunView, page: &mut Page) {
    let notes = view.steps().iter().flat_map(|step| {
        let notes = step.result.iter().flat_map(|result| &result.notes);
        notes.map(move |note| format!("note: {}: {note}", step.name))
    });
    listed(page, &notes.collect::<Vec<_>>(), "notes");
}

fn artifacts(view: &RunView, page: &mut Page) {
    let artifacts = view.steps().iter().flat_map(|step| step.result.iter().flat_map(|result| &result.artifacts));
    let lines = artifacts.map(|artifact| {
        let version = artifact.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let bytes = artifact.files.iter().fold(0u64, |sum, (_, digest, _)| sum.saturating_add(digest.size));
        format!("artifact: {}{version} ({}, {})", artifact.name, artifact.path, model::Bytes(bytes))
    });
    listed(page, &lines.collect::<Vec<_>>(), "artifacts");
}

fn listed(page: &mut Page, lines: &[String], what: &str) {
    lines.iter().take(LISTED_MAX).for_each(|line| page.line(&ansi::strip_lines(line)));
    if lines.len() > LISTED_MAX {
        page.line(&format!("and {} more {what}", lines.len() - LISTED_MAX));
    }
}

fn last_line(view: &RunView, page: &mut Page) {
    let Some(outcome) = view.outcome() else { return };
    let (paint, word) = match outcome {
        RunOutcome::Succeeded => (Paint::Green, "succeeded"),
        RunOutcome::Failed => (Paint::Red, "failed"),
        RunOutcome::Infrastructure => (Paint::Red, "failed for reasons outside its steps"),
        RunOutcome::Refused => (Paint::Red, "was refused"),
        RunOutcome::Cancelled => (Paint::Yellow, "was cancelled"),
    };
    let title = ansi::strip(&format!("{} run {}", view.pipeline(), view.number()));
    let took = show_duration(view.took().unwrap_or_default());
    page.line(&format!("{title} {} after {took}", page.style.paint(paint, word)));
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::scene::{Scene, exit};

    #[test]
    fn failures_come_first_then_the_numbers() {
        let mut scene = Scene::new("deps build:deps lint:deps test:build ship:test");
        scene.allows("lint").request().leases("deps").hits("deps", 34.0);
        scene.at(0.1).leases("build").leases("lint").at(2.0).fails("lint", exit(2), &["x"]).at(3.3).succeeds("build");
        scene.at(3.4).leases("test").at(15.0);
        scene.fails(
            "test",
            exit(101),
            &["running 3 tests", "test a ... ok", "test b ... FAILED", "", "panicked at b.rs:3"],
        );
        scene.skips("ship", "test").ends(RunOutcome::Failed);
        assert_snapshot!(render(scene.view(), Style { color: false, unicode: true }, 80), @"
        ✗ test failed: exit code 101 (11s)
          │ running 3 tests
          │ test a ... ok
          │ test b ... FAILED
          │
          │ panicked at b.rs:3
        shell: pace shell 12 test

        rerun: pace run --rerun-failed

        1 failed: test
        1 failed, which is allowed: lint
        2 succeeded, 1 from the cache
        1 skipped, `test` failed: ship
        slowest: test 11s, build 3.2s, lint 1.9s
        critical path: deps 0ms → build 3.2s → test 11s
        saved by the cache: 34s
        ci-build run #12 failed after 15s
        ");
    }

    #[test]
    fn a_green_run_is_short() {
        let mut scene = Scene::new("a b");
        scene.request().leases("a").leases("b").at(1.5).succeeds("a").at(2.0).succeeds("b").ends(RunOutcome::Succeeded);
        assert_snapshot!(render(scene.view(), Style::PLAIN, 80), @"
        2 succeeded
        slowest: b 2.0s, a 1.5s
        ci-build run #12 succeeded after 2.0s
        ");
    }

    #[test]
    fn the_first_errors_are_shown_even_when_the_tail_has_lost_them() {
        let mut scene = Scene::new("test");
        scene.request().leases("test").prints("test", "error: the real reason");
        let tail: Vec<String> = (0..40).map(|n| format!("noise {n}")).collect();
        tail.iter().for_each(|line| {
            scene.prints("test", line);
        });
        let tail: Vec<&str> = tail.iter().map(String::as_str).collect();
        scene.fails("test", exit(1), &tail).ends(RunOutcome::Failed);
        let text = render(scene.view(), Style::PLAIN, 80);
        assert!(text.contains("| error: the real reason\n  :\n  | noise"), "{text}");
        assert!(text.contains("| noise 39\nshell: pace shell 12 test\n"), "{text}");
    }

    #[test]
    fn a_step_whose_agent_was_lost_shows_what_it_had_printed() {
        let mut scene = Scene::new("test");
        scene.request().leases("test").prints("test", "half way");
        scene.fails("test", Cause::Lost("agent a1 is gone".into()), &[]).ends(RunOutcome::Infrastructure);
        assert!(render(scene.view(), Style::PLAIN, 80).contains("| half way\n"));
    }

    #[test]
    fn a_thousand_failures_are_shown_in_part_and_named() {
        let steps: Vec<String> = (0..1000).map(|n| format!("s{n}")).collect();
        let mut scene = Scene::new(&steps.join(" "));
        scene.request();
        for step in &steps {
            scene.leases(step).fails(step, exit(1), &["error: x"; 40]);
        }
        let text = render(scene.view(), Style::PLAIN, 80);
        assert!(text.contains("990 more failed: s10, s11") && text.lines().count() < 300, "{text}");
    }

    #[test]
    fn names_with_brackets_are_quoted_for_the_shell() {
        assert_eq!(quoted("test[go=1.22]"), "'test[go=1.22]'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        assert_eq!(quoted("use.test-1"), "use.test-1");
    }

    #[test]
    fn hostile_output_cannot_touch_the_terminal() {
        let mut scene = Scene::new("test");
        scene.request().leases("test").fails(
            "test",
            exit(1),
            &["\x1b[2J\x1b]0;x\x07error \x1b[31mred\x1b[H", &"x".repeat(1 << 20)],
        );
        let text = render(scene.view(), Style { color: true, unicode: true }, 80);
        assert!(!text.contains("\x1b[2J") && !text.contains("\x1b]") && !text.contains("\x1b[H"), "{text:?}");
        assert!(text.contains("\x1b[31mred\x1b[0m") && text.len() < 5000);
    }
}
