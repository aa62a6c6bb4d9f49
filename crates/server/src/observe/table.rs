//! Names, labels and meanings of all metrics: what `/metrics` writes and what the documentation is made of.

/// How Prometheus reads a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Seconds in buckets.
    Histogram,
}

impl Kind {
    /// The word in the text format.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// Its label, or empty.
    pub label: &'static str,
    /// What it means.
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, label: &'static str, help: &'static str) -> Metric {
    Metric { name, kind, label, help }
}

/// Runs that were asked for.
pub const RUNS_REQUESTED: Metric =
    metric("pace_runs_requested_total", Kind::Counter, "event", "Runs that were asked for, by what started them.");
/// Runs that ended.
pub const RUNS_ENDED: Metric = metric("pace_runs_ended_total", Kind::Counter, "outcome", "Runs that ended, by how.");
/// Runs that have not ended.
pub const RUNS_ACTIVE: Metric = metric("pace_runs_active", Kind::Gauge, "", "Runs that have not ended.");
/// From request to end.
pub const RUN_SECONDS: Metric = metric("pace_run_seconds", Kind::Histogram, "", "From a run's request to its end.");
/// From request to start.
pub const RUN_WAIT_SECONDS: Metric = metric(
    "pace_run_wait_seconds",
    Kind::Histogram,
    "",
    "From a run's request to its start: what its concurrency group or an approval held it.",
);
/// Step instances that ended.
pub const STEPS_ENDED: Metric =
    metric("pace_steps_ended_total", Kind::Counter, "outcome", "Step instances that ended, by how.");
/// From ready to leased.
pub const QUEUE_SECONDS: Metric = metric(
    "pace_queue_wait_seconds",
    Kind::Histogram,
    "",
    "From a step having all it waits for to an agent executing it.",
);
/// Attempts.
pub const ATTEMPT_SECONDS: Metric =
    metric("pace_attempt_seconds", Kind::Histogram, "", "From an attempt's lease to its end, on its agent.");
/// Preparation of attempts.
pub const PREPARE_SECONDS: Metric = metric(
    "pace_attempt_prepare_seconds",
    Kind::Histogram,
    "",
    "The part of an attempt before its command's first instruction: inputs, look-up, sandbox.",
);
/// Attempts by cause.
pub const ATTEMPTS_FAILED: Metric =
    metric("pace_attempts_failed_total", Kind::Counter, "cause", "Attempts that failed, by cause.");
/// Attempts that were not executed.
pub const ATTEMPTS_CACHED: Metric =
    metric("pace_attempts_cached_total", Kind::Counter, "", "Attempts whose result came from the cache.");
/// Agents.
pub const AGENTS: Metric = metric("pace_agents_connected", Kind::Gauge, "", "Agents that are connected.");
/// Slots.
pub const SLOTS: Metric = metric("pace_agent_slots", Kind::Gauge, "state", "Slots of connected agents: all and busy.");
/// Deliveries that nobody settled.
pub const DELIVERIES_OPEN: Metric =
    metric("pace_deliveries_open", Kind::Gauge, "", "Webhook deliveries that are durable and not dealt with yet.");
/// Facts.
pub const FACTS: Metric = metric("pace_facts_total", Kind::Counter, "", "Facts that this server made durable.");
/// Log bytes.
pub const LOG_BYTES: Metric = metric("pace_log_bytes_total", Kind::Counter, "", "Bytes of output that became durable.");
/// Whether it leads.
pub const LEADER: Metric = metric("pace_leader", Kind::Gauge, "", "1 on the server that leads, 0 on the others.");
/// The log's end.
pub const SEQUENCE: Metric = metric("pace_log_sequence", Kind::Gauge, "", "Number of the last entry of the event log.");
/// Answers over HTTP.
pub const HTTP: Metric =
    metric("pace_http_requests_total", Kind::Counter, "class", "Answers over HTTP, by class of their status.");
/// Time of webhooks.
pub const HOOK_SECONDS: Metric = metric(
    "pace_hook_seconds",
    Kind::Histogram,
    "",
    "From the head of a webhook to its answer, which is given when the delivery is durable.",
);
/// Watchers that missed something.
pub const MISSED: Metric = metric(
    "pace_metrics_missed_total",
    Kind::Counter,
    "",
    "Events that the counters did not see because too many came at once; the event log has them.",
);
/// Memory.
pub const MEMORY: Metric =
    metric("process_resident_memory_bytes", Kind::Gauge, "", "Memory of the server's process that is in use.");
/// Descriptors.
pub const DESCRIPTORS: Metric = metric("process_open_fds", Kind::Gauge, "", "Open files and sockets of the process.");
/// CPU time.
pub const CPU: Metric = metric("process_cpu_seconds_total", Kind::Counter, "", "CPU time of the process.");

/// All of them, in the order in which they are written.
pub const ALL: [Metric; 25] = [
    RUNS_REQUESTED,
    RUNS_ENDED,
    RUNS_ACTIVE,
    RUN_SECONDS,
    RUN_WAIT_SECONDS,
    STEPS_ENDED,
    QUEUE_SECONDS,
    ATTEMPT_SECONDS,
    PREPARE_SECONDS,
    ATTEMPTS_FAILED,
    ATTEMPTS_CACHED,
    AGENTS,
    SLOTS,
    DELIVERIES_OPEN,
    FACTS,
    LOG_BYTES,
    LEADER,
    SEQUENCE,
    HTTP,
    HOOK_SECONDS,
    MISSED,
    MEMORY,
    DESCRIPTORS,
    CPU,
    UP,
];

/// Since when.
pub const UP: Metric =
    metric("process_start_time_seconds", Kind::Gauge, "", "When the server started, in seconds since 1970.");

/// `docs/server/metrics.md`.
pub fn page() -> String {
    let mut page = String::from(PAGE_HEAD);
    for Metric { name, kind, label, help } in ALL {
        let label = if label.is_empty() { String::new() } else { format!("`{label}`") };
        page.push_str(&format!("| `{name}` | {} | {label} | {help} |\n", kind.word()));
    }
    page.push_str(PAGE_END);
    page
}

const PAGE_HEAD: &str = "\
# Metrics

`GET /metrics` answers in Prometheus' text format, without a token. Everything counts from the start of the process. No label
holds a name that people choose, so the number of series does not grow with projects, branches or users.

| metric | kind | label | what it is |
| --- | --- | --- | --- |
";

const PAGE_END: &str = "
Histograms have seconds in buckets from 5 ms to 6 h. [`deploy/prometheus`](../../deploy/prometheus) has alert rules and a
configuration, [`deploy/grafana`](../../deploy/grafana) a dashboard; [observe.md](observe.md) says how to use them.
";

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_the_repository_is_the_one_the_table_writes() {
        let page = include_str!("../../../../docs/server/metrics.md");
        assert!(
            page == super::page(),
            "docs/server/metrics.md is old: `cargo run -p paceline-server --example metrics` prints it anew"
        );
    }
}
