//! A server in a storm: agents vanish, come back and lie, servers fail over, clocks jump, people approve, cancel,
//! prioritise and repeat. The invariants hold after every input, every run ends, and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use engine::again::Which;
use engine::{RunPhase, StepState, invariant};
use model::expr::Template;
use model::{
    AttemptEnd, AttemptNo, AttemptResult, Cause, Concurrency, ConcurrencyPolicy, Fence, Held, Input, NodeIx, Pipeline,
    RetryOn, RunId, Sla,
};
use proptest::prelude::*;
use proptest::sample::Index;
use testkit::{World, pipeline, step};

/// What a random step is; it depends on some of those before it.
#[derive(Clone, Debug)]
struct Shape {
    needs: Vec<Index>,
    kind: u8,
    gpu: bool,
    attempts: u16,
}

#[derive(Clone, Debug)]
enum Act {
    End(Index, u8),
    Late(Index),
    Beat(u8),
    Lie(u8, u64),
    Part(u8),
    Back(u8, u32),
    Die(u8),
    Leave(u8),
    Pause(u8, bool),
    FailOver,
    Time(u32),
    Jump(u32),
    Tick,
    Answer(Index, bool),
    Release(Index),
    Prioritise(Index, i32),
    Cancel(Index, bool),
    Run(u8),
    Again(Index, u8),
    Forget,
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let shape = (prop::collection::vec(any::<Index>(), 0..3), 0u8..10, prop::bool::weighted(0.2), 1u16..3);
    let shape = shape.prop_map(|(needs, kind, gpu, attempts)| Shape { needs, kind, gpu, attempts });
    prop::collection::vec(shape, 1..8)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let at = any::<Index>;
    let act = prop_oneof![
        8 => (at(), 0u8..6).prop_map(|(at, how)| Act::End(at, how)),
        2 => at().prop_map(Act::Late),
        4 => (0u8..3).prop_map(Act::Beat),
        1 => (0u8..3, 0u64..40).prop_map(|(agent, fence)| Act::Lie(agent, fence)),
        1 => (0u8..3).prop_map(Act::Part),
        3 => (0u8..3, 0u32..4).prop_map(|(agent, slots)| Act::Back(agent, slots)),
        1 => (0u8..3).prop_map(Act::Die),
        1 => (0u8..3).prop_map(Act::Leave),
        1 => (0u8..3, any::<bool>()).prop_map(|(agent, paused)| Act::Pause(agent, paused)),
        1 => Just(Act::FailOver),
        3 => (0u32..40_000).prop_map(Act::Time),
        1 => (0u32..100_000).prop_map(Act::Jump),
        1 => Just(Act::Tick),
        2 => (at(), prop::bool::weighted(0.7)).prop_map(|(at, yes)| Act::Answer(at, yes)),
        1 => at().prop_map(Act::Release),
        1 => (at(), -150i32..150).prop_map(|(at, priority)| Act::Prioritise(at, priority)),
        1 => (at(), prop::bool::weighted(0.3)).prop_map(|(at, force)| Act::Cancel(at, force)),
        2 => any::<u8>().prop_map(Act::Run),
        1 => (at(), 0u8..3).prop_map(|(at, which)| Act::Again(at, which)),
        1 => Just(Act::Forget),
    ];
    prop::collection::vec(act, 0..100)
}

fn random(shapes: &[Shape], policy: Option<ConcurrencyPolicy>) -> Pipeline {
    let mut random = pipeline(shapes.iter().enumerate().map(|(at, shape)| {
        let mut needs: Vec<String> =
            shape.needs.iter().filter(|_| at > 0).map(|need| format!("s{}", need.index(at.max(1)))).collect();
        needs.sort();
        needs.dedup();
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let made = step(&format!("s{at}")).after(&needs).timeout(Duration::from_secs(600));
        let made = made.retry(shape.attempts, &[RetryOn::Any]);
        let made = if shape.gpu { made.runs_on(&["gpu"]) } else { made };
        match shape.kind {
            0 | 1 => made.approve(),
            2 => made.allow_failure(),
            3 => made.when(model::When::Always),
            _ => made,
        }
    }));
    random.concurrency = policy.map(|policy| Concurrency { group: Template::plain("g"), policy });
    random.sla =
        Some(Sla { start_within: Some(Duration::from_secs(20)), finish_within: Some(Duration::from_secs(90)) });
    random
}

fn name(agent: u8) -> String {
    format!("a{agent}")
}

fn any_run(w: &World, at: &Index) -> Option<RunId> {
    let runs: Vec<RunId> = w.engine().runs().map(|run| run.id().clone()).collect();
    (!runs.is_empty()).then(|| runs[at.index(runs.len())].clone())
}

fn asking(w: &World) -> Vec<(RunId, NodeIx)> {
    let asks = |state: &StepState| matches!(state, StepState::Asking { .. });
    let runs = w.engine().runs();
    runs.flat_map(|run| run.steps().filter(|(_, state)| asks(state)).map(|(node, _)| (run.id().clone(), node)))
        .collect()
}

