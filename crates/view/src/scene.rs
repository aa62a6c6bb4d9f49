//! Scenes for the tests: a run told step by step, and what a person would see of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::*;

use crate::{LogLine, RunView, Style, json, plain};

/// A run that is being told.
pub struct Scene {
    steps: Vec<(Step, u32, bool)>,
    estimates: BTreeMap<String, Duration>,
    now: Timestamp,
    facts: Vec<Told>,
    view: RunView,
}

enum Told {
    Fact(Box<Fact>),
    Log(LogLine),
}

/// The time of the request: 2026-11-21 09:58:02 UTC.
const START: Timestamp = Timestamp(1_795_255_082_000_000);

/// `exit code N`.
pub fn exit(code: i32) -> Cause {
    Cause::Exit(code)
}

impl Scene {
    /// `"deps build:deps test[3]:deps,build"`: names, instances, what they depend on. Run 12 of `ci-build`.
    pub fn new(steps: &str) -> Scene {
        let steps = steps.split_whitespace().map(|word| {
            let (name, needs) = word.split_once(':').unwrap_or((word, ""));
            let (id, count) = name.trim_end_matches(']').split_once('[').unwrap_or((name, "1"));
            let mut step = step(id);
            step.depends_on = needs.split(',').filter(|need| !need.is_empty()).map(StepId::from).collect();
            (step, count.parse().expect("a number of instances"), false)
        });
        let steps = steps.collect();
        Scene { steps, estimates: BTreeMap::new(), now: START, facts: Vec::new(), view: RunView::new() }
    }

    /// A run in which everything happens that can happen.
    pub fn every_event() -> Scene {
        let mut scene = Scene::new("deps build:deps lint test:build ship:test clean more");
        scene.retries("test", 3).allows("lint").request();
        scene.tell(RunEvent::Released { by: "user:anna".into() });
        scene.tell(RunEvent::Prioritised { priority: 10, by: "user:anna".into() });
        scene.keeps("more", 8.0).tell(RunEvent::Started);
        scene.tell(RunEvent::SlaMissed { bound: SlaBound::Start, within: Duration::from_secs(30) });
        scene.tell(RunEvent::StepReady { node: NodeIx(0) });
        scene.leases("deps").hits("deps", 34.0).leases("build").prints("build", "compiling");
        scene.rich("build").leases("lint").fails("lint", Cause::Signal(9), &["x"]);
        scene.leases("test").fails_for_now("test", Cause::Idle(Duration::from_secs(60)), 4.0);
        scene.leases("test").fails("test", exit(1), &["error: x"]).skips("ship", "test");
        scene.asks("clean", "Clean?").answers("clean", true, "go").extends("more");
        scene.expands("more", &["more.a"]).cancels("Ctrl-C").cancelled("clean").ends(RunOutcome::Cancelled);
        scene
    }

    // ---- the pipeline, before `request`

    pub fn retries(&mut self, id: &str, attempts: u16) -> &mut Self {
        self.of(id).0.retry.attempts = attempts;
        self
    }
    pub fn allows(&mut self, id: &str) -> &mut Self {
        self.of(id).0.allow_failure = true;
        self
    }
    /// `id` is a step of the template use `scope`.
    pub fn inside(&mut self, id: &str, scope: &str) -> &mut Self {
        self.of(id).0.scope = Some(scope.into());
        self.of(scope).0.kind = StepKind::Group;
        self
    }
    pub fn leaves_out(&mut self, id: &str) -> &mut Self {
        self.of(id).2 = true;
        self
    }
    pub fn took_before(&mut self, name: &str, seconds: f64) -> &mut Self {
        self.estimates.insert(name.to_owned(), Duration::from_secs_f64(seconds));
        self
    }

    // ---- what happens

