//! One JSON event a line: what `--output json` prints, what the local history keeps, and what reads it back.
//!
//! The shapes are stable: fields are added, never renamed or removed. They are described in
//! `docs/reference/events.md`, which [`reference`] writes.

mod reference;
mod wire;

use model::{Cause, Fact, NodeIx, Outcome, Plan, RunEvent, Skip, Timestamp};
use serde::Serialize;

use crate::run::{LogLine, RunView};
pub use reference::reference;
pub use wire::*;

/// Bytes of one line that is read back: an event with a tail of longest lines and 100,000 artifact files.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// The line of a fact that was folded into `view` just before, without a line break.
pub fn fact(view: &RunView, fact: &Fact) -> String {
    line(&wire(view, fact))
}

/// The line of a line of output, without a line break.
pub fn log(view: &RunView, log: &LogLine) -> String {
    let step = view.name(log.node).to_string();
    let event = WireEvent::Log(Log { step, node: log.node.0, attempt: log.attempt.0, text: log.text.clone() });
    line(&Wire { at: iso(log.at), at_us: log.at.0, run: view.run().to_owned(), event })
}

/// Reads one line back. Unknown fields are passed over, missing ones are empty, an unknown event is
/// [`WireEvent::Unknown`].
///
/// # Errors
/// A sentence that says what is wrong with the line.
pub fn read(line: &str) -> Result<Wire, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("an event is at most {LINE_BYTES_MAX} bytes on one line, this one has {}", line.len()));
    }
    serde_json::from_str(line).map_err(|error| format!("this line is no event: {error}"))
}

/// A fact in the shape that is written.
pub fn wire(view: &RunView, fact: &Fact) -> Wire {
    Wire { at: iso(fact.at), at_us: fact.at.0, run: fact.run.to_string(), event: event(view, fact) }
}

/// The time as ISO 8601 in UTC with microseconds: `2026-11-21T09:58:02.000000Z`.
pub fn iso(time: Timestamp) -> String {
    let (seconds, micros) = (time.0 / 1_000_000, time.0 % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a number of days since 1970-01-01. Counted from March, so that the leap day comes last:
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// One line of JSON that a terminal can show: serde escapes C0, this the rest that could act on a terminal.
pub(crate) fn line(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("our own shapes have text keys and no failing parts");
    let acts = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}');
    if !text.contains(acts) {
        return text;
    }
    // Outside of strings JSON is ASCII, so each of these stands in a string.
    text.chars().map(|c| if acts(c) { format!("\\u{:04x}", c as u32) } else { c.to_string() }).collect()
}

/// The word for a kind of cause.
pub(crate) fn cause_kind(cause: &Cause) -> &'static str {
    match cause {
        Cause::Exit(_) => "exit",
        Cause::Signal(_) => "signal",
        Cause::TimedOut(_) => "timeout",
        Cause::Idle(_) => "idle",
        Cause::Limit(limit) => limit.word(),
        Cause::Service(_) => "service",
        Cause::Lost(_) => "lost",
        Cause::Infrastructure(_) => "infrastructure",
        Cause::Refused(_) => "refused",
        Cause::Broken(_) => "broken",
        Cause::Expression(_) => "expression",
        Cause::Declined(_) => "declined",
        Cause::Unanswered(_) => "unanswered",
    }
}

