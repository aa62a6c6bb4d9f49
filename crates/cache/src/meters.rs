//! What was asked and answered, counted for each protocol, as text for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use blobs::Stats;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The Remote Execution API and what belongs to it.
    Grpc,
    /// `/ac/` and `/cas/`.
    Bazel,
    /// `/dav/`.
    WebDav,
    /// `/v8/artifacts/`.
    Turborepo,
    /// `/v1/cache/`.
    Nx,
    /// GitHub's cache service.
    GitHub,
    /// Our own.
    Paceline,
    /// Status, metrics, and what nobody serves.
    Other,
}

impl Protocol {
    const ALL: [Protocol; 8] = [
        Protocol::Grpc,
        Protocol::Bazel,
        Protocol::WebDav,
        Protocol::Turborepo,
        Protocol::Nx,
        Protocol::GitHub,
        Protocol::Paceline,
        Protocol::Other,
    ];

    fn word(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Bazel => "bazel_http",
            Protocol::WebDav => "webdav",
            Protocol::Turborepo => "turborepo",
            Protocol::Nx => "nx",
            Protocol::GitHub => "github",
            Protocol::Paceline => "paceline",
            Protocol::Other => "other",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What it asked for was there.
    Hit,
    /// It was not.
    Miss,
    /// Something was stored or told, as asked.
    Done,
    /// It was refused or failed.
    Refused,
}

impl Ending {
    const ALL: [Ending; 4] = [Ending::Hit, Ending::Miss, Ending::Done, Ending::Refused];

    /// Of an answer over gRPC: a call that fails before its first message has its status in the head. Whether the blobs of
    /// a batch were there stands in the messages.
    pub fn of_grpc(headers: &http::HeaderMap) -> Ending {
        match headers.get("grpc-status").map(http::HeaderValue::as_bytes) {
            None | Some(b"0") => Ending::Done,
            Some(b"5") => Ending::Miss,
            Some(_) => Ending::Refused,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Ending::Hit => "hit",
            Ending::Miss => "miss",
            Ending::Done => "done",
            Ending::Refused => "refused",
        }
    }
}

/// Upper ends of the histogram's buckets in microseconds.
const BUCKETS: [u64; 8] = [250, 1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];

/// The counters of one protocol.
#[derive(Debug, Default)]
struct Meter {
    endings: [AtomicU64; Ending::ALL.len()],
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    /// Requests up to each of [`BUCKETS`]; the last one takes the rest.
    took: [AtomicU64; BUCKETS.len() + 1],
    took_micros: AtomicU64,
}

/// Numbers without labels in Prometheus' text format: name, type and value of each, the names after `pace_cache_` and `part`.
pub(crate) fn exposition(part: &str, numbers: &[(&str, &str, u64)]) -> String {
    let line = |(name, kind, value): &(&str, &str, u64)| {
        format!("# TYPE pace_cache_{part}{name} {kind}\npace_cache_{part}{name} {value}\n")
    };
    numbers.iter().map(line).collect()
}

/// The counters of all protocols.
#[derive(Debug, Default)]
pub struct Meters {
    meters: [Meter; Protocol::ALL.len()],
}

impl Meters {
    /// A request was answered, up to its status, in this time.
    pub fn answered(&self, protocol: Protocol, ending: Ending, took: Duration) {
        let meter = &self.meters[protocol as usize];
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        meter.endings[ending as usize].fetch_add(1, Relaxed);
        meter.took[BUCKETS.partition_point(|end| *end < micros)].fetch_add(1, Relaxed);
        meter.took_micros.fetch_add(micros, Relaxed);
    }
    /// Bytes of a request's body came.
    pub fn received(&self, protocol: Protocol, bytes: usize) {
        self.meters[protocol as usize].bytes_received.fetch_add(bytes as u64, Relaxed);
    }
    /// Bytes of an answer's body went.
    pub fn sent(&self, protocol: Protocol, bytes: usize) {
        self.meters[protocol as usize].bytes_sent.fetch_add(bytes as u64, Relaxed);
    }

