//! One round of the desk: some inputs are decided and folded one after another, their facts become durable together, and
//! only then commands go out and whoever waits hears of it.

use std::sync::Arc;
use std::sync::mpsc;

use engine::StepState;
use model::{
    Command, Fact, Fence, Input, Kept, NodeIx, Pipeline, Plan, ProjectId, RunContext, RunEvent, RunId, RunNumber,
    StepKind,
};
use store::{Batch, ProjectFact, Sequenced, Store};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::thread::Leading;
use super::{Act, Asked, Done, Granted, HubOrder, Refusal};
use crate::live::{Happened, Live};

/// A run to be numbered, planned and asked for.
#[derive(Debug)]
pub(crate) struct RunOrder {
    /// Its id.
    pub(crate) run: RunId,
    /// The project.
    pub(crate) project: ProjectId,
    /// What is done.
    pub(crate) what: What,
}

/// What a run does.
#[derive(Debug)]
pub(crate) enum What {
    /// A pipeline that was read; the context lacks its number.
    Pipeline(Arc<Pipeline>, Box<RunContext>),
    /// A plan that was made before; its context lacks number and run. What is kept is not executed.
    Again(Box<Plan>, Vec<Kept>),
}

/// Who waits for a round to be durable.
enum Then {
    Done(Done),
    Granted(oneshot::Sender<Result<Granted, Refusal>>, Granted),
    Acted(oneshot::Sender<Result<(), Refusal>>, Result<(), Refusal>),
}

/// What a round comes to.
#[derive(Default)]
struct Outcome {
    facts: Vec<ProjectFact>,
    orders: Vec<HubOrder>,
    then: Vec<Then>,
    ended: Vec<(RunId, RunNumber)>,
    stop: Option<mpsc::Sender<()>>,
}

impl Leading {
    /// Takes a batch. `Some`: it was told to stop, and all before that is durable.
    ///
    /// # Errors
    /// What was decided cannot be kept: this world is to be thrown away. Whoever waited heard so.
    pub(super) fn round(
        &mut self,
        batch: impl Iterator<Item = Asked>,
        store: &Store,
        live: &Live,
        hub: &UnboundedSender<HubOrder>,
    ) -> Result<Option<mpsc::Sender<()>>, Refusal> {
        let mut outcome = Outcome::default();
        let kept = self.take_all(batch, store, &mut outcome).and_then(|()| self.keep(store, live, &mut outcome));
        if let Err(refusal) = kept {
            outcome.then.into_iter().for_each(|then| then.refuse(&refusal));
            return Err(refusal);
        }
        for order in outcome.orders {
            // The hub ends after the desk, or the process does.
            let _ = hub.send(order);
        }
        for (run, number) in outcome.ended {
            self.world.forget(&run);
            self.keep.forget(&run, number);
            let _ = hub.send(HubOrder::End { run });
        }
        outcome.then.into_iter().for_each(Then::tell);
        Ok(outcome.stop)
    }

    /// What was on its way when the last leader ended is done again: steps whose file was read and not yet made into steps.
    fn recover(&mut self, outcome: &mut Outcome) -> Result<(), Refusal> {
        self.recovered = true;
        let read = self.world.runs().flat_map(|run| {
            let steps = run.steps().filter_map(|(node, state)| read_file(run.plan(), node, state));
            steps.map(|command| (run.id().clone(), command))
        });
        let commands: Vec<_> = read.collect();
        for (run, (node, fence, path, text, depth)) in commands {
            self.command(Command::Expand { run, node, fence, path, text, depth }, outcome)?;
        }
        Ok(())
    }

    fn take_all(
        &mut self,
        batch: impl Iterator<Item = Asked>,
        store: &Store,
        outcome: &mut Outcome,
    ) -> Result<(), Refusal> {
        let mut fault = match self.recovered {
            true => None,
            false => self.recover(outcome).err(),
        };
        for asked in batch {
            match &fault {
                Some(refusal) => asked.refuse(refusal),
                None => fault = self.take(asked, store, outcome).err(),
            }
        }
        let now = self.clock.now();
        if fault.is_none() && self.world.next_wake().is_some_and(|at| at <= now) {
            fault = self.decide(Input::Tick, outcome).err();
        }
        fault.map_or(Ok(()), Err)
    }

