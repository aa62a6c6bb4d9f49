//! Random pipelines, random agents, random accidents: the invariants hold after every input, and every run ends.

use std::sync::Arc;
use std::time::Duration;

use engine::{RunPhase, invariant};
use model::expr::Template;
use model::{
    AttemptEnd, AttemptResult, Capacity, Cause, Concurrency, ConcurrencyPolicy, Input, OnFailure, Pipeline, RetryOn,
    When,
};
use proptest::prelude::*;
use testkit::{StepBuilder, World, pipeline, step};

/// What a random step is made of; its dependencies are among the steps before it.
#[derive(Clone, Debug)]
struct Shape {
    needs: Vec<prop::sample::Index>,
    kind: u8,
    when: u8,
    attempts: u16,
    cells: usize,
    shards: u32,
    allow_failure: bool,
    skipped: bool,
    cpu: Option<u32>,
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Act {
    Pass(prop::sample::Index),
    Fail(prop::sample::Index, i32),
    Lose(prop::sample::Index),
    Expand(prop::sample::Index, u8),
    Repeat(prop::sample::Index, bool),
    Vanish(u8),
    Join(u8, u32),
    Cancel(prop::sample::Index, bool),
    Time(u32),
    Run,
    Tick,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        0u8..12,
        0u8..8,
        1u16..4,
        1usize..4,
        1u32..3,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.1),
        prop::option::weighted(0.3, 0u32..6000),
    );
    let shape = shape.prop_map(|(needs, kind, when, attempts, cells, shards, allow_failure, skipped, cpu)| Shape {
        needs,
        kind,
        when,
        attempts,
        cells,
        shards,
        allow_failure,
        skipped,
        cpu,
    });
    prop::collection::vec(shape, 1..14)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let at = any::<prop::sample::Index>;
    let act = prop_oneof![
        8 => at().prop_map(Act::Pass),
        3 => (at(), 0i32..3).prop_map(|(at, code)| Act::Fail(at, code)),
        1 => at().prop_map(Act::Lose),
        4 => (at(), any::<u8>()).prop_map(|(at, made)| Act::Expand(at, made)),
        2 => (at(), any::<bool>()).prop_map(|(at, good)| Act::Repeat(at, good)),
        1 => (0u8..3).prop_map(Act::Vanish),
        2 => (0u8..3, 0u32..4).prop_map(|(agent, slots)| Act::Join(agent, slots)),
        1 => (at(), prop::bool::weighted(0.3)).prop_map(|(at, force)| Act::Cancel(at, force)),
        3 => (0u32..90_000).prop_map(Act::Time),
        1 => Just(Act::Run),
        1 => Just(Act::Tick),
    ];
    prop::collection::vec(act, 0..80)
}

fn random(shapes: &[Shape], group: Option<ConcurrencyPolicy>) -> Pipeline {
    let mut random = pipeline(shapes.iter().enumerate().map(|(at, shape)| random_step(at, shape)));
    random.concurrency = group.map(|policy| Concurrency { group: Template::plain("g"), policy });
    random
}

fn random_step(at: usize, shape: &Shape) -> StepBuilder {
    let mut needs: Vec<String> =
        shape.needs.iter().filter(|_| at > 0).map(|need| format!("s{}", need.index(at.max(1)))).collect();
    needs.sort();
    needs.dedup();
    let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
    let mut made = step(&format!("s{at}")).after(&needs).retry(shape.attempts, &[RetryOn::Any]).shards(shape.shards);
    made = made.timeout(Duration::from_secs(60));
    made = match shape.kind {
        0 => made.expand("x.yaml"),
        1 => made.group().shards(1),
        2 => made.approve().allow_failure(),
        _ => made,
    };
    made = match shape.when {
        0 => made.when(When::Always),
        1 => made.when(When::Failure),
        _ => made,
    };
    if shape.cells > 1 && shape.kind > 2 {
        made = made.matrix("m", &["a", "b", "c"][..shape.cells]).scope("u");
    }
    made = if shape.allow_failure { made.allow_failure() } else { made };
    made = if shape.skipped { made.only_if(testkit::no()) } else { made };
    shape.cpu.map_or(made.clone(), |cpu| made.cpu(cpu))
}

