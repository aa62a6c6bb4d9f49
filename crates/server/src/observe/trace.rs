//! One OpenTelemetry trace per run, made of its facts when it has ended: run, steps, their wait in the queue, their attempts,
//! and the preparation of each.
//!
//! Trace and span ids follow from the run, so telling a trace twice tells the same one. Attributes are those of the semantic
//! conventions for CI/CD and version control. Sent as OTLP over HTTP in protobuf (opentelemetry.io/docs/specs/otlp, 1.x).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use model::{
    AttemptEnd, AttemptNo, AttemptResult, Fact, NodeIx, Outcome, Plan, ProjectId, RunEvent, RunId, RunOutcome,
    Timestamp,
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

use crate::Shared;

/// For one trace to be taken by the collector.
const SEND_TIME: Duration = Duration::from_secs(10);
/// Traces that wait for the collector.
const WAITING_MAX: usize = 10_000;
/// How often one is sent at most, and the first pause; each further one is twice as long.
const TRIES: u32 = 6;
const RETRY: Duration = Duration::from_millis(500);
/// Spans of one trace; a run of ten thousand steps has some more.
const SPANS_MAX: usize = 50_000;

/// Sends the trace of an ended run to a collector: `endpoint` as OTEL_EXPORTER_OTLP_ENDPOINT says it, without `/v1/traces`.
/// Blocks.
///
/// # Errors
/// A sentence: the collector cannot be reached or refuses it.
pub fn send(endpoint: &str, facts: &[Fact], project: &str, server: &str) -> Result<(), String> {
    let Some(request) = request(facts, project, server) else { return Ok(()) };
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(SEND_TIME)).build().into();
    let sent = agent.post(&url).content_type("application/x-protobuf").send(&request.encode_to_vec()[..]);
    sent.map(|_| ()).map_err(|error| format!("the trace could not be sent to {url}: {error}"))
}

/// The way to the thread that sends traces.
#[derive(Debug)]
pub struct Traces(SyncSender<(RunId, ProjectId)>);

impl Traces {
    /// Starts the thread; it ends with this. `None`: no thread is to be had, and the log says so.
    pub fn start(endpoint: &str, shared: &Arc<Shared>) -> Option<Traces> {
        let (offer, offered) = sync_channel(WAITING_MAX);
        let (endpoint, shared) = (endpoint.to_owned(), Arc::downgrade(shared));
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
            for (run, project) in offered {
                let Some(shared) = shared.upgrade() else { return };
                if let Err(why) = send_run(&endpoint, &shared, &run, &project) {
                    tracing::warn!(run = run.as_str(), "{why}");
                }
            }
        });
        match thread {
            Ok(_) => Some(Traces(offer)),
            Err(error) => {
                tracing::warn!("traces are not sent: cannot start a thread: {error}");
                None
            }
        }
    }

    /// Sends the trace of this run later. One for which there is no room is left out, and the log says so.
    pub fn offer(&self, run: &RunId, project: &ProjectId) {
        if self.0.try_send((run.clone(), project.clone())).is_err() {
            tracing::warn!(run = run.as_str(), "its trace is left out: the collector is too slow");
        }
    }
}

/// The facts are in the store, so a collector that is away for a while costs waiting, and nothing else.
fn send_run(endpoint: &str, shared: &Shared, run: &RunId, project: &ProjectId) -> Result<(), String> {
    let facts = shared.store.facts_of(run).map_err(|error| error.to_string())?;
    let mut pause = RETRY;
    for _ in 1..TRIES {
        match send(endpoint, &facts, project.as_str(), &shared.config.url) {
            Ok(()) => return Ok(()),
            Err(_) if !shared.stopping.wait(pause) => break,
            Err(_) => pause *= 2,
        }
    }
    send(endpoint, &facts, project.as_str(), &shared.config.url)
}