    /// Everything in Prometheus' text format, the store's own numbers included.
    pub fn text(&self, stats: &Stats) -> String {
        let mut text = exposition(
            "",
            &[
                ("blobs", "gauge", stats.blobs),
                ("blob_bytes", "gauge", stats.blob_bytes),
                ("entries", "gauge", stats.entries),
                ("disk_bytes", "gauge", stats.disk_bytes),
                ("blob_hits_total", "counter", stats.hits),
                ("blob_misses_total", "counter", stats.misses),
                ("blobs_evicted_total", "counter", stats.evicted),
                ("blobs_damaged_total", "counter", stats.damaged),
            ],
        );
        self.write(&mut text, "requests_total", "counter", Meter::endings);
        self.write(&mut text, "received_bytes_total", "counter", |meter, labels, out| {
            out.push((String::new(), labels.into(), meter.bytes_received.load(Relaxed).to_string()));
        });
        self.write(&mut text, "sent_bytes_total", "counter", |meter, labels, out| {
            out.push((String::new(), labels.into(), meter.bytes_sent.load(Relaxed).to_string()));
        });
        self.write(&mut text, "request_seconds", "histogram", Meter::histogram);
        text
    }

    fn write(&self, text: &mut String, name: &str, kind: &str, lines: fn(&Meter, &str, &mut Vec<Line>)) {
        let _ = writeln!(text, "# TYPE pace_cache_{name} {kind}");
        for protocol in Protocol::ALL {
            let mut out = Vec::new();
            lines(&self.meters[protocol as usize], &format!("protocol=\"{}\"", protocol.word()), &mut out);
            for (suffix, labels, value) in out {
                let _ = writeln!(text, "pace_cache_{name}{suffix}{{{labels}}} {value}");
            }
        }
    }
}

/// What comes behind a metric's name, its labels, its value.
type Line = (String, String, String);

impl Meter {
    fn endings(&self, labels: &str, out: &mut Vec<Line>) {
        for ending in Ending::ALL {
            let count = self.endings[ending as usize].load(Relaxed);
            out.push((String::new(), format!("{labels},ending=\"{}\"", ending.word()), count.to_string()));
        }
    }
    fn histogram(&self, labels: &str, out: &mut Vec<Line>) {
        let mut below = 0;
        for (at, count) in self.took.iter().enumerate() {
            below += count.load(Relaxed);
            let end = BUCKETS.get(at).map_or("+Inf".into(), |micros| seconds(*micros));
            out.push(("_bucket".into(), format!("{labels},le=\"{end}\""), below.to_string()));
        }
        out.push(("_sum".into(), labels.into(), seconds(self.took_micros.load(Relaxed))));
        out.push(("_count".into(), labels.into(), below.to_string()));
    }
}

fn seconds(micros: u64) -> String {
    format!("{}", micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_is_counted_where_it_belongs() {
        let meters = Meters::default();
        meters.answered(Protocol::Nx, Ending::Hit, Duration::from_millis(3));
        meters.answered(Protocol::Nx, Ending::Miss, Duration::from_secs(60));
        meters.sent(Protocol::Nx, 17);
        let text = meters.text(&Stats { blobs: 4, ..Stats::default() });
        for line in [
            "pace_cache_blobs 4",
            "pace_cache_requests_total{protocol=\"nx\",ending=\"hit\"} 1",
            "pace_cache_requests_total{protocol=\"grpc\",ending=\"hit\"} 0",
            "pace_cache_sent_bytes_total{protocol=\"nx\"} 17",
            "pace_cache_request_seconds_bucket{protocol=\"nx\",le=\"0.001\"} 0",
            "pace_cache_request_seconds_bucket{protocol=\"nx\",le=\"0.005\"} 1",
            "pace_cache_request_seconds_bucket{protocol=\"nx\",le=\"10\"} 1",
            "pace_cache_request_seconds_bucket{protocol=\"nx\",le=\"+Inf\"} 2",
            "pace_cache_request_seconds_sum{protocol=\"nx\"} 60.003",
            "pace_cache_request_seconds_count{protocol=\"nx\"} 2",
        ] {
            assert!(text.lines().any(|is| is == line), "no `{line}` in\n{text}");
        }
    }
}
