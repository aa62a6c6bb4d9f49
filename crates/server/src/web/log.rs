//! Parts of logs: whole lines at a place, and which number the first one has.

use std::collections::HashMap;

use model::limits::LOG_LINE_BYTES_MAX;
use store::{LogId, Store, StoreError};
use view::page::step::Window;

/// What a page shows at first, and what is added at once.
const WINDOW_BYTES_MAX: usize = 256 << 10;
/// Lines of it.
const WINDOW_LINES_MAX: usize = 2_000;
/// Read from the store at once: holds the longest line with its time.
const READ_BYTES: usize = LOG_LINE_BYTES_MAX + (64 << 10);
/// After so many bytes of a log the number of the line is remembered.
const BLOCK: u64 = 256 << 10;
/// Logs of which numbers are remembered.
const LOGS_MAX: usize = 256;

/// Where a window lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// At the end.
    Tail,
    /// From this byte on; from the next line on if that is within one.
    From(u64),
    /// Before this byte.
    Before(u64),
    /// With this line, counted from 1, at its top.
    Line(u64),
}

/// Numbers of lines at places in logs, so that a long log is counted once and not for each page.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// For each log the line ends before each whole [`BLOCK`].
    known: HashMap<LogId, Vec<u64>>,
}

impl Lines {
    /// The number of the line that begins at `offset`, counted from 1. Blocks. Reads what was not counted before.
    pub(super) fn number_at(&mut self, store: &Store, log: &LogId, offset: u64) -> Result<u64, StoreError> {
        let known = self.of(log);
        let blocks = usize::try_from(offset / BLOCK).unwrap_or(usize::MAX);
        while known.len() < blocks {
            let begin = known.len() as u64 * BLOCK;
            let before = known.last().copied().unwrap_or(0);
            known.push(before + ends(&bytes(store, log, begin, BLOCK as usize)?));
        }
        let before = blocks.checked_sub(1).map_or(0, |last| known[last]);
        let begin = blocks as u64 * BLOCK;
        let rest = usize::try_from(offset - begin).unwrap_or(0);
        Ok(1 + before + ends(&bytes(store, log, begin, rest)?))
    }

    /// Where the line of this number begins; the end for one that is not there. Blocks.
    pub(super) fn offset_of(&mut self, store: &Store, log: &LogId, line: u64, length: u64) -> Result<u64, StoreError> {
        let wanted = line.saturating_sub(1);
        if wanted == 0 {
            return Ok(0);
        }
        let mut begin = 0;
        let mut before = 0;
        while begin < length {
            let next = (begin + BLOCK).min(length);
            let bytes = bytes(store, log, begin, (next - begin) as usize)?;
            let here = ends(&bytes);
            if before + here >= wanted {
                let nth =
                    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth((wanted - before - 1) as usize);
                return Ok(nth.map_or(next, |(at, _)| begin + at as u64 + 1));
            }
            before += here;
            begin = next;
        }
        Ok(length)
    }

    fn of(&mut self, log: &LogId) -> &mut Vec<u64> {
        if self.known.len() >= LOGS_MAX && !self.known.contains_key(log) {
            self.known.clear();
        }
        self.known.entry(log.clone()).or_default()
    }
}

/// Part of a log. Blocks.
pub(super) fn window(store: &Store, lines: &mut Lines, log: &LogId, at: At) -> Result<Window, StoreError> {
    let length = store.log(log, 0, 0)?.length;
    let (from, mut bytes) = match at {
        At::Tail => tail(store, log, length)?,
        At::Before(end) => tail(store, log, end.min(length))?,
        At::From(from) => head(store, log, from.min(length))?,
        At::Line(line) => {
            let from = lines.offset_of(store, log, line, length)?;
            head(store, log, from)?
        }
    };
    if bytes.is_empty() && at != At::Tail && length > 0 && from >= length {
        return window(store, lines, log, At::Tail);
    }
    bytes.shrink_to_fit();
    Ok(Window { first_line: lines.number_at(store, log, from)?, from, bytes, length })
}

/// The last whole lines before `end`.
fn tail(store: &Store, log: &LogId, end: u64) -> Result<(u64, Vec<u8>), StoreError> {
    let start = end.saturating_sub(WINDOW_BYTES_MAX as u64);
    let mut bytes = bytes(store, log, start, (end - start) as usize)?;
    // `end` may lie within a line.
    bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
    let mut cut = if start == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    let mut line_ends = bytes.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    if let Some((at, _)) = line_ends.nth(WINDOW_LINES_MAX) {
        cut = cut.max(at + 1);
    }
    Ok((start + cut as u64, bytes.split_off(cut)))
}

/// The first whole lines from `from` on.
fn head(store: &Store, log: &LogId, from: u64) -> Result<(u64, Vec<u8>), StoreError> {
    let mut from = from;
    if from > 0 && bytes(store, log, from - 1, 1)? != b"\n" {
        let next = bytes(store, log, from, READ_BYTES)?;
        from += next.iter().position(|byte| *byte == b'\n').map_or(next.len(), |at| at + 1) as u64;
    }
    Ok((from, whole_lines(store, log, from, WINDOW_BYTES_MAX, WINDOW_LINES_MAX)?))
}

/// Whole lines from the beginning of one on: at most so many, and about so many bytes. Blocks.
pub(super) fn whole_lines(
    store: &Store,
    log: &LogId,
    from: u64,
    bytes_max: usize,
    lines_max: usize,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = bytes(store, log, from, bytes_max.max(READ_BYTES))?;
    let mut line_ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let end = line_ends.by_ref().take(lines_max).last().unwrap_or(0);
    bytes.truncate(end);
    Ok(bytes)
}

/// So many bytes, fewer only at the end of the log.
fn bytes(store: &Store, log: &LogId, from: u64, max: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    while bytes.len() < max {
        let part = store.log(log, from + bytes.len() as u64, max - bytes.len())?;
        if part.bytes.is_empty() {
            break;
        }
        bytes.extend(part.bytes);
    }
    Ok(bytes)
}

fn ends(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}