/// The id of a run's trace: the first half of the SHA-256 of its own id.
pub fn trace_id(run: &RunId) -> [u8; 16] {
    first(digest(&SHA256, run.as_str().as_bytes()).as_ref())
}

/// The trace of an ended run; `None` for one that has not ended.
pub fn request(facts: &[Fact], project: &str, server: &str) -> Option<ExportTraceServiceRequest> {
    let mut trace = Trace::begin(facts.first()?)?;
    for fact in facts {
        trace.take(fact);
    }
    let spans = trace.finish(project, server)?;
    let scope = InstrumentationScope {
        name: "paceline".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let resource = Resource {
        attributes: vec![text("service.name", "paceline"), text("service.version", env!("CARGO_PKG_VERSION"))],
        ..Resource::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..ResourceSpans::default() }];
    Some(ExportTraceServiceRequest { resource_spans })
}

/// A trace as it grows.
struct Trace {
    run: RunId,
    plan: Arc<Plan>,
    requested: Timestamp,
    steps: BTreeMap<NodeIx, StepTimes>,
    spans: Vec<Span>,
    ended: Option<(Timestamp, RunOutcome)>,
}

/// When things began that have not ended.
#[derive(Default)]
struct StepTimes {
    first: Option<Timestamp>,
    ready: Option<Timestamp>,
    leased: Option<(Timestamp, String)>,
}

impl Trace {
    fn begin(fact: &Fact) -> Option<Trace> {
        let RunEvent::Requested { plan } = &fact.event else { return None };
        let (run, plan, requested) = (fact.run.clone(), plan.clone(), fact.at);
        Some(Trace { run, plan, requested, steps: BTreeMap::new(), spans: Vec::new(), ended: None })
    }

    fn take(&mut self, fact: &Fact) {
        let at = fact.at;
        match &fact.event {
            RunEvent::StepReady { node } => {
                let step = self.steps.entry(*node).or_default();
                step.first.get_or_insert(at);
                step.ready = Some(at);
            }
            RunEvent::AttemptLeased { node, agent, attempt, .. } => {
                let step = self.steps.entry(*node).or_default();
                let ready = step.ready.take().unwrap_or(at);
                step.leased = Some((at, agent.to_string()));
                let parent = self.id("step", *node, AttemptNo(0));
                let span = self.span("queue", self.id("queue", *node, *attempt), parent, ready, at);
                self.push(span);
            }
            RunEvent::AttemptEnded { node, attempt, result } => self.attempt(*node, *attempt, result, at),
            RunEvent::StepEnded { node, outcome, .. } => self.step(*node, outcome, at),
            RunEvent::Ended { outcome } => self.ended = Some((at, *outcome)),
            _ => {}
        }
    }

    fn attempt(&mut self, node: NodeIx, attempt: AttemptNo, result: &AttemptResult, at: Timestamp) {
        let leased = self.steps.get_mut(&node).and_then(|step| step.leased.take());
        let Some((since, agent)) = leased else { return };
        let id = self.id("attempt", node, attempt);
        let mut span = self.span(&format!("attempt {attempt}"), id, self.id("step", node, AttemptNo(0)), since, at);
        span.attributes = vec![
            text("cicd.worker.name", &agent),
            number("paceline.attempt", i64::from(attempt.0)),
            flag("paceline.cached", result.cached.is_some()),
        ];
        if let AttemptEnd::Failed(cause) = &result.end {
            span.attributes.push(text("error.type", &cause.to_string()));
            span.status = Some(failed(&cause.to_string()));
        }
        let prepared = since.after(result.prepare).min(at);
        let prepare = self.span("prepare", self.id("prepare", node, attempt), id, since, prepared);
        self.push(span);
        if !result.prepare.is_zero() {
            self.push(prepare);
        }
    }

