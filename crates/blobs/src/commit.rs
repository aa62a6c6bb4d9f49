//! Group commit: one flush for all writers that wait at the same time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::disk::{Disk, cannot, lock};
use crate::{Durability, Error};

/// How far the disk has the log.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// The last record that the disk has for sure.
    durable: AtomicU64,
    flushing: Mutex<bool>,
    flushed: Condvar,
}

impl Commit {
    pub(crate) fn new(durable: u64) -> Commit {
        Commit { durable: AtomicU64::new(durable), ..Commit::default() }
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
}

impl Disk {
    /// Waits until a record and all before it are as durable as was asked for. The first who waits flushes for all.
    pub(crate) fn wait(&self, seq: u64) -> Result<(), Error> {
        match self.options.durability {
            Durability::Process => Ok(()),
            Durability::Group => self.wait_for_disk(seq),
        }
    }

    pub(crate) fn wait_for_disk(&self, seq: u64) -> Result<(), Error> {
        let mut flushing = lock(&self.commit.flushing);
        while self.commit.durable() < seq {
            if *flushing {
                flushing = self.commit.flushed.wait(flushing).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            *flushing = true;
            drop(flushing);
            let flushed = self.flush_log();
            flushing = lock(&self.commit.flushing);
            *flushing = false;
            self.commit.flushed.notify_all();
            self.commit.durable.fetch_max(flushed?, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Flushes all that was written up to now, and says how far that is.
    fn flush_log(&self) -> Result<u64, Error> {
        let (dirty, last) = {
            let mut log = self.log();
            if log.failed {
                let source = std::io::Error::other("a flush to the disk failed before");
                return Err(Error::Io { act: "flush", path: self.segments_dir(), source });
            }
            log.since_flush = 0;
            (std::mem::take(&mut log.dirty), log.next_seq - 1)
        };
        for segment in dirty {
            if let Err(err) = segment.sync() {
                // The kernel says it once and then forgets which pages it lost.
                self.log().failed = true;
                return Err(cannot("flush a segment in", &self.dir)(err));
            }
        }
        Ok(last)
    }
}