fn act(w: &mut World, act: &Act, pipeline: &Pipeline) {
    let executing: Vec<_> = w.executing().map(|(_, spec)| spec.clone()).collect();
    let answer = |w: &mut World, at: &prop::sample::Index, end: AttemptEnd| {
        if !executing.is_empty() {
            let spec = &executing[at.index(executing.len())];
            w.forgets(spec.fence);
            w.reports(spec, AttemptResult::ended(end));
        }
    };
    match act {
        Act::Pass(at) => answer(w, at, AttemptEnd::Succeeded),
        Act::Fail(at, 0) => answer(w, at, AttemptEnd::Cancelled),
        Act::Fail(at, code) => answer(w, at, AttemptEnd::Failed(Cause::Exit(*code))),
        Act::Lose(at) => answer(w, at, AttemptEnd::Failed(Cause::Refused("no".into()))),
        Act::Expand(at, made) => expand(w, at, *made),
        Act::Repeat(at, good) => repeat(w, at, *good),
        Act::Vanish(agent) => w.vanishes(&format!("a{agent}")),
        Act::Join(agent, slots) => {
            w.joins_with(&format!("a{agent}"), Capacity { slots: *slots, cpu_milli: 4000, memory: 1 << 30 });
        }
        Act::Cancel(at, force) => {
            let runs: Vec<_> = w.engine().runs().map(|run| run.id().clone()).collect();
            let run = runs[at.index(runs.len())].clone();
            w.give(Input::CancelRequested { run, by: "somebody".into(), force: *force });
        }
        Act::Time(ms) => w.pass(Duration::from_millis(u64::from(*ms))),
        Act::Run if w.engine().runs().count() < 4 => drop(w.runs(pipeline)),
        Act::Run | Act::Tick => drop(w.give(Input::Tick)),
    }
}

/// An `expand` attempt answers with a text that says a few steps.
fn expand(w: &mut World, at: &prop::sample::Index, made: u8) {
    let reading: Vec<_> = w
        .executing()
        .filter(|(_, spec)| matches!(spec.work, model::Work::ReadFile(_)))
        .map(|(_, spec)| spec.clone())
        .collect();
    if reading.is_empty() {
        return;
    }
    let spec = &reading[at.index(reading.len())];
    let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
    result.text = Some(String::new());
    w.forgets(spec.fence);
    w.reports(spec, result);
    let id = w.engine().run(&spec.run).expect("it is known").plan().step(spec.node).id.clone();
    let steps: Vec<Arc<model::Step>> = (0..made % 4)
        .map(|nth| {
            let inner = step(&format!("{id}.{nth}")).retry(2, &[]);
            let inner = if nth > 0 { inner.after(&[&format!("{id}.0")]) } else { inner };
            if made % 5 == nth { inner.expand("y.yaml").build() } else { inner.build() }
        })
        .collect();
    let steps = if made == 255 { Err("error: no".to_string()) } else { Ok(steps) };
    w.give(Input::Expanded { run: spec.run.clone(), node: spec.node, fence: spec.fence, steps });
}

/// An old answer comes again, or an answer that contradicts it: nothing may come of it.
fn repeat(w: &mut World, at: &prop::sample::Index, good: bool) {
    let fences: Vec<_> = w.executing().map(|(_, spec)| spec.fence).collect();
    let old: Vec<_> = w.attempts().iter().filter(|spec| !fences.contains(&spec.fence)).cloned().collect();
    if !old.is_empty() {
        let end = if good { AttemptEnd::Succeeded } else { AttemptEnd::Failed(Cause::Exit(1)) };
        w.reports(&old[at.index(old.len())], AttemptResult::ended(end));
    }
}

/// From here on an agent is there and everything passes: then every run must end.
fn play_out(w: &mut World) {
    w.joins("last", 8);
    for _ in 0..2000 {
        if w.engine().runs().all(|run| matches!(run.phase(), RunPhase::Ended { .. })) {
            return;
        }
        let Some(spec) = w.executing().next().map(|(_, spec)| spec.clone()) else {
            w.pass(Duration::from_secs(600));
            continue;
        };
        w.forgets(spec.fence);
        w.reports(&spec, AttemptResult::ended(AttemptEnd::Succeeded));
    }
    panic!("a run never ends\n{}", w.timeline());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn invariants_hold_and_every_run_ends(
        shapes in shapes(),
        acts in acts(),
        policy in prop::option::of(prop_oneof![Just(ConcurrencyPolicy::Queue), Just(ConcurrencyPolicy::CancelRunning)]),
        on_failure in prop_oneof![Just(OnFailure::Stop), Just(OnFailure::KeepGoing), Just(OnFailure::FailFast)],
    ) {
        let pipeline = random(&shapes, policy);
        let mut w = World::with_agents([]);
        w.joins_with("a0", Capacity { slots: 2, cpu_milli: 4000, memory: 1 << 30 });
        w.runs_with(&pipeline, |context| context.on_failure = on_failure);
        for one in &acts {
            act(&mut w, one, &pipeline);
        }
        play_out(&mut w);
        invariant::replay_equals(w.engine(), w.facts()).map_err(TestCaseError::fail)?;
    }
}