fn act(w: &mut World, act: &Act, pipeline: &Pipeline, asked: &mut u64) {
    match act {
        Act::End(at, how) => end(w, at, *how),
        Act::Late(at) => {
            let all = w.attempts();
            if !all.is_empty() {
                let old: Arc<_> = all[at.index(all.len())].clone();
                w.forgets(old.fence);
                w.reports(&old, AttemptResult::ended(AttemptEnd::Succeeded));
            }
        }
        Act::Beat(agent) => w.beats(&name(*agent)),
        Act::Lie(agent, fence) => {
            let Some(run) = w.engine().runs().next().map(|run| run.id().clone()) else { return };
            let held = vec![Held { run, node: NodeIx(0), attempt: AttemptNo(1), fence: Fence(*fence) }];
            let agent = name(*agent).as_str().into();
            w.give(Input::Heartbeat { agent, held });
        }
        Act::Part(agent) => w.parts(&name(*agent)),
        Act::Back(agent, slots) => w.comes_back(&name(*agent), *slots),
        Act::Die(agent) => w.dies(&name(*agent)),
        Act::Leave(agent) => w.vanishes(&name(*agent)),
        Act::Pause(agent, paused) => {
            w.give(Input::AgentPaused { agent: name(*agent).as_str().into(), paused: *paused });
        }
        Act::FailOver => w.fails_over(),
        Act::Time(ms) => w.pass(Duration::from_millis(u64::from(*ms))),
        Act::Jump(seconds) => w.clock_jumps_to(Duration::from_secs(u64::from(*seconds))),
        Act::Tick => drop(w.give(Input::Tick)),
        Act::Answer(at, approved) => {
            let asking = asking(w);
            if !asking.is_empty() {
                let (run, node) = asking[at.index(asking.len())].clone();
                w.give(Input::Answered { run, node, by: "user:x".into(), approved: *approved, comment: String::new() });
            }
        }
        Act::Release(at) => {
            if let Some(run) = any_run(w, at) {
                w.give(Input::Released { run, by: "user:x".into() });
            }
        }
        Act::Prioritise(at, priority) => {
            if let Some(run) = any_run(w, at) {
                w.give(Input::Prioritised { run, priority: *priority, by: "user:x".into() });
            }
        }
        Act::Cancel(at, force) => {
            if let Some(run) = any_run(w, at) {
                w.give(Input::CancelRequested { run, by: "user:x".into(), force: *force });
            }
        }
        Act::Run(what) if *asked < 6 => {
            *asked += 1;
            let id = RunId::new(format!("n{asked}"));
            w.runs_with(pipeline, |context| {
                context.run = id;
                context.terms.tenant = ["", "x", "y"][usize::from(what % 3)].into();
                context.terms.held = (what % 5 == 0).then(String::new);
                context.terms.priority = i32::from(*what) - 128;
            });
        }
        Act::Again(at, which) if *asked < 6 => {
            let which = [Which::All, Which::Failed, Which::From("s0".into())][usize::from(*which)].clone();
            let Some(run) = any_run(w, at) else { return };
            *asked += 1;
            // It may not have ended, or nothing failed.
            let _ = w.again_as(&run, &which, &format!("n{asked}"));
        }
        Act::Run(_) | Act::Again(..) => {}
        Act::Forget => w.forgets_ended(),
    }
}

fn end(w: &mut World, at: &Index, how: u8) {
    let executing: Vec<_> = w.executing().map(|(_, spec)| spec.clone()).collect();
    if executing.is_empty() {
        return;
    }
    let spec = &executing[at.index(executing.len())];
    w.forgets(spec.fence);
    let end = match how {
        0 => AttemptEnd::Failed(Cause::Exit(1)),
        1 => AttemptEnd::Cancelled,
        _ => AttemptEnd::Succeeded,
    };
    w.reports(spec, AttemptResult::ended(end));
}

/// The storm is over: an agent that can do all is there and stays, everybody says yes, everything passes.
fn calm(w: &mut World) {
    (0..3).for_each(|agent| w.vanishes(&name(agent)));
    for _ in 0..3000 {
        w.joins_labelled("last", 8, &["gpu"]);
        let open: Vec<(RunId, RunPhase)> = w.engine().runs().map(|run| (run.id().clone(), run.phase())).collect();
        if open.iter().all(|(_, phase)| matches!(phase, RunPhase::Ended { .. })) {
            return;
        }
        for (run, _) in open.into_iter().filter(|(_, phase)| *phase == RunPhase::Held) {
            w.give(Input::Released { run, by: "user:x".into() });
        }
        for (run, node) in asking(w) {
            w.give(Input::Answered { run, node, by: "user:x".into(), approved: true, comment: String::new() });
        }
        let next = w.executing().next().map(|(_, spec)| spec.clone());
        match next {
            Some(spec) => {
                w.forgets(spec.fence);
                w.reports(&spec, AttemptResult::ended(AttemptEnd::Succeeded));
            }
            None => w.pass(Duration::from_secs(10)),
        }
    }
    panic!("a run never ends\n{}", w.timeline());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_server_loses_nothing_in_a_storm(
        shapes in shapes(),
        acts in acts(),
        policy in prop::option::of(prop_oneof![
            Just(ConcurrencyPolicy::Queue),
            Just(ConcurrencyPolicy::CancelRunning),
            Just(ConcurrencyPolicy::CancelQueued),
        ]),
    ) {
        let pipeline = random(&shapes, policy);
        let mut w = World::serving(["a0"]);
        let mut asked = 0;
        act(&mut w, &Act::Run(1), &pipeline, &mut asked);
        for one in &acts {
            act(&mut w, one, &pipeline, &mut asked);
        }
        calm(&mut w);
        w.forgets_ended();
        invariant::is_empty(w.engine()).map_err(TestCaseError::fail)?;
    }
}
