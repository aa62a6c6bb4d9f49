//! One line an event, for pipes and logs that are kept: `build: started`, `build | text`.

use model::units::show_duration;
use model::{Fact, NodeIx, Outcome, RunEvent, Skip, SlaBound};

use crate::ansi::{self, Style};
use crate::live::cached_words;
use crate::run::{LogLine, RunView, StepView};

/// The line (rarely: lines) of a fact that was folded into `view` just before; `None` if it says nothing new to a
/// person who reads along.
pub fn fact(view: &RunView, fact: &Fact) -> Option<String> {
    let text = match &fact.event {
        RunEvent::Requested { .. } => {
            let total = view.counts().total;
            format!("{} run {}: {total} step{}", view.pipeline(), view.number(), if total == 1 { "" } else { "s" })
        }
        RunEvent::Started
        | RunEvent::StepReady { .. }
        | RunEvent::StepKept { .. }
        | RunEvent::LeaseExtended { .. }
        | RunEvent::AttemptEnded { .. } => return None,
        RunEvent::Released { by } => format!("let go by {by}"),
        RunEvent::Prioritised { priority, by } => format!("priority {priority}, by {by}"),
        RunEvent::SlaMissed { bound: SlaBound::Start, within } => {
            format!("late: it did not start within {}", show_duration(*within))
        }
        RunEvent::SlaMissed { bound: SlaBound::Finish, within } => {
            format!("late: it is not done within {}", show_duration(*within))
        }
        RunEvent::ApprovalOpened { node, message, by, expires } => {
            let wait = show_duration(expires.since(fact.at));
            let by: Vec<&str> = by.iter().map(String::as_str).collect();
            let asks = if message.is_empty() { "asks for approval" } else { message };
            format!("{}: {asks} ({} may answer, within {wait})", view.name(*node), names(&by))
        }
        RunEvent::ApprovalGiven { node, by, approved, comment } => {
            let word = if *approved { "approved" } else { "declined" };
            let said = if comment.is_empty() { String::new() } else { format!(": {comment}") };
            format!("{}: {word} by {by}{said}", view.name(*node))
        }
        RunEvent::AttemptLeased { node, .. } => started(view.step(*node)?),
        RunEvent::RetryPlanned { node, not_before, cause } => {
            let step = view.step(*node)?;
            let next = step.attempts.saturating_add(1);
            let wait = show_duration(not_before.since(fact.at));
            format!("{}: failed: {cause}; attempt {next} of {} in {wait}", step.name, step.attempts_max.max(next))
        }
        RunEvent::Expanded { node, steps } => {
            let ids: Vec<&str> = steps.iter().map(|step| step.id.as_str()).collect();
            format!("{}: made {}", view.name(*node), names(&ids))
        }
        RunEvent::StepEnded { node, outcome, .. } => ended(view, *node, outcome)?,
        RunEvent::CancelRequested { by, force: false } => format!("cancelled by {by}: clean-up steps still run"),
        RunEvent::CancelRequested { by, force: true } => format!("killed by {by}: nothing runs any more"),
        RunEvent::Ended { outcome } => {
            let took = show_duration(view.elapsed(fact.at));
            format!("{} run {}: {} after {took}", view.pipeline(), view.number(), outcome.word())
        }
    };
    Some(ansi::strip_lines(&text))
}

/// A line of output behind its step's name. Colours pass if the style has colours.
pub fn log(view: &RunView, line: &LogLine, style: Style) -> String {
    format!("{} | {}", ansi::strip(&view.name(line.node)), ansi::clean(&line.text, style))
}

fn started(step: &StepView) -> String {
    match step.attempt_words() {
        Some(attempt) => format!("{}: started ({attempt})", step.name),
        None => format!("{}: started", step.name),
    }
}

