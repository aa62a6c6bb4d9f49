//! Who goes first: tenants, priorities, bounds, labels.

use std::time::Duration;

use model::{Input, Pipeline, RunId, Sla};
use testkit::{World, pipeline, step};

const SECOND: Duration = Duration::from_secs(1);

fn one(name: &str) -> Pipeline {
    pipeline([step(name)])
}

fn of_tenant(w: &mut World, name: &str, tenant: &str) -> RunId {
    w.runs_with(&one(name), |context| context.terms.tenant = tenant.into())
}

/// What the only agent executes.
fn now(w: &World) -> String {
    let mut names = w.executing().map(|(_, spec)| spec.name.to_string());
    names.next().unwrap_or_default()
}

/// Everything passes, one after another: in which order.
fn order(w: &mut World) -> Vec<String> {
    let mut order = Vec::new();
    while !now(w).is_empty() {
        order.push(now(w));
        let name = now(w);
        w.passes(&name);
    }
    order
}

#[test]
fn a_tenant_with_many_runs_does_not_keep_another_waiting() {
    let mut w = World::serving([]);
    for at in 0..3 {
        of_tenant(&mut w, &format!("big{at}"), "big");
        w.pass(SECOND);
    }
    of_tenant(&mut w, "small0", "small");
    of_tenant(&mut w, "small1", "small");
    w.joins("a1", 2);
    let mut both: Vec<String> = w.executing().map(|(_, spec)| spec.name.to_string()).collect();
    both.sort();
    assert_eq!(both, ["big0", "small0"], "one slot each");
    w.passes("big0");
    let mut both: Vec<String> = w.executing().map(|(_, spec)| spec.name.to_string()).collect();
    both.sort();
    assert_eq!(both, ["big1", "small0"]);
    w.passes("small0");
    let mut both: Vec<String> = w.executing().map(|(_, spec)| spec.name.to_string()).collect();
    both.sort();
    assert_eq!(both, ["big1", "small1"]);
}

#[test]
fn a_higher_priority_goes_first_and_waiting_makes_up_for_a_lower_one() {
    let mut w = World::serving([]);
    let with =
        |w: &mut World, name: &str, priority: i32| w.runs_with(&one(name), |context| context.terms.priority = priority);
    with(&mut w, "low", -10);
    with(&mut w, "usual", 0);
    with(&mut w, "high", 10);
    w.pass(Duration::from_secs(15 * 60));
    // Fifteen minutes are worth fifteen points.
    with(&mut w, "late-high", 10);
    with(&mut w, "late-usual", 0);
    w.joins("a1", 1);
    assert_eq!(order(&mut w), ["high", "usual", "late-high", "low", "late-usual"]);
}

#[test]
fn a_run_changes_its_place_and_the_reason_says_where_it_is() {
    let mut w = World::serving([]);
    w.runs(&one("first"));
    w.pass(SECOND);
    w.runs(&one("second"));
    w.pass(SECOND);
    let third = w.runs(&one("third"));
    w.joins("a1", 1);
    w.sees("third", "waits for a free slot: 1 of 1 busy with `first`; 1 step goes before it");
    w.give(Input::Prioritised { run: third.clone(), priority: 200, by: "user:anna".into() });
    w.sees("third", "waits for a free slot: 1 of 1 busy with `first`; its priority is 100");
    w.give(Input::Prioritised { run: third, priority: 100, by: "user:anna".into() });
    assert_eq!(w.because(), ["the run has priority 100 already"]);
    w.fails_over();
    w.comes_back("a1", 1);
    assert_eq!(order(&mut w), ["first", "third", "second"]);
}

#[test]
fn a_run_that_must_start_soon_goes_before_those_that_need_not() {
    let mut w = World::serving([]);
    w.runs(&one("usual"));
    w.pass(SECOND);
    let mut soon = one("soon");
    soon.sla = Some(Sla { start_within: Some(30 * SECOND), finish_within: None });
    w.runs(&soon);
    w.joins("a1", 1);
    assert_eq!(order(&mut w), ["soon", "usual"]);
}

