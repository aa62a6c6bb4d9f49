//! Approvals, held runs, bounds: what only a server has.

use std::time::Duration;

use model::expr::Template;
use model::{Concurrency, ConcurrencyPolicy, Input, Pipeline, RunEvent, Sla, SlaBound};
use testkit::{World, pipeline, reads, step, value};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

fn count(w: &World, wanted: impl Fn(&RunEvent) -> bool) -> usize {
    w.facts().iter().filter(|fact| wanted(&fact.event)).count()
}

// ---- approvals ----

#[test]
fn an_approval_waits_for_a_person_and_hands_on_who_it_was() {
    let mut w = World::serving(["a1"]);
    let told = step("tell").after(&["ship"]).cmd(reads("by ", value("ship", "by")));
    let run = w.runs(&pipeline([step("ship").approve(), told]));
    w.sees("ship", "waits 720h00m for team:release to say yes");
    w.sees("tell", "waits for `ship` (asking)");
    w.answers_approval("ship", "user:anna", true, "go");
    w.sees("ship", "passed");
    let spec = w.spec("tell");
    let model::Work::Command(command) = &spec.work else { panic!("a command") };
    assert_eq!(command.script, "by user:anna");
    w.passes("tell");
    w.run_is(&run, "success");
}

#[test]
fn the_message_of_an_approval_is_what_people_are_asked() {
    let mut w = World::serving(["a1"]);
    w.push("name: p\nsteps: [{ id: ship, approve: { by: [team:release, user:bo], message: \"Ship ${{ run.number }}?\", expires: 1h } }]");
    w.sees("ship", "waits 1h00m for team:release or user:bo to say yes: Ship 1?");
}

#[test]
fn who_declines_fails_the_step_and_what_depends_on_it_does_not_run() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&pipeline([step("ship").approve(), step("tell").after(&["ship"])]));
    w.answers_approval("ship", "user:bo", false, "not on a Friday");
    w.sees("ship", "failed: declined by user:bo: not on a Friday");
    w.sees("tell", "skipped: `ship` failed");
    w.run_is(&run, "failure");
}

#[test]
fn the_first_answer_counts_and_a_second_changes_nothing() {
    let mut w = World::serving(["a1"]);
    w.runs(&pipeline([step("ship").approve(), step("tell").after(&["ship"])]));
    w.answers_approval("ship", "user:anna", true, "");
    let late = w.answers_approval("ship", "user:bo", false, "");
    assert!(late.events.is_empty());
    assert_eq!(w.because(), ["no approval is open here: it was answered, it expired, or the run ended"]);
}

#[test]
fn an_approval_that_nobody_answers_fails_in_time() {
    let mut w = World::serving([]);
    let run = w.runs(&pipeline([step("ship").approve()]));
    w.pass(29 * DAY);
    w.run_is(&run, "running");
    w.pass(DAY);
    w.sees("ship", "failed: nobody answered for 720h00m");
    w.run_is(&run, "failure");
}

#[test]
fn an_open_approval_ends_with_its_run() {
    let mut w = World::serving(["a1"]);
    let cancelled = w.runs(&pipeline([step("ship").approve()]));
    w.cancels("user:anna", false);
    w.sees("ship", "cancelled");
    w.run_is(&cancelled, "cancelled");
    let failed = w.runs(&pipeline([step("ship").approve(), step("test")]));
    w.fails("test", 1);
    w.sees("ship", "skipped: `test` failed, and the run stops at the first failure (--keep-going goes on)");
    w.run_is(&failed, "failure");
}

#[test]
fn an_approval_outlives_the_server_that_asked() {
    let mut w = World::serving([]);
    let run = w.runs(&pipeline([step("ship").approve()]));
    w.fails_over();
    w.answers_approval("ship", "user:anna", true, "");
    w.run_is(&run, "success");
}

// ---- held runs ----

fn held(w: &mut World, pipeline: &Pipeline) -> model::RunId {
    w.runs_with(pipeline, |context| context.terms.held = Some("a pull request of a fork".into()))
}

#[test]
fn a_held_run_starts_when_somebody_lets_it_go() {
    let mut w = World::serving(["a1"]);
    let run = held(&mut w, &pipeline([step("test")]));
    w.run_is(&run, "held");
    w.sees("test", "waits for somebody to let the run go: a pull request of a fork");
    w.fails_over();
    w.comes_back("a1", 1);
    w.run_is(&run, "held");
    w.give(Input::Released { run: run.clone(), by: "user:anna".into() });
    w.sees("test", "running on a1");
    w.give(Input::Released { run, by: "user:anna".into() });
    assert_eq!(w.because(), ["the run is not held: there is nothing to let go"]);
}