fn event(view: &RunView, fact: &Fact) -> WireEvent {
    let name = |node: NodeIx| view.name(node).to_string();
    match &fact.event {
        RunEvent::Requested { plan } => WireEvent::RunRequested(requested(plan)),
        RunEvent::Released { by } => WireEvent::RunReleased(RunReleased { by: by.clone() }),
        RunEvent::Prioritised { priority, by } => {
            WireEvent::RunPrioritised(RunPrioritised { priority: *priority, by: by.clone() })
        }
        RunEvent::Started => WireEvent::RunStarted {},
        RunEvent::SlaMissed { bound, within } => {
            WireEvent::SlaMissed(SlaMissed { bound: bound.word().to_owned(), within_us: micros(*within) })
        }
        RunEvent::StepKept { node, from, result } => WireEvent::StepKept(StepKept {
            step: name(*node),
            node: node.0,
            from: from.into(),
            layer: result.layer.as_ref().map(Into::into),
        }),
        RunEvent::LeaseExtended { node, deadline } => {
            WireEvent::LeaseExtended(LeaseExtended { step: name(*node), node: node.0, deadline_us: deadline.0 })
        }
        RunEvent::ApprovalOpened { node, message, by, expires } => WireEvent::ApprovalOpened(ApprovalOpened {
            step: name(*node),
            node: node.0,
            message: message.clone(),
            by: by.clone(),
            expires: iso(*expires),
            expires_us: expires.0,
        }),
        RunEvent::ApprovalGiven { node, by, approved, comment } => WireEvent::ApprovalGiven(ApprovalGiven {
            step: name(*node),
            node: node.0,
            by: by.clone(),
            approved: *approved,
            comment: comment.clone(),
        }),
        RunEvent::StepReady { node } => WireEvent::StepReady(StepReady { step: name(*node), node: node.0 }),
        RunEvent::AttemptLeased { node, attempt, agent, deadline, .. } => WireEvent::AttemptStarted(AttemptStarted {
            step: name(*node),
            node: node.0,
            attempt: attempt.0,
            agent: agent.to_string(),
            deadline_us: deadline.0,
        }),
        RunEvent::AttemptEnded { node, attempt, result } => {
            WireEvent::AttemptEnded(Box::new(AttemptEnded::new(name(*node), *node, *attempt, result)))
        }
        RunEvent::RetryPlanned { node, not_before, cause } => WireEvent::RetryPlanned(RetryPlanned {
            step: name(*node),
            node: node.0,
            attempt: attempts(view, *node).saturating_add(1),
            not_before: iso(*not_before),
            not_before_us: not_before.0,
            cause: cause.into(),
        }),
        RunEvent::Expanded { node, steps } => WireEvent::StepsAdded(StepsAdded {
            step: name(*node),
            node: node.0,
            ids: steps.iter().map(|step| step.id.to_string()).collect(),
        }),
        RunEvent::StepEnded { node, outcome, values } => {
            WireEvent::StepEnded(StepEnded { values: values.clone(), ..step_ended(view, *node, outcome) })
        }
        RunEvent::CancelRequested { by, force } => {
            WireEvent::CancelRequested(CancelRequested { by: by.clone(), force: *force })
        }
        RunEvent::Ended { outcome } => WireEvent::RunEnded(RunEnded {
            outcome: outcome.word().to_owned(),
            exit_code: crate::exit_code(*outcome),
            took_us: micros(view.elapsed(fact.at)),
        }),
    }
}

fn requested(plan: &Plan) -> RunRequested {
    let (context, git) = (&plan.context, &plan.context.trigger.git);
    let steps = plan.nodes.iter().enumerate().map(|(at, node)| {
        let step = plan.step(NodeIx(at as u32));
        PlannedStep {
            step: node.name.to_string(),
            node: at as u32,
            id: step.id.to_string(),
            depends_on: step.depends_on.iter().map(ToString::to_string).collect(),
            runs_nothing: matches!(step.kind, model::StepKind::Group),
            runs_on: node.runs_on.iter().flat_map(|labels| labels.iter().map(ToString::to_string)).collect(),
        }
    });
    RunRequested {
        number: context.number.0,
        pipeline: plan.name.clone(),
        trigger: plan.event().word().to_owned(),
        commit: git.commit.clone(),
        branch: git.branch.clone(),
        tag: git.tag.clone(),
        params: context.params.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
        held: context.terms.held.clone(),
        priority: context.terms.priority(),
        by: context.terms.by.clone(),
        again: context.terms.again.as_ref().map(|again| again.run.to_string()),
        steps: steps.collect(),
    }
}

fn attempts(view: &RunView, node: NodeIx) -> u16 {
    view.step(node).map_or(0, |step| step.attempts)
}

fn step_ended(view: &RunView, node: NodeIx, outcome: &Outcome) -> StepEnded {
    let step = view.step(node);
    let ended = StepEnded {
        step: view.name(node).to_string(),
        node: node.0,
        outcome: outcome.word().to_owned(),
        attempts: attempts(view, node),
        took_us: micros(step.and_then(crate::StepView::took).unwrap_or_default()),
        ..StepEnded::default()
    };
    match outcome {
        Outcome::Succeeded { cached } => StepEnded { cached: *cached, ..ended },
        Outcome::Failed { cause, allowed } => StepEnded { cause: Some(cause.into()), allowed: *allowed, ..ended },
        Outcome::Skipped(skip) => StepEnded { skip: Some(skip.into()), ..ended },
        Outcome::Cancelled => ended,
    }
}

