//! How fast the engine decides: prints decisions and tasks a second, bytes a waiting step, planning time, peak memory.
//!
//! `cargo run --release -p paceline-engine --example decisions`. Times are CPU time of one core. A *decision* is one `decide` with
//! its facts folded into the world, and all inputs of a run are counted: its request, the agent, and each report, by which one
//! step ends and others become ready and are leased. A *task* is a step's whole life (ready, leased, reported, ended: four
//! facts), without the request. Ticks and late reports, which cost next to nothing, are in neither; they stand apart as idle.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use engine::{World, decide};
use model::expr::Template;
use model::*;

/// Counts what is allocated. (`unsafe` because `GlobalAlloc` is; it only passes on to the system's.)
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
/// Counting costs as much as allocating: it is off while time is measured.
static ON: AtomicBool = AtomicBool::new(false);

#[expect(unsafe_code, reason = "an allocator can only be written so")]
// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if ON.load(Relaxed) {
            PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        }
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if ON.load(Relaxed) {
            NOW.fetch_sub(layout.size(), Relaxed);
        }
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const STEPS: usize = 10_000;
const SLOTS: u32 = 64;
const ROUNDS: usize = 5;

fn main() {
    let rounds: Vec<Numbers> = (0..ROUNDS).map(|_| measure()).collect();
    ON.store(true, Relaxed);
    let counted = measure();
    let median = |number: fn(&Numbers) -> f64| {
        let mut numbers: Vec<f64> = rounds.iter().map(number).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[ROUNDS / 2]
    };
    println!("graph: {STEPS} steps, {} edges, {SLOTS} slots; medians of {ROUNDS} rounds", edges(&graph()));
    println!("plan                 {:>12.1} ms", median(|n| n.plan_ms));
    println!(
        "decisions            {:>12.0} /s  (over all inputs of a run, its request among them)",
        median(|n| n.decisions)
    );
    println!("tasks                {:>12.0} /s  (one decide + fold: a step's whole life)", median(|n| n.tasks));
    println!("idle decisions       {:>12.0} /s  (ticks and late reports, nothing due)", median(|n| n.idle));
    println!("facts                {:>12.0} /s", median(|n| n.facts));
    println!("waiting step, state  {:>12.0} B  (the world beside the plan)", counted.state_bytes);
    println!("waiting step, all    {:>12.0} B  (state and plan, without the pipeline's own texts)", counted.all_bytes);
    println!("one task             {:>12.2} µs", median(|n| n.decision_us));
    println!("peak memory          {:>12.1} MB", PEAK.load(Relaxed) as f64 / 1e6);
}

/// CPU time of this thread: other processes on the machine do not change it.
struct Cpu(Duration);

