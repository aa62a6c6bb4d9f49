//! What happens, as streams that go on where somebody left off: nothing is lost, nothing comes twice.
//!
//! What just happened only wakes a stream; what it says it reads from the store, after what it said last. So a slow reader, a
//! restart of this server and another replica that leads are all the same to it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use model::{Fact, RunEvent, RunId};
use store::{LogId, ProjectFact, Sequenced};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::timeout;

use crate::Shared;
use crate::authentication::off;
use crate::live::Happened;
use crate::problem::Problem;

/// How often the store is read though nothing was heard: another replica may lead, which this one does not hear.
const UNHEARD: Duration = Duration::from_secs(2);
/// Facts that are read at once.
const FACTS_MAX: usize = 200;
/// Bytes of a log that are read at once; more than the longest line.
const LOG_BYTES_MAX: usize = 256 * 1024;

/// Part of a log, whole lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Where it begins.
    pub offset: u64,
    /// Where the next one begins: what to go on with.
    pub next: u64,
    /// Lines `<unix milliseconds> <text>`, each with its line end.
    pub text: String,
    /// The attempt ended, and this is the end of its log.
    pub end: bool,
}

/// Facts of all runs after a global number. Each is `Err` at most once, as the last.
pub fn facts(shared: Arc<Shared>, after: u64) -> impl Stream<Item = Result<Sequenced<ProjectFact>, Problem>> + Send {
    let state = Facts { wake: Wake::new(&shared), shared, after, ready: VecDeque::new() };
    unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            if let Some(fact) = state.ready.pop_front() {
                state.after = fact.sequence;
                return Some((Ok(fact), Some(state)));
            }
            let (shared, after) = (state.shared.clone(), state.after);
            match off(move || Ok(shared.store.facts_after(after, FACTS_MAX)?)).await {
                Ok(read) if read.is_empty() => {
                    if !state.wake.wait(&state.shared, |happened| matches!(happened, Happened::Fact(_))).await {
                        return None;
                    }
                }
                Ok(read) => state.ready = read.into(),
                Err(problem) => return Some((Err(problem), None)),
            }
        }
    })
}

/// Facts of a run without its first `after` ones, each with its number; ends with the run.
pub fn facts_of(
    shared: Arc<Shared>,
    run: RunId,
    after: u64,
) -> impl Stream<Item = Result<(u64, Fact), Problem>> + Send {
    let state = FactsOf { wake: Wake::new(&shared), shared, run, after, ready: VecDeque::new(), ended: false };
    unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            if let Some(fact) = state.ready.pop_front() {
                state.after += 1;
                state.ended |= matches!(fact.event, RunEvent::Ended { .. });
                return Some((Ok((state.after, fact)), Some(state)));
            }
            if state.ended {
                return None;
            }
            match state.read().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(problem) => return Some((Err(problem), None)),
            }
        }
    })
}

/// The log of an attempt from a byte on, until the attempt has ended and all of it was said.
pub fn log(shared: Arc<Shared>, id: LogId, offset: u64) -> impl Stream<Item = Result<LogPiece, Problem>> + Send {
    let state = Log { wake: Wake::new(&shared), shared, id, offset, facts: 0, length: None };
    unfold(Some(state), |state| async move {
        let mut state = state?;
        loop {
            match state.read().await {
                Ok(Some(piece)) if piece.end => return Some((Ok(piece), None)),
                Ok(Some(piece)) => return Some((Ok(piece), Some(state))),
                Ok(None) => {
                    let id = state.id.clone();
                    let mine = move |happened: &Happened| match happened {
                        Happened::Log { log, .. } => *log == id,
                        Happened::Fact(fact) => fact.value.fact.run == id.run,
                        _ => false,
                    };
                    if !state.wake.wait(&state.shared, mine).await {
                        return None;
                    }
                }
                Err(problem) => return Some((Err(problem), None)),
            }
        }
    })
}

struct Facts {
    wake: Wake,
    shared: Arc<Shared>,
    after: u64,
    ready: VecDeque<Sequenced<ProjectFact>>,
}

struct FactsOf {
    wake: Wake,
    shared: Arc<Shared>,
    run: RunId,
    after: u64,
    ready: VecDeque<Fact>,
    ended: bool,
}

