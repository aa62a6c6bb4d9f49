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

#[cfg(test)]
mod tests {
    use model::{
        AttemptNo, Fact, NodeIx, OnFailure, Plan, RunContext, RunEvent, RunNumber, Selection, Terms, Timestamp, Trigger,
    };
    use store::{Batch, Location, LogChunk, ProjectFact};

    use super::*;

    struct World {
        // Kept for its folder.
        _folder: tempfile::TempDir,
        store: Store,
        lines: Lines,
        log: LogId,
        text: Vec<u8>,
    }

    /// The run of a log is asked for; it has nothing to do.
    fn requested(log: &LogId) -> ProjectFact {
        let context = RunContext {
            run: log.run.clone(),
            number: RunNumber(1),
            trigger: Trigger::default(),
            params: Default::default(),
            hashes: Default::default(),
            caller_env: Default::default(),
            estimates: Default::default(),
            selection: Selection::default(),
            on_failure: OnFailure::default(),
            terms: Terms::default(),
        };
        let plan = Plan {
            name: "p".into(),
            context,
            env: Default::default(),
            concurrency: None,
            sla: None,
            groups: Vec::new(),
            nodes: Vec::new(),
        };
        let event = RunEvent::Requested { plan: plan.into() };
        ProjectFact { project: "web".into(), fact: Fact { at: Timestamp(1), run: log.run.clone(), event } }
    }

    /// A log whose line `n` is `line n` with so many more bytes.
    fn log_of(count: u64, padding: usize) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&Location::Sqlite(folder.path().join("db"))).expect("opens");
        let epoch = store.lead("test").expect("asked").expect("leads");
        let log = LogId { run: "r1".into(), node: NodeIx(0), attempt: AttemptNo(1) };
        let line = |n: u64| format!("{} line {n}{}\n", 1_795_255_082_000 + n, "x".repeat(padding));
        let text: Vec<u8> = (1..=count).flat_map(|n| line(n).into_bytes()).collect();
        let begin = Batch { facts: vec![requested(&log)], ..Batch::default() };
        store.append(Some(epoch), begin).expect("appended");
        for (at, part) in text.chunks(200_000).enumerate() {
            let chunk = LogChunk { log: log.clone(), offset: at as u64 * 200_000, bytes: part.to_vec() };
            store.append(Some(epoch), Batch { logs: vec![chunk], ..Batch::default() }).expect("appended");
        }
        World { _folder: folder, store, lines: Lines::default(), log, text }
    }

    impl World {
        fn at(&mut self, at: At) -> Window {
            let window = window(&self.store, &mut self.lines, &self.log, at).expect("read");
            let end = window.end() as usize;
            assert_eq!(window.bytes, self.text[window.from as usize..end], "{at:?}");
            assert!(window.bytes.is_empty() || window.bytes.ends_with(b"\n"), "{at:?}: whole lines");
            assert_eq!(window.length, self.text.len() as u64);
            window
        }
        /// The number that the first line says of itself, and the one it has.
        fn first(window: &Window) -> (u64, u64) {
            let text = String::from_utf8_lossy(&window.bytes);
            let said = text.split(' ').nth(2).and_then(|rest| rest.trim_end_matches('\n').split(['x', '\n']).next());
            (said.and_then(|said| said.parse().ok()).expect("a number"), window.first_line)
        }
    }

    #[test]
    fn a_short_log_is_shown_whole() {
        let mut world = log_of(3, 0);
        let window = world.at(At::Tail);
        assert_eq!((window.from, window.first_line, window.end()), (0, 1, world.text.len() as u64));
    }

    #[test]
    fn lines_know_their_numbers_wherever_a_window_begins() {
        let mut world = log_of(40_000, 60);
        let tail = world.at(At::Tail);
        assert_eq!(tail.end(), world.text.len() as u64);
        let (said, is) = World::first(&tail);
        assert_eq!(said, is);
        let before = world.at(At::Before(tail.from));
        assert_eq!(before.end(), tail.from, "no line is left out or shown twice");
        for at in [At::From(0), At::From(1), At::From(777_777), At::Line(1), At::Line(20_000), At::Line(40_000)] {
            let (said, is) = World::first(&world.at(at));
            assert_eq!(said, is, "{at:?}");
        }
        assert_eq!(World::first(&world.at(At::Line(20_000))).0, 20_000);
    }

    #[test]
    fn places_that_are_not_there_show_the_end() {
        let mut world = log_of(10, 0);
        for at in [At::From(u64::MAX), At::Line(u64::MAX), At::Line(11)] {
            assert_eq!(world.at(at).end(), world.text.len() as u64, "{at:?}");
        }
        assert_eq!(world.at(At::Before(0)).from, 0);
        let mut empty = log_of(0, 0);
        assert_eq!(empty.at(At::Tail), Window { first_line: 1, ..Window::default() });
    }

    #[test]
    fn the_longest_lines_are_shown_one_by_one() {
        let mut world = log_of(30, LOG_LINE_BYTES_MAX - 40);
        let (said, is) = World::first(&world.at(At::Tail));
        assert_eq!(said, is);
        let whole = whole_lines(&world.store, &world.log, 0, 1, 500).expect("read");
        assert!(!whole.is_empty() && whole.ends_with(b"\n"));
    }
}
