//! Where each record is: a table in memory for the newest, sorted files for the rest.

pub(crate) mod bloom;
pub(crate) mod compact;
pub(crate) mod run;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::run::Run;
use crate::record::{HEADER_BYTES, Kind};
use crate::tag::{Tag, TagState};

/// Where a record is, and what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Loc {
    pub segment: u32,
    /// Of the header in the segment.
    pub offset: u32,
    /// The how manyth record of the segment it is.
    pub ordinal: u32,
    pub stored_len: u32,
    pub size: u64,
    pub kind: Kind,
}

impl Loc {
    pub(crate) fn record_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.stored_len)
    }
}

/// The newest record of a tag. `seq` is 0 when it came from a file, and is on the disk for sure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub loc: Loc,
    pub seq: u64,
}

pub(crate) type Table = HashMap<Tag, Found, TagState>;

/// Everything there is to look in, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub active: Table,
    /// A full table while it is written to a file.
    pub frozen: Option<Arc<Table>>,
    /// Newest first.
    pub runs: Arc<[Arc<Run>]>,
    /// Counts what `frozen` became: see [`Index::find_again`].
    pub generation: u64,
}

impl Tables {
    fn in_memory(&self, tag: &Tag) -> Option<Found> {
        self.active.get(tag).or_else(|| self.frozen.as_ref()?.get(tag)).copied()
    }
}

/// The index. The only lock is held for reading in memory and for changing one table, never for a file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tables: RwLock<Tables>,
}

/// What was found, and when: it may be found stale later.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub found: Option<Found>,
    pub generation: u64,
}

impl Index {
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, tag: Tag) -> io::Result<Seen> {
        let (generation, runs) = {
            let tables = self.read();
            if let Some(found) = tables.in_memory(&tag) {
                return Ok(Seen { found: Some(found), generation: tables.generation });
            }
            (tables.generation, tables.runs.clone())
        };
        Ok(Seen { found: find_in_runs(&runs, tag)?, generation })
    }

    /// Many at once: much quicker than one by one.
    pub(crate) fn find_many(&self, tags: &[Tag]) -> io::Result<(Vec<Option<Found>>, u64)> {
        let mut found = vec![None; tags.len()];
        let (generation, runs, mut rest) = {
            let tables = self.read();
            let mut rest = Vec::new();
            for (at, tag) in tags.iter().enumerate() {
                found[at] = tables.in_memory(tag);
                if found[at].is_none() && !tables.runs.is_empty() {
                    rest.push((*tag, at as u32));
                }
            }
            (tables.generation, tables.runs.clone(), rest)
        };
        rest.sort_unstable();
        for run in runs.iter() {
            run.find_sorted(&rest, |at, loc| found[at as usize] = Some(Found { loc, seq: 0 }))?;
            rest.retain(|(_, at)| found[*at as usize].is_none());
            if rest.is_empty() {
                break;
            }
        }
        Ok((found, generation))
    }

    /// What is newest now, when `seen` was newest before. Quick unless a table became a file in between.
    pub(crate) fn find_again(&self, tag: Tag, seen: Seen) -> io::Result<Option<Found>> {
        let tables = self.read();
        if let Some(found) = tables.in_memory(&tag) {
            return Ok(Some(found));
        }
        if tables.generation == seen.generation {
            return Ok(seen.found.map(|found| Found { seq: 0, ..found }));
        }
        let runs = tables.runs.clone();
        drop(tables);
        find_in_runs(&runs, tag)
    }

    /// Every place that any table or file says, newest or not.
    pub(crate) fn scan(&self, mut show: impl FnMut(Tag, Loc)) -> io::Result<()> {
        let (mut in_memory, runs) = {
            let tables = self.read();
            let frozen = tables.frozen.iter().flat_map(|table| table.iter());
            let places = frozen.chain(&tables.active).map(|(tag, found)| (*tag, found.loc));
            (places.collect::<Vec<_>>(), tables.runs.clone())
        };
        in_memory.drain(..).for_each(|(tag, loc)| show(tag, loc));
        for run in runs.iter() {
            for place in run.cursor() {
                let (tag, loc) = place?;
                show(tag, loc);
            }
        }
        Ok(())
    }
}

fn find_in_runs(runs: &[Arc<Run>], tag: Tag) -> io::Result<Option<Found>> {
    for run in runs {
        if let Some(loc) = run.find(tag)? {
            return Ok(Some(Found { loc, seq: 0 }));
        }
    }
    Ok(None)
}
