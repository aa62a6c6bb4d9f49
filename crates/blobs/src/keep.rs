//! What goes on behind: checkpoints, eviction, merging, and writing leases down.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::disk::{Bell, Disk, cannot};
use crate::lease::{now_ms, without_lease};
use crate::log::{REPLAY_BYTES, TABLE_PLACES};
use crate::record::array;

const MAGIC: &[u8; 8] = b"pacelea1";
/// Between two looks when nobody rings.
const TICK: Duration = Duration::from_millis(500);
/// Between two times that leases are written down: what a crash may forget of them.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Starts the threads of a store. They end soon after the bells say so.
pub(crate) fn start(disk: &Arc<Disk>) -> Vec<JoinHandle<()>> {
    // What a start did not have to wait for: the reserve, room that a smaller bound asks for, and that the disk has what a
    // crash left.
    disk.keeper.ring();
    disk.flusher.ring();
    let start = |work: fn(&Disk)| {
        let disk = disk.clone();
        thread::spawn(move || work(&disk))
    };
    vec![start(keep), start(compact), start(flush)]
}

/// Ends all of them.
pub(crate) fn stop(disk: &Disk) {
    [&disk.keeper, &disk.compactor, &disk.flusher].into_iter().for_each(Bell::stop);
}

fn flush(disk: &Disk) {
    while disk.flusher.wait(Duration::from_secs(3600)) {
        let last = disk.log().next_seq - 1;
        // Who waits for the disk hears of an error.
        let _ = disk.wait_for_disk(last);
    }
}

fn compact(disk: &Disk) {
    while disk.compactor.wait(Duration::from_secs(3600)) {
        // An error leaves all as it was; the next checkpoint rings again.
        while !disk.compactor.stopped() && disk.compact().unwrap_or(false) {}
    }
}

fn keep(disk: &Disk) {
    let mut saved = Instant::now();
    let mut swept_ms = now_ms();
    while disk.keeper.wait(TICK) {
        if disk.checkpoint_is_due() {
            // Tried again at the next tick; writers meet the error themselves when it stays.
            let _ = disk.checkpoint(&[]);
        }
        let _ = disk.make_headroom();
        if !disk.has_reserve() {
            disk.take_reserve();
        }
        if now_ms() - swept_ms.min(now_ms()) >= disk.clock.sweep_ms() / 2 {
            swept_ms = now_ms();
            disk.segments().values().for_each(|segment| segment.slots.sweep(disk.clock, swept_ms));
        }
        if saved.elapsed() >= SAVE_EVERY {
            saved = Instant::now();
            let _ = disk.save_leases();
            let _ = disk.drop_aged(disk.options.age_max);
        }
    }
}

impl Disk {
    fn checkpoint_is_due(&self) -> bool {
        self.index.read().active.len() >= TABLE_PLACES || self.log().since_checkpoint >= REPLAY_BYTES
    }

    /// Writes down all that a start would have to find out otherwise.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        self.checkpoint(&[])?;
        self.save_leases()
    }

    /// Not flushed to the disk: to lose it is to lose leases in a loss of power, no more.
    pub(crate) fn save_leases(&self) -> Result<(), Error> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.clock.unit_ms.to_le_bytes());
        bytes.extend(now_ms().to_le_bytes());
        for segment in self.segments().values() {
            let slots = segment.slots.save(segment.records.load(Relaxed));
            bytes.extend(segment.id.to_le_bytes());
            bytes.extend((slots.len() as u32).to_le_bytes());
            bytes.extend(slots);
        }
        bytes.extend(xxh3_64(&bytes).to_le_bytes());
        let (new, path) = (self.dir.join("leases.new"), self.dir.join("leases"));
        fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path)).map_err(cannot("write", &path))
    }

    /// What is not known is leased: better that too much stays.
    pub(crate) fn load_leases(&self) {
        let read = fs::read(self.dir.join("leases")).unwrap_or_default();
        let saved = decode(&read).unwrap_or_default();
        let now = now_ms();
        let fresh = self.clock.fresh(now);
        let unit_is_same = saved.unit_ms == self.clock.unit_ms;
        let over = now.saturating_sub(saved.at_ms) > self.clock.sweep_ms();
        for segment in self.segments().values() {
            let records = segment.records.load(Relaxed) as usize;
            let known = saved.segments.iter().find(|(id, _)| *id == segment.id).map_or(&[][..], |(_, slots)| *slots);
            let mut slots = known[..known.len().min(records)].to_vec();
            if over {
                slots.iter_mut().for_each(|byte| *byte = without_lease(*byte));
            } else if !unit_is_same {
                slots.iter_mut().for_each(|byte| *byte = crate::lease::with_lease(*byte, fresh));
            }
            slots.resize(records, fresh);
            segment.slots.load(&slots);
        }
    }
}

#[derive(Default)]
struct Saved<'a> {
    unit_ms: u64,
    at_ms: u64,
    segments: Vec<(u32, &'a [u8])>,
}

fn decode(bytes: &[u8]) -> Option<Saved<'_>> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    let rest = body.strip_prefix(MAGIC).filter(|_| xxh3_64(body).to_le_bytes() == check)?;
    let (head, mut rest) = rest.split_at_checked(16)?;
    let mut segments = Vec::new();
    while let Some((head, slots)) = rest.split_at_checked(8) {
        let (slots, next) = slots.split_at_checked(u32::from_le_bytes(array(&head[4..])) as usize)?;
        segments.push((u32::from_le_bytes(array(&head[..4])), slots));
        rest = next;
    }
    let (unit_ms, at_ms) = (u64::from_le_bytes(array(&head[..8])), u64::from_le_bytes(array(&head[8..])));
    Some(Saved { unit_ms, at_ms, segments })
}