    fn step(&mut self, node: NodeIx, outcome: &Outcome, at: Timestamp) {
        let since = self.steps.get(&node).and_then(|step| step.first).unwrap_or(at);
        // Steps that an `expand` made are not in the plan as it was asked for.
        let name = self.plan.nodes.get(node.at()).map_or_else(|| format!("step {}", node.0), |n| n.name.to_string());
        let root = self.id("run", NodeIx(0), AttemptNo(0));
        let mut span = self.span(&name, self.id("step", node, AttemptNo(0)), root, since, at);
        span.attributes = vec![
            text("cicd.pipeline.task.name", &name),
            text("cicd.pipeline.task.run.id", &format!("{}/{}", self.run, node.0)),
            text("cicd.pipeline.task.run.result", result_word(outcome.word())),
        ];
        if let Outcome::Failed { cause, allowed: false } = outcome {
            span.status = Some(failed(&cause.to_string()));
        }
        self.push(span);
    }

    fn finish(mut self, project: &str, server: &str) -> Option<Vec<Span>> {
        let (at, outcome) = self.ended?;
        let root = self.id("run", NodeIx(0), AttemptNo(0));
        let mut span = self.span(&self.plan.name, root, [0; 8], self.requested, at);
        span.parent_span_id.clear();
        span.kind = SpanKind::Server as i32;
        let (context, git) = (&self.plan.context, &self.plan.context.trigger.git);
        span.attributes = vec![
            text("cicd.pipeline.name", &self.plan.name),
            text("cicd.pipeline.run.id", self.run.as_str()),
            text("cicd.pipeline.result", result_word(outcome.word())),
            text("cicd.pipeline.run.state", "finalizing"),
            text("cicd.pipeline.run.url.full", &format!("{server}/{project}/runs/{}", context.number.0)),
            text("vcs.repository.name", project),
            text("vcs.ref.head.revision", &git.commit),
            text("vcs.ref.head.name", if git.tag.is_empty() { &git.branch } else { &git.tag }),
            text("vcs.ref.head.type", if git.tag.is_empty() { "branch" } else { "tag" }),
            number("paceline.run.number", i64::try_from(context.number.0).unwrap_or(i64::MAX)),
            text("paceline.trigger", self.plan.event().word()),
        ];
        span.attributes.retain(has_value);
        if outcome != RunOutcome::Succeeded {
            span.status = Some(failed(outcome.word()));
        }
        self.spans.insert(0, span);
        Some(self.spans)
    }

    fn push(&mut self, span: Span) {
        if self.spans.len() < SPANS_MAX {
            self.spans.push(span);
        }
    }

    fn span(&self, name: &str, id: [u8; 8], parent: [u8; 8], since: Timestamp, until: Timestamp) -> Span {
        Span {
            trace_id: trace_id(&self.run).to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.to_vec(),
            name: name.into(),
            kind: SpanKind::Internal as i32,
            start_time_unix_nano: nanos(since),
            end_time_unix_nano: nanos(until.max(since)),
            ..Span::default()
        }
    }

    fn id(&self, what: &str, node: NodeIx, attempt: AttemptNo) -> [u8; 8] {
        let of = format!("{}/{what}/{}/{}", self.run, node.0, attempt.0);
        first(digest(&SHA256, of.as_bytes()).as_ref())
    }
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes[at])
}

fn nanos(at: Timestamp) -> u64 {
    at.0.saturating_mul(1000)
}

/// The words of the semantic conventions.
fn result_word(outcome: &str) -> &'static str {
    match outcome {
        "success" => "success",
        "skipped" => "skip",
        "cancelled" => "cancellation",
        "infrastructure" => "error",
        _ => "failure",
    }
}

fn failed(why: &str) -> Status {
    Status { message: why.chars().take(1000).collect(), code: StatusCode::Error as i32 }
}

fn has_value(attribute: &KeyValue) -> bool {
    let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
    !matches!(value, Some(any_value::Value::StringValue(text)) if text.is_empty())
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(value))
}

fn flag(key: &str, value: bool) -> KeyValue {
    attribute(key, any_value::Value::BoolValue(value))
}