impl FactsOf {
    /// Reads on, or waits for more. Whether the stream goes on.
    async fn read(&mut self) -> Result<bool, Problem> {
        let (shared, run, after) = (self.shared.clone(), self.run.clone(), self.after);
        let (read, over) = off(move || {
            // Asked first: what comes between the two questions is only read twice, never lost.
            let over = shared.store.run(&run)?.is_none_or(|summary| summary.outcome.is_some());
            Ok((shared.store.facts_of_after(&run, after, FACTS_MAX)?, over))
        })
        .await?;
        if !read.is_empty() {
            self.ready = read.into();
            return Ok(true);
        }
        if over {
            return Ok(false);
        }
        let run = self.run.clone();
        let mine = move |happened: &Happened| matches!(happened, Happened::Fact(fact) if fact.value.fact.run == run);
        Ok(self.wake.wait(&self.shared, mine).await)
    }
}

struct Log {
    wake: Wake,
    shared: Arc<Shared>,
    id: LogId,
    offset: u64,
    /// Facts of the run that were looked at for the end of the attempt.
    facts: u64,
    /// Length of the whole log, once the attempt ended.
    length: Option<u64>,
}

impl Log {
    /// The next piece; `None`: there is no more yet.
    async fn read(&mut self) -> Result<Option<LogPiece>, Problem> {
        let (shared, id, offset, facts, length) =
            (self.shared.clone(), self.id.clone(), self.offset, self.facts, self.length);
        // In this order: once the attempt has ended its log is whole, so what is read after that is all of it.
        let (facts, length, part) = off(move || {
            let (facts, length) = if length.is_some() { (facts, length) } else { ended(&shared, &id, facts)? };
            Ok((facts, length, shared.store.log(&id, offset, LOG_BYTES_MAX)?))
        })
        .await?;
        (self.facts, self.length) = (facts, length);
        let bytes = whole_lines(&part.bytes, offset + part.bytes.len() as u64 == part.length && length.is_some());
        let next = offset + bytes.len() as u64;
        let end = length.is_some() && next >= part.length;
        if bytes.is_empty() && !end {
            return Ok(None);
        }
        self.offset = next;
        Ok(Some(LogPiece { offset, next, text: String::from_utf8_lossy(bytes).into_owned(), end }))
    }
}

/// Looks for the end of the attempt in the facts that were not looked at yet.
fn ended(shared: &Shared, id: &LogId, mut seen: u64) -> Result<(u64, Option<u64>), Problem> {
    loop {
        let read = shared.store.facts_of_after(&id.run, seen, FACTS_MAX)?;
        let whole = read.len() < FACTS_MAX;
        for fact in read {
            seen += 1;
            match &fact.event {
                RunEvent::AttemptEnded { node, attempt, result } if (*node, *attempt) == (id.node, id.attempt) => {
                    return Ok((seen, Some(result.log_bytes)));
                }
                // Skipped, cancelled before it began, or lost: nothing more will be written.
                RunEvent::StepEnded { node, .. } if *node == id.node => return Ok((seen, Some(0))),
                RunEvent::Ended { .. } => return Ok((seen, Some(0))),
                _ => {}
            }
        }
        if whole {
            return Ok((seen, None));
        }
    }
}

/// Up to the last line end; all of it at the very end, and when a single line is longer than what is read at once.
fn whole_lines(bytes: &[u8], last: bool) -> &[u8] {
    match bytes.iter().rposition(|byte| *byte == b'\n') {
        _ if last => bytes,
        Some(at) => &bytes[..=at],
        None if bytes.len() >= LOG_BYTES_MAX => bytes,
        None => &[],
    }
}

/// What wakes a stream.
struct Wake {
    heard: Receiver<Happened>,
}

impl Wake {
    fn new(shared: &Shared) -> Wake {
        Wake { heard: shared.live.watch() }
    }

    /// Waits until something that matters happened, or it is time to look anyway. False: the server ends.
    async fn wait(&mut self, shared: &Shared, matters: impl Fn(&Happened) -> bool) -> bool {
        let woken = timeout(UNHEARD, async {
            loop {
                match self.heard.recv().await {
                    Ok(happened) if !matters(&happened) => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => return true,
                    Err(RecvError::Closed) => return false,
                }
            }
        });
        let goes_on = woken.await.unwrap_or(true);
        // What came at the same time is read at once.
        while matches!(self.heard.try_recv(), Ok(_) | Err(TryRecvError::Lagged(_))) {}
        goes_on && !shared.stopping.is_stopping()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_never_cut_but_at_the_end() {
        assert_eq!(whole_lines(b"1 a\n2 b", false), b"1 a\n");
        assert_eq!(whole_lines(b"1 a\n2 b", true), b"1 a\n2 b");
        assert_eq!(whole_lines(b"1 a", false), b"");
        let long = vec![b'x'; LOG_BYTES_MAX];
        assert_eq!(whole_lines(&long, false).len(), LOG_BYTES_MAX);
    }
}
