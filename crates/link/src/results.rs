//! The thread that hears the executing part: lines wake the one that talks, results go into the book, after what others need of
//! them is in the server's cache.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use agent::Report;
use model::{AttemptEnd, AttemptResult, Cause};

use crate::lease::Lease;
use crate::{Station, Status, lock};

/// Reports taken in one round.
const AT_ONCE: usize = 4096;
/// What a line has in the log beside its text.
const LINE_OVERHEAD: u64 = 15;
/// How often it is looked whether results are to be made safe.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the server's cache is asked to take something while the server is connected.
const TRIES_MAX: u32 = 20;

/// Hears until everything is closed.
pub(crate) fn hear(station: &Arc<Station>, inbox: &Receiver<Report>) {
    while !station.is_closing() {
        match inbox.recv_timeout(LOOK_EVERY) {
            Ok(first) => {
                let rest = inbox.try_iter().take(AT_ONCE);
                take(station, std::iter::once(first).chain(rest).collect());
                station.book.wait_for_room(station.config.spool_bytes_max, || !station.is_closing());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        station.book.sync();
    }
}

fn take(station: &Arc<Station>, reports: Vec<Report>) {
    let mut lines: Vec<(Lease, u64)> = Vec::new();
    let mut ended = Vec::new();
    for report in reports {
        match report {
            Report::Line(line) => {
                let bytes = line.text.len() as u64 + LINE_OVERHEAD;
                match lines.last_mut() {
                    Some((last, sum)) if is_of(last, &line) => *sum += bytes,
                    _ => lines.extend(station.runs.lease_of(&line.run, line.node).map(|lease| (lease, bytes))),
                }
            }
            Report::Finished { run, node, attempt, fence, result } => {
                ended.push((Lease { run, node, attempt, fence }, result));
            }
        }
    }
    if !lines.is_empty() {
        station.book.heard(lines.iter().map(|(lease, bytes)| (lease, *bytes)));
    }
    for (lease, result) in ended {
        let result = Arc::unwrap_or_clone(result);
        station.runs.ended(&lease);
        if needs_publishing(&result) {
            let station_ = station.clone();
            station.helpers.spawn_blocking(move || publish(&station_, &lease, result));
        } else {
            station.book.end(&lease, result);
        }
    }
}

fn is_of(lease: &Lease, line: &agent::LogLine) -> bool {
    lease.node == line.node && lease.attempt == line.attempt && lease.run == line.run
}

fn needs_publishing(result: &AttemptResult) -> bool {
    result.layer.is_some() || !result.artifacts.is_empty() || !result.reports.is_empty()
}

/// Puts what a result names into the server's cache. As long as the server is away, so long it waits.
fn publish(station: &Station, lease: &Lease, mut result: AttemptResult) {
    let mut tries = 0;
    let refused = loop {
        let Err(why) = station.agent.publish(&lease.run, &result) else { break None };
        if matches!(*lock(&station.status), Status::Connected(_)) {
            tries += 1;
        }
        if tries >= TRIES_MAX || station.is_closing() {
            break Some(why);
        }
        std::thread::sleep(Duration::from_millis(100 * u64::from(tries.clamp(1, 10))));
    };
    if station.is_closing() && refused.is_some() {
        return;
    }
    if let Some(why) = refused {
        let text = format!("what the step left could not be put into the server's cache: {why}");
        (result.layer, result.artifacts, result.reports) = (None, Vec::new(), Vec::new());
        match result.end {
            AttemptEnd::Succeeded => result.end = AttemptEnd::Failed(Cause::Infrastructure(text)),
            _ => result.notes.push(text),
        }
    }
    station.book.end(lease, result);
}