impl From<&Skip> for WireSkip {
    fn from(skip: &Skip) -> Self {
        let (kind, because_of) = match skip {
            Skip::Condition => ("condition", None),
            Skip::NotSelected => ("not_selected", None),
            Skip::DependencySkipped(step) => ("dependency_skipped", Some(step)),
            Skip::DependencyFailed(step) => ("dependency_failed", Some(step)),
            Skip::NothingFailed => ("nothing_failed", None),
            Skip::RunFailed(step) => ("run_failed", Some(step)),
        };
        WireSkip { kind: kind.to_owned(), because_of: because_of.map(ToString::to_string), text: skip.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use insta::assert_snapshot;
    use model::AttemptNo;

    use super::*;
    use crate::scene::Scene;

    #[test]
    fn every_event_reads_back_as_it_was_written() {
        let mut scene = Scene::every_event();
        let facts = scene.facts();
        let mut kinds = HashSet::new();
        let mut view = RunView::new();
        for happened in &facts {
            view.fact(happened);
            let (text, meant) = (fact(&view, happened), wire(&view, happened));
            assert_eq!(read(&text), Ok(meant));
            kinds.insert(std::mem::discriminant(&happened.event));
        }
        assert_eq!(kinds.len(), 17, "every kind of event is in the scene");
    }

    #[test]
    fn events_carry_names_and_times_that_people_and_programs_read() {
        let mut scene = Scene::new("build test:build");
        scene.request().leases("build").at(3.2).hits("build", 34.0);
        let lines: Vec<String> = scene.json().lines().map(str::to_owned).collect();
        assert_snapshot!(lines[1], @r#"{"at":"2026-11-21T09:58:02.000000Z","at_us":1795255082000000,"run":"r12","event":"attempt_started","step":"build","node":0,"attempt":1,"agent":"a1","deadline_us":1795255142000000}"#);
        assert_snapshot!(lines[3], @r#"{"at":"2026-11-21T09:58:05.200000Z","at_us":1795255085200000,"run":"r12","event":"step_ended","step":"build","node":0,"outcome":"success","cached":true,"allowed":false,"cause":null,"skip":null,"attempts":1,"took_us":3200000,"values":{}}"#);
    }

    #[test]
    fn a_log_line_reads_back_with_everything_a_step_may_print() {
        let mut scene = Scene::new("build");
        let text = "\x1b[31m\"q\" \\ \u{9b}2J \u{2028} \0 é";
        let log = LogLine { at: Timestamp(5), node: NodeIx(0), attempt: AttemptNo(1), text: text.to_owned() };
        let line = super::log(scene.request().view(), &log);
        assert!(!line.contains(['\u{9b}', '\u{2028}', '\x1b', '\0', '\n']), "{line}");
        let Ok(Wire { event: WireEvent::Log(back), .. }) = read(&line) else { panic!("{line}") };
        assert_eq!((back.text.as_str(), back.step.as_str()), (text, "build"));
    }

    #[test]
    fn a_later_version_can_add_events_and_fields() {
        let line = r#"{"at":"x","at_us":1,"run":"r","event":"meteor","size":[1,{}]}"#;
        assert_eq!(read(line).map(|wire| wire.event), Ok(WireEvent::Unknown));
        let line = r#"{"at_us":1,"event":"run_ended","outcome":"success","mood":"good"}"#;
        let Ok(Wire { event: WireEvent::RunEnded(ended), run, .. }) = read(line) else { panic!("{line}") };
        assert_eq!((ended.outcome.as_str(), run.as_str()), ("success", ""));
    }

    #[test]
    fn what_is_no_event_is_refused_with_a_sentence() {
        for bad in ["", "null", "[]", "{", "{}", "\u{feff}{}", &"[".repeat(100_000), r#"{"event":"log","node":-1}"#] {
            let error = read(bad).expect_err("no event");
            assert!(error.starts_with("this line is no event: ") && error.len() < 300, "{error}");
        }
        assert!(read(&" ".repeat(LINE_BYTES_MAX + 1)).expect_err("too long").contains("at most 67108864 bytes"));
    }

    #[test]
    fn times_are_written_in_utc() {
        let shown = |seconds: u64| iso(Timestamp(seconds * 1_000_000 + 7));
        assert_eq!(shown(0), "1970-01-01T00:00:00.000007Z");
        assert_eq!(shown(951_782_400), "2000-02-29T00:00:00.000007Z");
        assert_eq!(shown(1_795_255_082), "2026-11-21T09:58:02.000007Z");
        assert_eq!(shown(4_107_542_399), "2100-02-28T23:59:59.000007Z");
        assert_eq!(shown(4_107_542_400), "2100-03-01T00:00:00.000007Z");
        assert!(iso(Timestamp(u64::MAX)).ends_with('Z'));
    }
}