fn ended(view: &RunView, node: NodeIx, outcome: &Outcome) -> Option<String> {
    let step = view.step(node).filter(|step| !step.silent)?;
    let attempt = step.attempt_words().map(|words| format!(" ({words})")).unwrap_or_default();
    let how = match outcome {
        Outcome::Succeeded { cached: true } => cached_words(step),
        Outcome::Succeeded { cached: false } => {
            format!("done in {}{attempt}", show_duration(step.took().unwrap_or_default()))
        }
        Outcome::Failed { cause, allowed: false } => format!("failed: {cause}{attempt}"),
        Outcome::Failed { cause, allowed: true } => format!("failed, which is allowed: {cause}{attempt}"),
        Outcome::Skipped(Skip::NotSelected) => return None,
        Outcome::Skipped(skip) => format!("skipped: {skip}"),
        Outcome::Cancelled => "cancelled".to_owned(),
    };
    let notes = step.result.iter().flat_map(|result| &result.notes);
    let notes: String = notes.map(|note| format!("\n{}: note: {note}", step.name)).collect();
    Some(format!("{}: {how}{notes}", step.name))
}

/// Names shown of a list before the rest is only counted.
const NAMES_MAX: usize = 20;

fn names(all: &[&str]) -> String {
    let shown = all[..all.len().min(NAMES_MAX)].join(", ");
    match all.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use model::Cause;

    use super::*;
    use crate::scene::{Scene, exit};

    #[test]
    fn a_run_reads_as_one_line_an_event() {
        let mut scene = Scene::new("deps build:deps lint:deps test:build ship:test clean:ship");
        scene.retries("test", 3).allows("lint").request();
        scene.at(0.0).leases("deps").hits("deps", 34.0);
        scene.at(0.1).leases("build").leases("lint").prints("build", "compiling \x1b[32mfoo\x1b[0m\x1b[2J");
        scene.at(2.0).fails("lint", Cause::Exit(2), &[]).at(3.3).succeeds("build");
        scene.at(3.4).leases("test").at(9.0).fails_for_now("test", Cause::Exit(75), 4.0);
        scene.at(13.0).leases("test").at(20.0).fails("test", Cause::TimedOut(std::time::Duration::from_secs(7)), &[]);
        scene.skips("ship", "test").cancels("Ctrl-C").cancelled("clean").ends(model::RunOutcome::Failed);
        assert_snapshot!(scene.plain(), @"
        ci-build run #12: 6 steps
        deps: started
        deps: cached (took 34s in run #11)
        build: started
        lint: started
        build | compiling foo
        lint: failed, which is allowed: exit code 2
        build: done in 3.2s
        test: started
        test: failed: exit code 75; attempt 2 of 3 in 4.0s
        test: started (attempt 2 of 3)
        test: failed: timed out after 7.0s (attempt 2 of 3)
        ship: skipped: `test` failed
        cancelled by Ctrl-C: clean-up steps still run
        clean: cancelled
        ci-build run #12: failure after 20s
        ");
    }

    #[test]
    fn notes_stand_with_their_step() {
        let mut scene = Scene::new("build");
        scene.request().leases("build").notes("build", "2 outputs are empty");
        assert!(scene.plain().contains("build: note: 2 outputs are empty"), "{}", scene.plain());
    }

    #[test]
    fn a_cause_of_several_lines_keeps_them_and_cannot_touch_the_terminal() {
        let mut scene = Scene::new("more");
        scene.request().leases("more").fails("more", Cause::Broken("error[P0104]\n\x1b[2J  --> x:1".into()), &[]);
        assert!(scene.plain().ends_with("more: failed: error[P0104]\n  --> x:1"), "{:?}", scene.plain());
    }

    #[test]
    fn a_fact_about_a_step_nobody_knows_does_no_harm() {
        let mut view = RunView::new();
        let node = NodeIx(u32::MAX);
        for event in [
            RunEvent::StepReady { node },
            RunEvent::RetryPlanned { node, not_before: model::Timestamp(0), cause: exit(1) },
            RunEvent::StepEnded { node, outcome: Outcome::Cancelled, values: Default::default() },
        ] {
            let happened = Fact { at: model::Timestamp(u64::MAX), run: "r".into(), event };
            view.fact(&happened);
            assert_eq!(fact(&view, &happened), None);
        }
    }
}
