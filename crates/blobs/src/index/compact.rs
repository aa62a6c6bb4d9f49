//! Merging files of the index, so that there are few.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Loc;
use super::run::{Builder, Cursor, Run};
use crate::record::Kind;
use crate::tag::Tag;

/// Files that are about as large, from which on they become one.
const RUNS_MIN: usize = 4;
/// Places below which all files count as about as large.
const SMALL: u64 = 64 << 10;

/// How many of the newest runs are to become one; 0 when none. A run is taken when those newer than it come to half of
/// it, so each place is written some log(n) times.
pub(crate) fn due(newest_first: &[u64]) -> usize {
    let mut sum = 0;
    let taken = newest_first.iter().take_while(|count| {
        let near = sum == 0 || **count <= 2 * sum + SMALL;
        sum += **count;
        near
    });
    let taken = taken.count();
    if taken < RUNS_MIN { 0 } else { taken }
}

/// Writes one run with the newest place of each tag. `alive` says whether a place still counts; one that does not is
/// kept all the same unless `oldest`, because an older run may have an older place of the tag.
pub(crate) fn merge(
    runs: &[Arc<Run>],
    dir: &Path,
    id: u64,
    oldest: bool,
    alive: impl Fn(&Loc) -> bool,
) -> io::Result<Run> {
    let capacity = runs.iter().map(|run| run.count).sum();
    let mut builder = Builder::create(dir, id, capacity)?;
    let mut sources: Vec<Source<'_>> = runs.iter().map(|run| Source::new(run.cursor())).collect::<Result<_, _>>()?;
    while let Some(tag) = sources.iter().filter_map(|source| source.next.as_ref()).map(|(tag, _)| *tag).min() {
        let mut newest = None;
        for source in &mut sources {
            while let Some((_, loc)) = source.next.filter(|(next, _)| *next == tag) {
                newest.get_or_insert(loc);
                source.advance()?;
            }
        }
        let newest = newest.expect("a source has the least tag");
        if !oldest || (newest.kind != Kind::Tombstone && alive(&newest)) {
            builder.push(tag, &newest)?;
        }
    }
    builder.finish()
}

struct Source<'a> {
    cursor: Cursor<'a>,
    next: Option<(Tag, Loc)>,
}

impl<'a> Source<'a> {
    fn new(cursor: Cursor<'a>) -> io::Result<Source<'a>> {
        let mut source = Source { cursor, next: None };
        source.advance()?;
        Ok(source)
    }

    fn advance(&mut self) -> io::Result<()> {
        self.next = self.cursor.next().transpose()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_stay_few_however_many_are_written() {
        let mut runs: Vec<u64> = Vec::new();
        let mut written = 0;
        for _ in 0..1000 {
            runs.insert(0, 64 << 10);
            while let taken @ 1.. = due(&runs) {
                let sum = runs.drain(..taken).sum();
                written += sum;
                runs.insert(0, sum);
            }
            assert!(runs.len() <= 12, "{runs:?}");
        }
        assert!(written <= 12 * (1000 * (64 << 10)), "each place was written {} times", written / (1000 * (64 << 10)));
    }

    #[test]
    fn the_newest_place_wins_and_the_dead_go_only_at_the_bottom() {
        let dir = tempfile::tempdir().unwrap();
        let tag = |n: u64| Tag { high: n, low: n };
        let loc = |segment, kind| Loc { segment, offset: 0, ordinal: 0, stored_len: 0, size: 0, kind };
        let build = |id, places: &[(u64, Loc)]| {
            let mut builder = Builder::create(dir.path(), id, 10).unwrap();
            places.iter().for_each(|(n, loc)| builder.push(tag(*n), loc).unwrap());
            Arc::new(builder.finish().unwrap())
        };
        let newer = build(1, &[(1, loc(9, Kind::Blob)), (2, loc(9, Kind::Tombstone)), (4, loc(5, Kind::Blob))]);
        let older = build(2, &[(1, loc(3, Kind::Blob)), (2, loc(3, Kind::Blob)), (3, loc(3, Kind::Blob))]);
        let runs = [newer, older];
        let places = |oldest| {
            let run = merge(&runs, dir.path(), 3, oldest, |loc| loc.segment != 5).unwrap();
            run.cursor().map(|place| place.unwrap()).map(|(tag, loc)| (tag.high, loc.segment)).collect::<Vec<_>>()
        };
        assert_eq!(places(true), [(1, 9), (3, 3)]);
        assert_eq!(places(false), [(1, 9), (2, 9), (3, 3), (4, 5)]);
    }
}
