//! A fleet of 10,000 agents, and a million runs: prints heartbeats, leases and runs a second, and what is left in memory.
//!
//! `cargo run --release -p paceline-engine --example fleet`. Times are CPU time of one core; nothing is stored or sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use engine::{World, decide};
use model::expr::Template;
use model::*;

const AGENTS: u64 = 10_000;
const SLOTS: u32 = 4;
const TTL: Duration = Duration::from_secs(30);
const RUNS: u64 = 1_000_000;

fn main() {
    let mut world = World::with_leases_of(TTL);
    (0..AGENTS).for_each(|at| drop(give(&mut world, &join(at), at)));
    let (leases, time, mut open) = fill(&mut world);
    println!("{AGENTS} agents of {SLOTS} slots with labels, one decision each for a run of one step");
    println!("leases        {:>12.0} /s  ({leases} until every slot is taken)", leases as f64 / time);
    println!(
        "heartbeats    {:>12.0} /s  (each names its {SLOTS} leases; 10,000 agents send 2,000)",
        beats(&mut world, &open)
    );
    let (runs, time) = turn_over(&mut world, &mut open);
    println!(
        "runs          {:>12.0} /s  (reported, ended, forgotten, the next one asked for and leased)",
        runs as f64 / time
    );
    println!("left behind   {:>12} runs in the world after {RUNS} more", trivial());
}

struct Cpu(Duration);

impl Cpu {
    fn now() -> Cpu {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Cpu(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
    fn seconds(&self) -> f64 {
        Cpu::now().0.saturating_sub(self.0).as_secs_f64()
    }
}

fn give(world: &mut World, input: &Input, at: u64) -> Decision {
    let decision = decide(world, input, Timestamp(at));
    world.take(input, &decision).expect("a decision fits its world");
    decision
}

fn join(at: u64) -> Input {
    let capacity = Capacity { slots: SLOTS, cpu_milli: 4000, memory: 8 << 30 };
    let labels = ["linux".to_owned(), "x86_64".to_owned(), format!("zone{}", at % 10)].into();
    Input::AgentJoined { agent: AgentId::new(format!("agent{at}")), capacity, labels }
}

/// One run after another until every slot is taken.
fn fill(world: &mut World) -> (u64, f64, VecDeque<(AgentId, Arc<AttemptSpec>)>) {
    let plans: Vec<Input> = (0..AGENTS * u64::from(SLOTS)).map(|at| request(&one_step(), at)).collect();
    let mut open = VecDeque::with_capacity(plans.len());
    let start = Cpu::now();
    for (at, input) in (0..).zip(&plans) {
        open.extend(executes(give(world, input, AGENTS + at)));
    }
    (open.len() as u64, start.seconds(), open)
}

fn executes(decision: Decision) -> impl Iterator<Item = (AgentId, Arc<AttemptSpec>)> {
    decision.commands.into_iter().filter_map(|command| match command {
        Command::Execute { agent, spec } => Some((agent, spec)),
        _ => None,
    })
}

fn beats(world: &mut World, open: &VecDeque<(AgentId, Arc<AttemptSpec>)>) -> f64 {
    let mut held: BTreeMap<AgentId, Vec<Held>> = BTreeMap::new();
    for (agent, spec) in open {
        let lease = Held { run: spec.run.clone(), node: spec.node, attempt: spec.attempt, fence: spec.fence };
        held.entry(agent.clone()).or_default().push(lease);
    }
    let beats: Vec<Input> = held.into_iter().map(|(agent, held)| Input::Heartbeat { agent, held }).collect();
    let start = Cpu::now();
    for round in 0..10 {
        for input in &beats {
            let decision = give(world, input, 1_000_000 * (round + 1));
            assert!(decision.events.is_empty() && decision.commands.is_empty(), "all is well");
        }
    }
    beats.len() as f64 * 10.0 / start.seconds()
}

/// Every attempt ends, and a new run takes its place, in a full house.
fn turn_over(world: &mut World, open: &mut VecDeque<(AgentId, Arc<AttemptSpec>)>) -> (u64, f64) {
    const TURNS: u64 = 50_000;
    let plan = one_step();
    let plans: Vec<Input> = (0..TURNS).map(|at| request(&plan, 1_000_000 + at)).collect();
    let result = Arc::new(AttemptResult::ended(AttemptEnd::Succeeded));
    let start = Cpu::now();
    for (at, input) in (20_000_000..).zip(&plans) {
        let (_, spec) = open.pop_front().expect("every slot is taken");
        open.extend(executes(give(world, &finished(&spec, &result), at)));
        world.forget(&spec.run);
        open.extend(executes(give(world, input, at)));
    }
    (TURNS, start.seconds())
}

fn finished(spec: &AttemptSpec, result: &Arc<AttemptResult>) -> Input {
    let AttemptSpec { run, node, attempt, fence, .. } = spec;
    Input::AttemptFinished { run: run.clone(), node: *node, attempt: *attempt, fence: *fence, result: result.clone() }
}

/// One run after another on one agent: how many are left in the world.
fn trivial() -> usize {
    let mut world = World::with_leases_of(TTL);
    give(&mut world, &join(0), 0);
    let (plan, result) = (one_step(), Arc::new(AttemptResult::ended(AttemptEnd::Succeeded)));
    for at in 0..RUNS {
        let asked = give(&mut world, &request(&plan, at), at);
        let (_, spec) = executes(asked).next().expect("the agent is free");
        give(&mut world, &finished(&spec, &result), at);
        world.forget(&spec.run);
    }
    world.runs().count()
}

fn request(pipeline: &Pipeline, at: u64) -> Input {
    let terms =
        Terms { project: Some(ProjectId::new("web")), tenant: format!("tenant{}", at % 20), ..Terms::default() };
    let context = RunContext {
        run: RunId::new(format!("run{at}")),
        number: RunNumber(at + 1),
        trigger: Trigger::default(),
        params: BTreeMap::new(),
        hashes: BTreeMap::new(),
        caller_env: BTreeMap::new(),
        estimates: BTreeMap::new(),
        selection: Selection::default(),
        on_failure: OnFailure::Stop,
        terms,
    };
    Input::RunRequested { plan: Arc::new(engine::plan(pipeline, context).expect("one step")) }
}

fn one_step() -> Pipeline {
    let step = Step {
        id: StepId::from("test"),
        span: Span::default(),
        scope: None,
        kind: StepKind::Cmd(Box::new(CmdStep::new(Template::plain("true")))),
        depends_on: Vec::new(),
        when: When::Success,
        condition: None,
        allow_failure: false,
        matrix: None,
        shards: 1,
        retry: Retry::default(),
        timeout: Timeout::default(),
        resources: Resources::default(),
        runs_on: vec![Template::plain("linux")],
    };
    Pipeline {
        name: "one".into(),
        on: Triggers::default(),
        params: BTreeMap::new(),
        env: BTreeMap::new(),
        concurrency: None,
        sla: None,
        steps: vec![Arc::new(step)],
        hash_calls: BTreeSet::new(),
        env_calls: BTreeSet::new(),
    }
}
