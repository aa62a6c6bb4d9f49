//! Agents of a server: heartbeats, broken connections, failovers, clocks that jump.

use std::time::Duration;

use model::{AttemptEnd, AttemptNo, AttemptResult, Fence, Held, Input, NodeIx};
use testkit::{World, pipeline, step};

const SECOND: Duration = Duration::from_secs(1);

fn long() -> model::Pipeline {
    pipeline([step("test").timeout(3600 * SECOND)])
}

/// Time goes on, and the agent is heard of every ten seconds.
fn live(w: &mut World, agent: &str, time: Duration) {
    for _ in 0..time.as_secs() / 10 {
        w.pass(10 * SECOND);
        w.beats(agent);
    }
}

#[test]
fn heartbeats_keep_a_lease_and_leave_no_fact() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    let before = w.facts().len();
    live(&mut w, "a1", 600 * SECOND);
    w.sees("test", "running on a1");
    assert_eq!(w.facts().len(), before);
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn an_agent_that_falls_silent_gives_the_step_back() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    w.joins("a2", 1);
    for _ in 0..3 {
        w.pass(10 * SECOND);
        w.beats("a2");
    }
    w.sees("test", "running on a2");
    assert!(w.timeline().contains("lost: agent a1 was not heard of for 30s"), "{}", w.timeline());
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn a_silent_agent_that_is_heard_of_again_stops_what_it_lost_and_gets_new_work() {
    let mut w = World::serving(["a1"]);
    w.runs(&long());
    let old = w.spec("test");
    w.pass(30 * SECOND);
    w.sees("test", "waits for an agent: none is there");
    w.beats("a1");
    assert_eq!(w.stopped(), ["test!"]);
    let new = w.spec("test");
    assert!(new.fence > old.fence && new.attempt > old.attempt);
    w.reports(&old, AttemptResult::ended(AttemptEnd::Succeeded));
    assert!(w.because()[0].contains("comes too late or twice"), "{:?}", w.because());
    w.sees("test", "running on a1");
}

#[test]
fn a_broken_connection_costs_nothing_if_the_agent_is_back_in_time() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    w.parts("a1");
    w.pass(20 * SECOND);
    w.comes_back("a1", 1);
    w.sees("test", "running on a1");
    live(&mut w, "a1", 100 * SECOND);
    w.passes("test");
    w.run_is(&run, "success");
    assert_eq!(w.attempts().len(), 1);
}

#[test]
fn a_result_that_comes_after_a_reconnect_counts() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    w.parts("a1");
    w.pass(29 * SECOND);
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn an_agent_that_was_restarted_has_its_step_done_again() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    w.dies("a1");
    w.comes_back("a1", 1);
    assert!(w.timeline().contains("lost: agent a1 came back without it"), "{}", w.timeline());
    w.sees("test", "running on a1");
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn a_step_whose_agents_always_die_fails_at_last() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    for _ in 0..5 {
        w.dies("a1");
        w.comes_back("a1", 1);
    }
    w.sees("test", "failed: lost: agent a1 came back without it");
    w.run_is(&run, "infrastructure");
}

#[test]
fn who_retries_for_other_causes_only_is_not_run_twice_by_a_lost_agent() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&pipeline([step("deploy").retry(3, &[model::RetryOn::Exit(75)])]));
    w.dies("a1");
    w.comes_back("a1", 1);
    w.run_is(&run, "infrastructure");
}

#[test]
fn a_failover_costs_nothing_if_the_agents_come_back_in_time() {
    let mut w = World::serving(["a1", "a2"]);
    let run = w.runs(&pipeline([step("x"), step("y"), step("z").after(&["x", "y"])]));
    w.pass(20 * SECOND);
    w.fails_over();
    w.pass(25 * SECOND);
    w.comes_back("a1", 1);
    w.comes_back("a2", 1);
    w.passes("x");
    w.passes("y");
    w.passes("z");
    w.run_is(&run, "success");
    assert_eq!(w.attempts().len(), 3);
}

#[test]
fn agents_that_a_failover_leaves_behind_lose_their_leases_after_a_fresh_time_to_live() {
    let mut w = World::serving(["a1"]);
    w.runs(&long());
    w.pass(20 * SECOND);
    w.fails_over();
    w.joins("a2", 1);
    w.pass(29 * SECOND);
    w.beats("a2");
    w.sees("test", "running on a1");
    w.pass(SECOND);
    w.sees("test", "running on a2");
}

#[test]
fn an_agent_that_lies_about_its_leases_gains_nothing() {
    let mut w = World::serving(["a1", "a2"]);
    let run = w.runs(&long());
    let spec = w.spec("test");
    let held = |fence: u64| Held { run: run.clone(), node: NodeIx(0), attempt: AttemptNo(1), fence: Fence(fence) };
    for claim in
        [held(spec.fence.0), held(999), Held { run: "r9".into(), ..held(1) }, Held { node: NodeIx(7), ..held(1) }]
    {
        let decision = w.give(Input::Heartbeat { agent: "a2".into(), held: vec![claim] });
        assert!(decision.events.is_empty());
        assert!(matches!(decision.commands.as_slice(), [model::Command::Stop { force: true, .. }]));
    }
    w.sees("test", "running on a1");
}

#[test]
fn a_server_that_slept_does_not_take_leases_away() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    // An hour in which nobody looked: the process was stopped, or the clock jumped.
    w.clock_jumps_to(4000 * SECOND);
    w.give(Input::Tick);
    w.sees("test", "running on a1");
    w.beats("a1");
    live(&mut w, "a1", 60 * SECOND);
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn an_attempt_whose_time_was_slept_away_gets_it_anew() {
    let mut w = World::serving(["a1"]);
    let run = w.runs(&long());
    w.clock_jumps_to(10_000 * SECOND);
    w.give(Input::Tick);
    w.sees("test", "running on a1");
    assert!(w.timeline().contains("test: lease extended"), "{}", w.timeline());
    w.passes("test");
    w.run_is(&run, "success");
}

#[test]
fn a_clock_that_goes_back_keeps_silent_agents_no_longer() {
    let mut w = World::serving([]);
    w.clock_jumps_to(4000 * SECOND);
    w.joins("a1", 1);
    w.runs(&long());
    w.clock_jumps_to(100 * SECOND);
    w.give(Input::Tick);
    w.joins("a2", 1);
    w.pass(20 * SECOND);
    w.beats("a2");
    w.pass(10 * SECOND);
    w.sees("test", "running on a2");
}
