//! The counters, and their text.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::process;
use super::table::{self, Kind, Metric};
use crate::Shared;

/// Upper ends of the buckets in milliseconds: from a cached step to a night's build.
const BUCKETS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 5_000, 30_000, 120_000, 600_000, 3_600_000, 21_600_000];

/// What starts a run, as labels.
pub const EVENTS: [&str; 4] = ["manual", "push", "pull_request", "schedule"];
/// How runs end, as labels.
pub const RUN_OUTCOMES: [&str; 5] = ["success", "failure", "infrastructure", "refused", "cancelled"];
/// How step instances end, as labels.
pub const STEP_OUTCOMES: [&str; 4] = ["success", "failure", "skipped", "cancelled"];
/// Why attempts fail, as labels; what has no word of its own is `other`.
pub const CAUSES: [&str; 9] =
    ["exit", "signal", "timeout", "idle", "limit", "lost", "infrastructure", "refused", "other"];
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Counters by the values of one label.
#[derive(Debug)]
pub struct Family<const N: usize> {
    words: [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Family<N> {
    fn new(words: [&'static str; N]) -> Family<N> {
        Family { words, counts: std::array::from_fn(|_| AtomicU64::new(0)) }
    }

    /// One more of this; a word that is not in the table counts as the last one.
    pub fn count(&self, word: &str) {
        let at = self.words.iter().position(|known| *known == word).unwrap_or(N - 1);
        self.counts[at].fetch_add(1, Relaxed);
    }

    fn write(&self, metric: Metric, text: &mut String) {
        head(metric, text);
        for (word, count) in self.words.iter().zip(&self.counts) {
            let _ = writeln!(text, "{}{{{}=\"{word}\"}} {}", metric.name, metric.label, count.load(Relaxed));
        }
    }
}

/// Times in buckets.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl Times {
    /// One more of this length.
    pub fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BUCKETS.partition_point(|end| end * 1000 < micros)].fetch_add(1, Relaxed);
        self.micros.fetch_add(micros, Relaxed);
    }

    fn write(&self, metric: Metric, text: &mut String) {
        head(metric, text);
        let mut below = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            below += count.load(Relaxed);
            let end = BUCKETS.get(at).map_or("+Inf".into(), |millis| (*millis as f64 / 1e3).to_string());
            let _ = writeln!(text, "{}_bucket{{le=\"{end}\"}} {below}", metric.name);
        }
        let sum = self.micros.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(text, "{0}_sum {sum}\n{0}_count {below}", metric.name);
    }
}

/// All counters of a server since its start.
#[derive(Debug)]
pub struct Meters {
    /// Runs asked for.
    pub requested: Family<4>,
    /// Runs ended.
    pub ended: Family<5>,
    /// From request to end.
    pub run: Times,
    /// From request to start.
    pub run_wait: Times,
    /// Step instances ended.
    pub steps: Family<4>,
    /// From ready to leased.
    pub queue: Times,
    /// Attempts.
    pub attempt: Times,
    /// Preparation of attempts.
    pub prepare: Times,
    /// Failed attempts.
    pub failed: Family<9>,
    /// Cached attempts.
    pub cached: AtomicU64,
    /// Facts.
    pub facts: AtomicU64,
    /// Bytes of logs.
    pub log_bytes: AtomicU64,
    /// Answers by class.
    pub http: Family<4>,
    /// Webhooks.
    pub hooks: Times,
    /// Events that were not counted.
    pub missed: AtomicU64,
    started: u64,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            requested: Family::new(EVENTS),
            ended: Family::new(RUN_OUTCOMES),
            run: Times::default(),
            run_wait: Times::default(),
            steps: Family::new(STEP_OUTCOMES),
            queue: Times::default(),
            attempt: Times::default(),
            prepare: Times::default(),
            failed: Family::new(CAUSES),
            cached: AtomicU64::new(0),
            facts: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            http: Family::new(CLASSES),
            hooks: Times::default(),
            missed: AtomicU64::new(0),
            started: crate::clock::now().0 / 1_000_000,
        }
    }
}