impl Cpu {
    fn now() -> Cpu {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Cpu(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
    fn elapsed(&self) -> Duration {
        Cpu::now().0.saturating_sub(self.0)
    }
}

struct Numbers {
    plan_ms: f64,
    decisions: f64,
    idle: f64,
    tasks: f64,
    facts: f64,
    state_bytes: f64,
    all_bytes: f64,
    decision_us: f64,
}

fn measure() -> Numbers {
    let pipeline = graph();
    let empty = NOW.load(Relaxed);
    let start = Cpu::now();
    let plan = Arc::new(engine::plan(&pipeline, context()).expect("the graph is sound"));
    let plan_ms = start.elapsed().as_secs_f64() * 1e3;
    let planned = NOW.load(Relaxed);
    let run = plan.context.run.clone();
    let mut world = World::new();
    let requested = Cpu::now();
    step_world(&mut world, &Input::RunRequested { plan }, Timestamp(0));
    let request = requested.elapsed();
    let waiting = NOW.load(Relaxed);

    let mut open = Vec::new();
    let capacity = Capacity { slots: SLOTS, cpu_milli: 64_000, memory: 1 << 40 };
    let joining = Cpu::now();
    let joined = step_world(
        &mut world,
        &Input::AgentJoined { agent: "a".into(), capacity, labels: Labels::new() },
        Timestamp(1),
    );
    let first = request + joining.elapsed();
    open.extend(joined.commands);
    let result = Arc::new(AttemptResult::ended(AttemptEnd::Succeeded));
    let (mut facts, mut tasks) = (0usize, 0usize);
    let start = Cpu::now();
    while let Some(command) = open.pop() {
        let Command::Execute { spec, .. } = command else { continue };
        let input = Input::AttemptFinished {
            run: run.clone(),
            node: spec.node,
            attempt: spec.attempt,
            fence: spec.fence,
            result: result.clone(),
        };
        let decision = step_world(&mut world, &input, Timestamp(2 + tasks as u64));
        (facts, tasks) = (facts + decision.events.len(), tasks + 1);
        open.extend(decision.commands);
    }
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(tasks, STEPS, "every step ran");
    let idle = idle(&pipeline);
    Numbers {
        plan_ms,
        decisions: (tasks + 2) as f64 / (seconds + first.as_secs_f64()),
        idle,
        tasks: tasks as f64 / seconds,
        facts: facts as f64 / seconds,
        state_bytes: (waiting.saturating_sub(planned)) as f64 / STEPS as f64,
        all_bytes: (waiting.saturating_sub(empty)) as f64 / STEPS as f64,
        decision_us: seconds * 1e6 / tasks as f64,
    }
}

/// Decisions about ticks and late reports in a full house: most of what a busy server decides.
fn idle(pipeline: &Pipeline) -> f64 {
    let mut world = World::new();
    let plan = Arc::new(engine::plan(pipeline, context()).expect("the graph is sound"));
    let run = plan.context.run.clone();
    step_world(&mut world, &Input::RunRequested { plan }, Timestamp(0));
    let capacity = Capacity { slots: SLOTS, cpu_milli: 64_000, memory: 1 << 40 };
    step_world(&mut world, &Input::AgentJoined { agent: "a".into(), capacity, labels: Labels::new() }, Timestamp(1));
    let result = Arc::new(AttemptResult::ended(AttemptEnd::Succeeded));
    let late = Input::AttemptFinished { run, node: NodeIx(0), attempt: AttemptNo(1), fence: Fence(u64::MAX), result };
    const TIMES: usize = 100_000;
    let start = Cpu::now();
    for at in 0..TIMES {
        let input = if at % 2 == 0 { &Input::Tick } else { &late };
        assert!(step_world(&mut world, input, Timestamp(2)).events.is_empty());
    }
    TIMES as f64 / start.elapsed().as_secs_f64()
}

fn step_world(world: &mut World, input: &Input, now: Timestamp) -> Decision {
    let decision = decide(world, input, now);
    world.take(input, &decision).expect("a decision fits its world");
    decision
}

/// Each step needs two of the hundred before it: 10,000 steps and about 20,000 edges, from a fixed seed.
fn graph() -> Pipeline {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut dice = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let mut steps = Vec::with_capacity(STEPS);
    for at in 0..STEPS {
        let reach = at.min(100);
        let mut needs = BTreeSet::new();
        while needs.len() < reach.min(2) {
            needs.insert(at - 1 - dice(reach));
        }
        steps.push(step(at, needs.into_iter().map(|need| StepId::new(format!("s{need}"))).collect()));
    }
    Pipeline {
        name: "many".into(),
        on: Triggers::default(),
        params: BTreeMap::new(),
        env: BTreeMap::new(),
        concurrency: None,
        sla: None,
        steps,
        hash_calls: BTreeSet::new(),
        env_calls: BTreeSet::new(),
    }
}

fn edges(pipeline: &Pipeline) -> usize {
    pipeline.steps.iter().map(|step| step.depends_on.len()).sum()
}

fn step(at: usize, depends_on: Vec<StepId>) -> Arc<Step> {
    let command = CmdStep::new(Template::plain("echo hello"));
    Arc::new(Step {
        id: StepId::new(format!("s{at}")),
        span: Span::default(),
        scope: None,
        kind: StepKind::Cmd(Box::new(command)),
        depends_on,
        when: When::Success,
        condition: None,
        allow_failure: false,
        matrix: None,
        shards: 1,
        retry: Retry::default(),
        timeout: Timeout { total: Some(Duration::from_secs(600)), idle: None },
        resources: Resources::default(),
        runs_on: Vec::new(),
    })
}

fn context() -> RunContext {
    RunContext {
        run: RunId::from("run"),
        number: RunNumber(1),
        trigger: Trigger::default(),
        params: BTreeMap::new(),
        hashes: BTreeMap::new(),
        caller_env: BTreeMap::new(),
        estimates: BTreeMap::new(),
        selection: Selection::default(),
        on_failure: OnFailure::Stop,
        terms: Terms::default(),
    }
}