#[test]
fn a_held_run_can_be_cancelled_and_keeps_nobody_from_its_group() {
    let mut w = World::serving(["a1"]);
    let mut deploy = pipeline([step("deploy")]);
    deploy.concurrency = Some(Concurrency { group: Template::plain("g"), policy: ConcurrencyPolicy::Queue });
    let first = held(&mut w, &deploy);
    let second = w.runs(&deploy);
    w.sees("deploy", "running on a1");
    w.give(Input::Released { run: first.clone(), by: "user:anna".into() });
    w.run_is(&first, "queued");
    w.passes("deploy");
    w.run_is(&second, "success");
    w.run_is(&first, "running");
    let third = held(&mut w, &deploy);
    w.give(Input::CancelRequested { run: third.clone(), by: "user:anna".into(), force: false });
    w.run_is(&third, "cancelled");
}

// ---- concurrency groups of a server ----

fn grouped(policy: ConcurrencyPolicy) -> Pipeline {
    let mut grouped = pipeline([step("deploy")]);
    grouped.concurrency = Some(Concurrency { group: Template::plain("prod"), policy });
    grouped
}

#[test]
fn groups_of_different_projects_do_not_know_each_other() {
    let mut w = World::serving(["a1", "a2"]);
    let deploy = grouped(ConcurrencyPolicy::CancelRunning);
    let first = w.runs(&deploy);
    let second = w.runs_with(&deploy, |context| context.terms.project = Some("shop".into()));
    w.run_is(&first, "running");
    w.run_is(&second, "running");
}

#[test]
fn of_those_that_wait_only_the_newest_stays_if_the_policy_says_so() {
    let mut w = World::serving(["a1"]);
    let deploy = grouped(ConcurrencyPolicy::CancelQueued);
    let (first, second, third) = (w.runs(&deploy), w.runs(&deploy), w.runs(&deploy));
    assert!(w.stopped().is_empty());
    w.run_is(&first, "running");
    w.run_is(&second, "cancelled");
    w.run_is(&third, "queued");
    w.passes("deploy");
    w.run_is(&third, "running");
}

#[test]
fn the_next_run_of_a_group_is_the_one_with_the_highest_priority() {
    let mut w = World::serving(["a1"]);
    let deploy = grouped(ConcurrencyPolicy::Queue);
    let (_, second, third) = (w.runs(&deploy), w.runs(&deploy), w.runs(&deploy));
    w.give(Input::Prioritised { run: third.clone(), priority: 5, by: "user:anna".into() });
    w.passes("deploy");
    w.run_is(&second, "queued");
    w.run_is(&third, "running");
}

// ---- bounds of `sla` ----

#[test]
fn a_bound_that_is_missed_is_a_fact_once() {
    let mut w = World::serving([]);
    let mut urgent = pipeline([step("test")]);
    urgent.sla = Some(Sla { start_within: Some(30 * SECOND), finish_within: Some(60 * SECOND) });
    let run = w.runs(&urgent);
    w.pass(30 * SECOND);
    let missed = |bound| move |event: &RunEvent| matches!(event, RunEvent::SlaMissed { bound: is, .. } if *is == bound);
    assert_eq!((count(&w, missed(SlaBound::Start)), count(&w, missed(SlaBound::Finish))), (1, 0));
    assert_eq!(w.because(), ["`start_within: 30s` of `sla` is missed"]);
    w.pass(600 * SECOND);
    w.fails_over();
    w.pass(600 * SECOND);
    assert_eq!((count(&w, missed(SlaBound::Start)), count(&w, missed(SlaBound::Finish))), (1, 1));
    w.joins("a1", 1);
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn a_run_in_time_misses_nothing() {
    let mut w = World::serving(["a1"]);
    let mut urgent = pipeline([step("test")]);
    urgent.sla = Some(Sla { start_within: Some(30 * SECOND), finish_within: Some(60 * SECOND) });
    w.runs(&urgent);
    w.pass(10 * SECOND);
    w.passes("test");
    w.pass(600 * SECOND);
    assert_eq!(count(&w, |event| matches!(event, RunEvent::SlaMissed { .. })), 0);
    assert_eq!(w.engine().next_wake(), None);
}