    fn take(&mut self, asked: Asked, store: &Store, outcome: &mut Outcome) -> Result<(), Refusal> {
        match asked {
            Asked::Tell { input, done } => {
                outcome.then.extend(done.map(Then::Done));
                self.decide(input, outcome).map(drop)
            }
            Asked::Act { run, act, reply } => {
                let must_change = !matches!(act, Act::Cancel { .. });
                let input = match self.input(&run, act) {
                    Ok(input) => input,
                    Err(refusal) => {
                        outcome.then.push(Then::Acted(reply, Err(refusal)));
                        return Ok(());
                    }
                };
                let (events, because) = self.decide(input, outcome)?;
                let vain = must_change && events == 0;
                let answer = if vain { Err(Refusal::Conflict(because)) } else { Ok(()) };
                outcome.then.push(Then::Acted(reply, answer));
                Ok(())
            }
            Asked::Run { order, reply } => match self.request(*order, store, outcome)? {
                Ok(granted) => {
                    outcome.then.push(Then::Granted(reply, granted));
                    Ok(())
                }
                Err(refusal) => {
                    let _ = reply.send(Err(refusal));
                    Ok(())
                }
            },
            Asked::Waiting { run, reply } => {
                let _ = reply.send(engine::waiting(&self.world, &run, self.clock.now()));
                Ok(())
            }
            Asked::Stop { done } => {
                outcome.stop = Some(done);
                Ok(())
            }
        }
    }

    /// What somebody does to an active run, as the engine takes it.
    fn input(&self, run: &RunId, act: Act) -> Result<Input, Refusal> {
        let state = self.world.run(run).ok_or_else(|| Refusal::NotFound(String::new()))?;
        let run = run.clone();
        Ok(match act {
            Act::Cancel { by, force } => Input::CancelRequested { run, by, force },
            Act::Release { by } => Input::Released { run, by },
            Act::Prioritise { priority, by } => Input::Prioritised { run, priority, by },
            Act::Answer { step, by, approved, comment } => {
                let named = state.plan().nodes.iter().position(|node| *node.name == *step);
                let at = named.ok_or_else(|| Refusal::NotFound(format!("the run has no step `{step}`")))?;
                Input::Answered { run, node: NodeIx(at as u32), by, approved, comment }
            }
        })
    }