impl Meters {
    /// An answer over HTTP.
    pub fn answered(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(2, 5) - 2;
        self.http.count(CLASSES[class]);
    }
}

/// Everything in Prometheus' text format. Blocks: it asks the store.
pub fn text(shared: &Shared) -> String {
    let meters = &shared.meters;
    let mut text = String::with_capacity(8 << 10);
    let out = &mut text;
    meters.requested.write(table::RUNS_REQUESTED, out);
    meters.ended.write(table::RUNS_ENDED, out);
    let counts = shared.store.counts().ok();
    if let Some(counts) = &counts {
        number(table::RUNS_ACTIVE, counts.active_runs, out);
    }
    meters.run.write(table::RUN_SECONDS, out);
    meters.run_wait.write(table::RUN_WAIT_SECONDS, out);
    meters.steps.write(table::STEPS_ENDED, out);
    meters.queue.write(table::QUEUE_SECONDS, out);
    meters.attempt.write(table::ATTEMPT_SECONDS, out);
    meters.prepare.write(table::PREPARE_SECONDS, out);
    meters.failed.write(table::ATTEMPTS_FAILED, out);
    number(table::ATTEMPTS_CACHED, meters.cached.load(Relaxed), out);
    agents(shared, out);
    if let Some(counts) = &counts {
        number(table::DELIVERIES_OPEN, counts.open_deliveries, out);
    }
    number(table::FACTS, meters.facts.load(Relaxed), out);
    number(table::LOG_BYTES, meters.log_bytes.load(Relaxed), out);
    number(table::LEADER, u8::from(shared.desk.epoch().is_some()), out);
    if let Ok(sequence) = shared.store.last_sequence() {
        number(table::SEQUENCE, sequence, out);
    }
    meters.http.write(table::HTTP, out);
    meters.hooks.write(table::HOOK_SECONDS, out);
    number(table::MISSED, meters.missed.load(Relaxed), out);
    let process = process::look();
    number(table::MEMORY, process.memory, out);
    number(table::DESCRIPTORS, process.descriptors, out);
    number(table::CPU, process.cpu, out);
    number(table::UP, meters.started, out);
    text
}

fn agents(shared: &Shared, text: &mut String) {
    let agents = shared.hub.agents();
    number(table::AGENTS, agents.len(), text);
    head(table::SLOTS, text);
    let all: u64 = agents.iter().map(|agent| u64::from(agent.capacity.slots)).sum();
    let busy: usize = agents.iter().map(|agent| agent.busy).sum();
    let name = table::SLOTS.name;
    let _ = writeln!(text, "{name}{{state=\"all\"}} {all}\n{name}{{state=\"busy\"}} {busy}");
}

fn number(metric: Metric, value: impl std::fmt::Display, text: &mut String) {
    head(metric, text);
    let _ = writeln!(text, "{} {value}", metric.name);
}

fn head(Metric { name, kind, help, .. }: Metric, text: &mut String) {
    debug_assert!(matches!(kind, Kind::Counter | Kind::Gauge | Kind::Histogram));
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.word());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_is_below_their_end() {
        let times = Times::default();
        times.took(Duration::from_millis(5));
        times.took(Duration::from_millis(7));
        times.took(Duration::from_secs(100_000));
        let mut text = String::new();
        times.write(table::RUN_SECONDS, &mut text);
        for line in [
            "pace_run_seconds_bucket{le=\"0.005\"} 1",
            "pace_run_seconds_bucket{le=\"0.01\"} 2",
            "pace_run_seconds_bucket{le=\"21600\"} 2",
            "pace_run_seconds_bucket{le=\"+Inf\"} 3",
            "pace_run_seconds_count 3",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is missing:\n{text}");
        }
    }

    #[test]
    fn every_metric_has_a_name_of_its_own_and_a_meaning() {
        let names: std::collections::BTreeSet<_> = table::ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), table::ALL.len());
        for metric in table::ALL {
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
        }
    }
}