    /// Seconds since the request.
    pub fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = START.after(Duration::from_secs_f64(seconds));
        self
    }
    pub fn request(&mut self) -> &mut Self {
        let plan = self.plan().into();
        self.tell(RunEvent::Requested { plan })
    }
    pub fn leases(&mut self, name: &str) -> &mut Self {
        let node = self.node(name);
        let attempt = AttemptNo(self.view.step(node).map_or(1, |step| step.attempts + 1));
        let deadline = self.now.after(Duration::from_secs(60));
        self.tell(RunEvent::AttemptLeased { node, attempt, agent: "a1".into(), fence: Fence(1), deadline })
    }
    pub fn prints(&mut self, name: &str, text: &str) -> &mut Self {
        let node = self.node(name);
        let attempt = AttemptNo(self.view.step(node).map_or(1, |step| step.attempts));
        let line = LogLine { at: self.now, node, attempt, text: text.to_owned() };
        self.view.log(&line);
        self.facts.push(Told::Log(line));
        self
    }
    pub fn succeeds(&mut self, name: &str) -> &mut Self {
        self.attempt_ends(name, AttemptResult::ended(AttemptEnd::Succeeded));
        self.step_ends(name, Outcome::Succeeded { cached: false })
    }
    /// From the cache, which saves this many seconds.
    pub fn hits(&mut self, name: &str, seconds: f64) -> &mut Self {
        let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
        let took = Duration::from_secs_f64(seconds);
        result.cached = Some(CachedFrom { run: "r11".into(), number: RunNumber(11), took });
        self.attempt_ends(name, result);
        self.step_ends(name, Outcome::Succeeded { cached: true })
    }
    pub fn notes(&mut self, name: &str, note: &str) -> &mut Self {
        let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
        result.notes.push(note.to_owned());
        self.attempt_ends(name, result);
        self.step_ends(name, Outcome::Succeeded { cached: false })
    }
    /// Succeeds with everything a result can hold.
    pub fn rich(&mut self, name: &str) -> &mut Self {
        let digest = Digest { hash: [7; 32], size: 2048 };
        let files = vec![("app".to_owned(), digest, true)];
        let mut result = AttemptResult::ended(AttemptEnd::Succeeded);
        result.layer = Some(LayerRef { digest, files: 2, bytes: 4096 });
        result.action = Some(digest);
        result.reports.push((ReportKind::GoTest, digest));
        let version = Some("1.2.3".to_owned());
        result.artifacts.push(ArtifactRef { name: "app".into(), version, path: "dist".into(), files });
        result.tail.push("done".into());
        self.attempt_ends(name, result);
        self.step_ends(name, Outcome::Succeeded { cached: false })
    }
    pub fn fails(&mut self, name: &str, cause: Cause, tail: &[&str]) -> &mut Self {
        let mut result = AttemptResult::ended(AttemptEnd::Failed(cause.clone()));
        result.tail = tail.iter().map(ToString::to_string).collect();
        self.attempt_ends(name, result);
        let node = self.node(name);
        let allowed = self.view.plan().is_some_and(|plan| plan.step(node).allow_failure);
        self.step_ends(name, Outcome::Failed { cause, allowed })
    }
    /// Another attempt comes in so many seconds.
    pub fn fails_for_now(&mut self, name: &str, cause: Cause, wait: f64) -> &mut Self {
        self.attempt_ends(name, AttemptResult::ended(AttemptEnd::Failed(cause.clone())));
        let not_before = self.now.after(Duration::from_secs_f64(wait));
        let node = self.node(name);
        self.tell(RunEvent::RetryPlanned { node, not_before, cause })
    }
    pub fn skips(&mut self, name: &str, failed: &str) -> &mut Self {
        self.step_ends(name, Outcome::Skipped(Skip::DependencyFailed(failed.into())))
    }
    pub fn expands(&mut self, name: &str, made: &[&str]) -> &mut Self {
        let node = self.node(name);
        self.tell(RunEvent::Expanded { node, steps: made.iter().map(|id| Arc::new(step(id))).collect() })
    }
    /// Takes over the result of run 11.
    pub fn keeps(&mut self, name: &str, seconds: f64) -> &mut Self {
        let node = self.node(name);
        let from = CachedFrom { run: "r11".into(), number: RunNumber(11), took: Duration::from_secs_f64(seconds) };
        self.tell(RunEvent::StepKept { node, from, result: AttemptResult::ended(AttemptEnd::Succeeded).into() })
    }
    /// The approval of a step is open for an hour.
    pub fn asks(&mut self, name: &str, message: &str) -> &mut Self {
        let (node, expires) = (self.node(name), self.now.after(Duration::from_secs(3600)));
        let by = vec!["team:release".to_owned()];
        self.tell(RunEvent::ApprovalOpened { node, message: message.to_owned(), by, expires })
    }
    pub fn answers(&mut self, name: &str, approved: bool, comment: &str) -> &mut Self {
        let node = self.node(name);
        self.tell(RunEvent::ApprovalGiven { node, by: "user:anna".into(), approved, comment: comment.to_owned() })
    }
    pub fn extends(&mut self, name: &str) -> &mut Self {
        let (node, deadline) = (self.node(name), self.now.after(Duration::from_secs(60)));
        self.tell(RunEvent::LeaseExtended { node, deadline })
    }
    pub fn cancels(&mut self, by: &str) -> &mut Self {
        self.tell(RunEvent::CancelRequested { by: by.to_owned(), force: false })
    }
    pub fn cancelled(&mut self, name: &str) -> &mut Self {
        self.step_ends(name, Outcome::Cancelled)
    }
    pub fn ends(&mut self, outcome: RunOutcome) -> &mut Self {
        self.tell(RunEvent::Ended { outcome })
    }
    pub fn waits(&mut self, reasons: &[(&str, &str)]) -> &mut Self {
        let reasons = reasons.iter().map(|(name, why)| (self.node(name), why.to_string())).collect();
        self.view.set_reasons(reasons);
        self
    }
    pub fn tell(&mut self, event: RunEvent) -> &mut Self {
        let fact = Fact { at: self.now, run: "r12".into(), event };
        self.view.fact(&fact);
        self.facts.push(Told::Fact(fact.into()));
        self
    }

    // ---- what a person sees

    pub fn now(&self) -> Timestamp {
        self.now
    }
    pub fn view(&self) -> &RunView {
        &self.view
    }
    pub fn facts(&mut self) -> Vec<Fact> {
        let facts = self.facts.iter().filter_map(|told| match told {
            Told::Fact(fact) => Some((**fact).clone()),
            Told::Log(_) => None,
        });
        facts.collect()
    }
    /// The frame of this moment, lines joined.
    pub fn frame(&self, width: usize, height: usize) -> String {
        let style = Style { color: false, unicode: true };
        crate::live::frame(&self.view, self.now, width, height, style).join("\n")
    }
    pub fn plain(&self) -> String {
        self.told(plain::fact, |view, line| plain::log(view, line, Style::PLAIN))
    }
    pub fn json(&self) -> String {
        self.told(|view, fact| Some(json::fact(view, fact)), json::log)
    }

    /// Told anew from the beginning, line by line.
    fn told(
        &self,
        fact: impl Fn(&RunView, &Fact) -> Option<String>,
        log: impl Fn(&RunView, &LogLine) -> String,
    ) -> String {
        let mut view = RunView::new();
        let lines = self.facts.iter().filter_map(|told| match told {
            Told::Fact(happened) => {
                view.fact(happened);
                fact(&view, happened)
            }
            Told::Log(line) => Some(log(&view, line)),
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub fn plan(&self) -> Plan {
        let mut plan = Plan {
            name: "ci-build".into(),
            context: context(self.estimates.clone()),
            env: BTreeMap::new(),
            concurrency: None,
            sla: None,
            groups: Vec::new(),
            nodes: Vec::new(),
        };
        for (at, (step, count, left_out)) in self.steps.iter().enumerate() {
            let first = NodeIx(plan.nodes.len() as u32);
            let by_id = |id: &StepId| self.steps.iter().position(|(step, ..)| step.id == *id).expect("it exists");
            let needs: Arc<[Need]> =
                step.depends_on.iter().map(|id| Need::All(GroupIx(by_id(id) as u32))).collect::<Vec<_>>().into();
            for shard in 1..=*count {
                let id = step.id.as_str();
                let name: String = if *count == 1 { id.into() } else { format!("{id}[{shard}/{count}]") };
                plan.nodes.push(Node {
                    group: GroupIx(at as u32),
                    rank: self.estimates.get(&name).map_or(1000, |time| time.as_millis() as u64),
                    name: name.into(),
                    cell: Default::default(),
                    shard: (*count > 1).then_some((shard, *count)),
                    needs: needs.clone(),
                    fresh: false,
                    skip: left_out.then_some(PlannedSkip::NotSelected),
                    runs_on: None,
                });
            }
            let (made_by, needed_by) = (None, Vec::new());
            plan.groups.push(Group { step: Arc::new(step.clone()), first, count: *count, made_by, needed_by });
        }
        plan
    }

    fn of(&mut self, id: &str) -> &mut (Step, u32, bool) {
        self.steps.iter_mut().find(|(step, ..)| step.id.as_str() == id).expect("it exists")
    }
    fn node(&self, name: &str) -> NodeIx {
        let at = self.view.steps().iter().position(|step| *step.name == *name);
        NodeIx(at.unwrap_or_else(|| panic!("no step `{name}`; request first")) as u32)
    }
    fn attempt_ends(&mut self, name: &str, mut result: AttemptResult) {
        let node = self.node(name);
        let step = self.view.step(node).expect("it exists");
        result.took = self.now.since(step.started_at.unwrap_or(self.now));
        let attempt = AttemptNo(step.attempts);
        self.tell(RunEvent::AttemptEnded { node, attempt, result: result.into() });
    }
    fn step_ends(&mut self, name: &str, outcome: Outcome) -> &mut Self {
        let node = self.node(name);
        self.tell(RunEvent::StepEnded { node, outcome, values: BTreeMap::new() })
    }
}

fn context(estimates: BTreeMap<String, Duration>) -> RunContext {
    RunContext {
        run: "r12".into(),
        number: RunNumber(12),
        trigger: Trigger::default(),
        params: BTreeMap::new(),
        hashes: BTreeMap::new(),
        caller_env: BTreeMap::new(),
        estimates,
        selection: Selection::default(),
        on_failure: OnFailure::default(),
        terms: Terms::default(),
    }
}

fn step(id: &str) -> Step {
    Step {
        id: id.into(),
        span: Span::default(),
        scope: None,
        kind: StepKind::Expand("x.yaml".into()),
        depends_on: Vec::new(),
        when: When::Success,
        condition: None,
        allow_failure: false,
        matrix: None,
        shards: 1,
        retry: Retry::default(),
        timeout: Timeout::default(),
        resources: Resources::default(),
        runs_on: Vec::new(),
    }
}