#[test]
fn a_step_runs_on_an_agent_that_has_all_its_labels() {
    let mut w = World::serving(["plain"]);
    w.runs(&pipeline([step("train").runs_on(&["gpu", "linux"]), step("test")]));
    w.sees("test", "running on plain");
    w.sees("train", "waits for an agent with `gpu`, `linux`: no agent has `gpu`, `linux`");
    w.joins_labelled("half", 1, &["linux"]);
    w.sees("train", "waits for an agent with `gpu`, `linux`: no agent has `gpu`");
    w.joins_labelled("other", 1, &["gpu"]);
    w.sees("train", "waits for an agent with `gpu`, `linux`: no agent has all of them");
    w.joins_labelled("both", 1, &["arm", "gpu", "linux"]);
    w.sees("train", "running on both");
}

#[test]
fn labels_of_a_matrix_are_rendered_for_each_cell() {
    let mut w = World::serving([]);
    w.push("name: p\nsteps: [{ id: t, cmd: make, matrix: { os: [linux, mac] }, runs_on: [\"${{ matrix.os }}\"] }]");
    w.joins_labelled("m1", 4, &["mac"]);
    w.sees("t[os=mac]", "running on m1");
    w.sees("t[os=linux]", "waits for an agent with `linux`: no agent has `linux`");
}

#[test]
fn a_desk_has_one_agent_and_does_not_look_at_labels() {
    let mut w = World::with_agents(["local"]);
    w.runs(&pipeline([step("train").runs_on(&["gpu"])]));
    w.sees("train", "running on local");
}

#[test]
fn a_paused_agent_gets_nothing_new_and_says_so() {
    let mut w = World::serving([]);
    w.joins_labelled("g1", 1, &["gpu"]);
    w.give(Input::AgentPaused { agent: "g1".into(), paused: true });
    w.runs(&pipeline([step("train").runs_on(&["gpu"])]));
    w.sees("train", "waits for an agent with `gpu`: g1 is paused");
    w.give(Input::AgentPaused { agent: "g1".into(), paused: false });
    w.sees("train", "running on g1");
}

#[test]
fn thirty_thousand_runs_leave_nothing_behind() {
    let mut world = engine::World::with_leases_of(World::LEASE);
    let mut w = World::serving([]);
    let mut one = one("t");
    one.sla = Some(Sla { start_within: Some(SECOND), finish_within: Some(SECOND) });
    one.concurrency =
        Some(model::Concurrency { group: model::expr::Template::plain("g"), policy: model::ConcurrencyPolicy::Queue });
    w.runs(&one);
    let plan = w.engine().runs().next().expect("there is one").plan().clone();
    let capacity = model::Capacity { slots: 1, cpu_milli: 1000, memory: 1 << 30 };
    let give = |world: &mut engine::World, input: Input, at: u64| {
        let decision = engine::decide(world, &input, model::Timestamp(at));
        world.take(&input, &decision).expect("it fits");
        decision
    };
    let agent = model::AgentId::from("a1");
    give(&mut world, Input::AgentJoined { agent: agent.clone(), capacity, labels: Default::default() }, 0);
    let empty = format!("{world:?}").len();
    for at in 0..30_000u64 {
        let mut plan = model::Plan::clone(&plan);
        plan.context.run = RunId::new(format!("run{at}"));
        let run = plan.context.run.clone();
        let asked = give(&mut world, Input::RunRequested { plan: plan.into() }, at);
        let Some(model::Command::Execute { spec, .. }) = asked.commands.first() else { panic!("it is free") };
        let result = model::AttemptResult::ended(model::AttemptEnd::Succeeded).into();
        let (node, attempt, fence) = (spec.node, spec.attempt, spec.fence);
        give(&mut world, Input::AttemptFinished { run: run.clone(), node, attempt, fence, result }, at);
        assert!(world.forget(&run), "it has ended");
    }
    let left = format!("{world:?}").len();
    assert!(left < empty + 100, "{empty} characters described it before, {left} after");
}