    /// Numbers, plans and asks for a run. The inner error is the wish's own fault and gives no number away.
    fn request(
        &mut self,
        order: RunOrder,
        store: &Store,
        outcome: &mut Outcome,
    ) -> Result<Result<Granted, Refusal>, Refusal> {
        let known = self.world.run(&order.run).map(engine::RunState::number).or_else(|| self.keep.ended(&order.run));
        if let Some(number) = known {
            return Ok(Ok(Granted { run: order.run, number }));
        }
        let number = RunNumber(self.last_number(&order.project, store)?.0 + 1);
        let request = match request(order.what, &order.run, number) {
            Ok(request) => request,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (events, because) = self.decide_for(request, Some(&order.project), outcome)?;
        Ok(match events {
            0 => Err(Refusal::Invalid(because)),
            _ => Ok(Granted { run: order.run, number }),
        })
    }

    fn last_number(&mut self, project: &ProjectId, store: &Store) -> Result<RunNumber, Refusal> {
        if let Some(number) = self.keep.numbers.get(project) {
            return Ok(*number);
        }
        let number = store.last_number(project)?;
        self.keep.numbers.insert(project.clone(), number);
        Ok(number)
    }

    fn decide(&mut self, input: Input, outcome: &mut Outcome) -> Result<(usize, String), Refusal> {
        self.decide_for(input, None, outcome)
    }

    /// Decides and folds; how many facts came of it, and why none. `project` is that of a run that is asked for.
    fn decide_for(
        &mut self,
        input: Input,
        project: Option<&ProjectId>,
        outcome: &mut Outcome,
    ) -> Result<(usize, String), Refusal> {
        let now = self.clock.now();
        let decision = engine::decide(&self.world, &input, now);
        self.world.heard(&input, now);
        if let Input::AgentJoined { agent, .. } | Input::AgentBack { agent, .. } | Input::AgentLeft { agent } = &input {
            self.keep.forget_told(agent);
        }
        let events = decision.events.len();
        for fact in decision.events {
            self.fold(fact, project, outcome)?;
        }
        for command in decision.commands {
            self.command(command, outcome)?;
        }
        let because: Vec<String> = decision.because.into_iter().map(|reason| reason.text).collect();
        Ok((events, because.join("; ")))
    }

    fn fold(&mut self, fact: Fact, project: Option<&ProjectId>, outcome: &mut Outcome) -> Result<(), Refusal> {
        let impossible = |what: String| Refusal::Unavailable(format!("a defect of this server: {what}"));
        self.world.fold(&fact).map_err(|illegal| impossible(illegal.to_string()))?;
        let own = self.keep.project(&fact.run).or(project).cloned();
        let project = own.ok_or_else(|| impossible(format!("run {} belongs to no project", fact.run)))?;
        self.keep.fold(&project, &fact);
        if let RunEvent::Ended { .. } = &fact.event {
            let number = self.world.run(&fact.run).map(engine::RunState::number).unwrap_or_default();
            outcome.ended.push((fact.run.clone(), number));
        }
        outcome.facts.push(ProjectFact { project, fact });
        Ok(())
    }

    fn command(&mut self, command: Command, outcome: &mut Outcome) -> Result<(), Refusal> {
        match command {
            Command::Execute { agent, spec } => {
                let plan = self.world.run(&spec.run).map(|run| run.plan().clone());
                let (Some(plan), Some(card)) = (plan, self.keep.card(&spec.run).cloned()) else { return Ok(()) };
                let known = self.keep.known(&spec.run, &spec.needs, &plan, &agent);
                outcome.orders.push(HubOrder::Execute { agent, run: card, spec, known });
            }
            Command::Stop { agent, run, node, fence, force } => {
                outcome.orders.push(HubOrder::Stop { agent, run, node, fence, force });
            }
            // Here and now, because what follows is decided with it: the text is bounded, and few steps are such.
            Command::Expand { run, node, fence, path, text, depth } => {
                let Some(plan) = self.world.run(&run).map(|run| run.plan().clone()) else { return Ok(()) };
                let steps = expansion(&plan, node, &path, &text, depth);
                self.decide(Input::Expanded { run, node, fence, steps }, outcome)?;
            }
        }
        Ok(())
    }

    /// Makes the facts durable and tells those who watch.
    fn keep(&mut self, store: &Store, live: &Live, outcome: &mut Outcome) -> Result<(), Refusal> {
        if outcome.facts.is_empty() {
            return Ok(());
        }
        let mut errands = Vec::new();
        for fact in &outcome.facts {
            if let Some(card) = self.keep.card(&fact.fact.run).cloned() {
                errands.extend(self.keep.reporters.errands(store, fact, &card)?);
            }
        }
        let batch = Batch { facts: outcome.facts.clone(), errands, ..Batch::default() };
        let receipt = store.append(Some(self.epoch), batch)?;
        let before = receipt.sequence.saturating_sub(outcome.facts.len() as u64);
        for (value, sequence) in outcome.facts.drain(..).zip(before + 1..) {
            live.tell(Happened::Fact(Arc::new(Sequenced { sequence, value })));
        }
        Ok(())
    }
}

fn request(what: What, run: &RunId, number: RunNumber) -> Result<Input, Refusal> {
    match what {
        What::Pipeline(pipeline, mut context) => {
            context.number = number;
            let plan = engine::plan(&pipeline, *context).map_err(|error| Refusal::Invalid(error.to_string()))?;
            Ok(Input::RunRequested { plan: Arc::new(plan) })
        }
        What::Again(mut plan, kept) => {
            plan.context.run = run.clone();
            plan.context.number = number;
            Ok(Input::RunAgain { plan: Arc::new(*plan), kept })
        }
    }
}

/// What an `expand` step read whose steps were not made yet.
fn read_file(plan: &Plan, node: NodeIx, state: &StepState) -> Option<(NodeIx, Fence, String, String, usize)> {
    let (StepState::Reported { fence, result, .. }, StepKind::Expand(path)) = (state, &plan.step(node).kind) else {
        return None;
    };
    let maker = |node: NodeIx| plan.groups[plan.nodes[node.at()].group.at()].made_by;
    let depth = std::iter::successors(Some(node), |node| maker(*node)).count();
    Some((node, *fence, path.clone(), result.text.clone()?, depth))
}

/// The steps that an `expand` step has read, or the report of what is wrong with them. `depth` counts from 1.
fn expansion(plan: &Plan, node: NodeIx, path: &str, text: &str, depth: usize) -> Result<Vec<Arc<model::Step>>, String> {
    let (parent, outer) = (&plan.step(node).id, lang::Outer::of_plan(plan));
    let (steps, report) = lang::load_expansion(path, text.as_bytes(), parent, depth.saturating_sub(1), &outer);
    steps.filter(|_| !report.has_errors()).ok_or_else(|| report.render(false, 100))
}

impl Then {
    fn tell(self) {
        // Who does not wait any more needs no answer.
        match self {
            Then::Done(done) => done(Ok(())),
            Then::Granted(reply, granted) => drop(reply.send(Ok(granted))),
            Then::Acted(reply, answer) => drop(reply.send(answer)),
        }
    }

    fn refuse(self, why: &Refusal) {
        match self {
            Then::Done(done) => done(Err(why.clone())),
            Then::Granted(reply, _) => drop(reply.send(Err(why.clone()))),
            Then::Acted(reply, _) => drop(reply.send(Err(why.clone()))),
        }
    }
}
