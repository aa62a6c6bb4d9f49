//! Clients that call one after the other until the calls or the time run out, and what a measure says.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::process::{self, Usage};

/// Why a measure failed.
pub(crate) type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What a measure says.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Its name.
    pub(crate) measure: String,
    /// Clients at a time.
    pub(crate) clients: usize,
    /// Calls that were answered as they should be.
    pub(crate) calls: usize,
    /// Blobs, digests or results in them.
    pub(crate) items: usize,
    /// Content in them, in bytes.
    pub(crate) bytes: u64,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The median call, in microseconds.
    pub(crate) p50_us: u64,
    /// The call that 99 of 100 were quicker than, in microseconds.
    pub(crate) p99_us: u64,
    /// Processor time that the server took, in seconds.
    pub(crate) server_cpu: f64,
    /// The server's memory afterwards, in bytes.
    pub(crate) server_rss: u64,
    /// Why there are no numbers.
    pub(crate) error: Option<String>,
}

impl Sample {
    /// Prints it as a line.
    pub(crate) fn print(&self) {
        println!("{}", serde_json::to_string(self).unwrap_or_default());
    }
}

/// A measure: its name, and what one call carries.
#[derive(Clone, Debug)]
pub(crate) struct Measure {
    pub(crate) name: String,
    pub(crate) items: usize,
    pub(crate) bytes: u64,
    pub(crate) limit: Duration,
    pub(crate) pid: Option<u32>,
}

/// Has each of `clients` make calls, number after number below `calls`, until the time is up. How far they came is in the
/// sample.
pub(crate) async fn drive<C, F, Fut>(measure: &Measure, clients: Vec<C>, calls: usize, call: F) -> Sample
where
    C: Send + 'static,
    F: Fn(C, usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<C, Failed>> + Send + 'static,
{
    let count = clients.len();
    let next = Arc::new(AtomicUsize::new(0));
    let before = measure.pid.map(process::usage).unwrap_or_default();
    let start = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|client| tokio::spawn(one(client, next.clone(), calls, start + measure.limit, call.clone())))
        .collect();
    let mut took = Vec::new();
    let mut error = None;
    for task in tasks {
        match task.await {
            Ok(Ok(times)) => took.extend(times),
            Ok(Err(failed)) => error = Some(failed.to_string()),
            Err(failed) => error = Some(failed.to_string()),
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let after = measure.pid.map(process::usage).unwrap_or_default();
    sample(measure, count, took, seconds, (before, after), error)
}

async fn one<C, F, Fut>(
    mut client: C,
    next: Arc<AtomicUsize>,
    calls: usize,
    end: Instant,
    call: F,
) -> Result<Vec<u64>, Failed>
where
    F: Fn(C, usize) -> Fut,
    Fut: Future<Output = Result<C, Failed>>,
{
    let mut took = Vec::new();
    loop {
        let at = next.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        if at >= calls || start >= end {
            return Ok(took);
        }
        client = call(client, at).await?;
        took.push(start.elapsed().as_micros() as u64);
    }
}

fn sample(
    measure: &Measure,
    clients: usize,
    mut took: Vec<u64>,
    seconds: f64,
    (before, after): (Usage, Usage),
    error: Option<String>,
) -> Sample {
    took.sort_unstable();
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1)));
    Sample {
        measure: measure.name.clone(),
        clients,
        calls: took.len(),
        items: took.len() * measure.items,
        bytes: took.len() as u64 * measure.bytes,
        seconds,
        p50_us: at(0.5).copied().unwrap_or_default(),
        p99_us: at(0.99).copied().unwrap_or_default(),
        server_cpu: after.cpu - before.cpu,
        server_rss: after.rss,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_calls() {
        let measure = Measure { name: "m".into(), items: 2, bytes: 10, limit: Duration::ZERO, pid: None };
        let sample = sample(&measure, 1, (1..=100).rev().collect(), 1.0, Default::default(), None);
        assert_eq!((sample.p50_us, sample.p99_us, sample.items, sample.bytes), (51, 100, 200, 1000));
    }
}
