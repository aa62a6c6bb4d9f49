//! The order in which ready instances are leased.
//!
//! Instances that ask alike fit alike: they stand in one lane, and one look at its first is enough. Within a lane whoever
//! uses the fewest slots now goes first, so that tenants get equal shares however much they ask for. Of one tenant the run
//! that is due first goes first. When a run is due says it all: a run of the highest priority is due when it is asked for, each
//! point less makes it due [`PRIORITY_STEP`] later, and a bound of `sla` makes it due when the bound would be
//! missed. So waiting counts as priority (a run of the lowest priority waits for newer ones at most 200 steps long), and
//! nothing has to be sorted anew as time goes on. A bound works among the runs of one tenant: nobody gets more of
//! the agents by promising more.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::cmp::Reverse;
use core::time::Duration;

use model::{NodeIx, PRIORITY_MAX, Plan, Timestamp};

use crate::world::RunIx;

/// What a point of priority is worth in waiting.
pub(crate) const PRIORITY_STEP: Duration = Duration::from_secs(60);
/// The order of one tenant: what is due first, then the longest way to the end, then the older run, then the order of
/// the file.
pub(crate) type QueueKey = (Timestamp, Reverse<u64>, RunIx, NodeIx);

/// Who pays for a run.
pub(crate) type Payer = Arc<str>;

/// What a step asks of an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Demand {
    pub(crate) cpu_milli: u32,
    pub(crate) memory: u64,
    /// Sorted, at least one.
    pub(crate) labels: Option<Arc<[Arc<str>]>>,
}

/// When a run that counts from `from` is due.
pub(crate) fn due(plan: &Plan, priority: i32, from: Timestamp) -> Timestamp {
    let steps = u32::try_from(PRIORITY_MAX.saturating_sub(priority)).unwrap_or(0);
    let usual = from.after(PRIORITY_STEP * steps);
    let Some(sla) = plan.sla else { return usual };
    let start = sla.start_within.map(|within| from.after(within));
    let finish = sla.finish_within.map(|within| {
        let longest = plan.nodes.iter().map(|node| node.rank).max().unwrap_or(0);
        from.after(within.saturating_sub(Duration::from_millis(longest)))
    });
    [Some(usual), start, finish].into_iter().flatten().min().unwrap_or(usual)
}

/// Instances that ask alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Lane {
    by_payer: BTreeMap<Payer, BTreeSet<QueueKey>>,
    /// Who is next: slots in use, the first of each payer, the payer.
    order: BTreeSet<(u32, QueueKey, Payer)>,
}

impl Lane {
    /// Payers with their first, who is next first.
    pub(crate) fn order(&self) -> impl Iterator<Item = &(u32, QueueKey, Payer)> {
        self.order.iter()
    }

    /// The instances of one payer.
    pub(crate) fn of(&self, payer: &Payer) -> Option<&BTreeSet<QueueKey>> {
        self.by_payer.get(payer)
    }

    fn change(&mut self, payer: &Payer, used: u32, change: impl FnOnce(&mut BTreeSet<QueueKey>)) {
        let queue = self.by_payer.entry(payer.clone()).or_default();
        let before = queue.first().copied();
        change(queue);
        let after = queue.first().copied();
        if queue.is_empty() {
            self.by_payer.remove(payer);
        }
        if before != after {
            before.map(|first| self.order.remove(&(used, first, payer.clone())));
            after.map(|first| self.order.insert((used, first, payer.clone())));
        }
    }

    fn reuse(&mut self, payer: &Payer, before: u32, after: u32) {
        if let Some(first) = self.by_payer.get(payer).and_then(BTreeSet::first).copied() {
            self.order.remove(&(before, first, payer.clone()));
            self.order.insert((after, first, payer.clone()));
        }
    }
}

/// Everything that is ready, and who uses how much.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Queue {
    pub(crate) lanes: BTreeMap<Demand, Lane>,
    used: BTreeMap<Payer, u32>,
}

impl Queue {
    /// Slots in use by a payer.
    pub(crate) fn used(&self, payer: &Payer) -> u32 {
        self.used.get(payer).copied().unwrap_or(0)
    }

    pub(crate) fn insert(&mut self, demand: &Demand, payer: &Payer, key: QueueKey) {
        let used = self.used(payer);
        let lane = match self.lanes.get_mut(demand) {
            Some(lane) => lane,
            None => self.lanes.entry(demand.clone()).or_default(),
        };
        lane.change(payer, used, |queue| {
            queue.insert(key);
        });
    }

    pub(crate) fn remove(&mut self, demand: &Demand, payer: &Payer, key: &QueueKey) {
        let used = self.used(payer);
        let Some(lane) = self.lanes.get_mut(demand) else { return };
        lane.change(payer, used, |queue| {
            queue.remove(key);
        });
        if lane.by_payer.is_empty() {
            self.lanes.remove(demand);
        }
    }

    /// A payer got a slot.
    pub(crate) fn lease(&mut self, payer: &Payer) {
        self.use_slots(payer, |used| used + 1);
    }

    /// A payer gave a slot back.
    pub(crate) fn release(&mut self, payer: &Payer) {
        self.use_slots(payer, |used| used.saturating_sub(1));
    }

    fn use_slots(&mut self, payer: &Payer, change: impl FnOnce(u32) -> u32) {
        let before = self.used(payer);
        let after = change(before);
        match after {
            0 => drop(self.used.remove(payer)),
            _ => drop(self.used.insert(payer.clone(), after)),
        }
        self.lanes.values_mut().for_each(|lane| lane.reuse(payer, before, after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn key(due: u64, node: u32) -> QueueKey {
        (Timestamp(due), Reverse(0), 0, NodeIx(node))
    }

    #[test]
    fn who_uses_least_is_next_and_then_what_is_due_first() {
        let (mut queue, a, b) = (Queue::default(), Payer::from("a"), Payer::from("b"));
        let any = Demand::default();
        queue.insert(&any, &a, key(1, 1));
        queue.insert(&any, &a, key(0, 2));
        queue.insert(&any, &b, key(5, 3));
        let next = |queue: &Queue| -> Vec<u32> { queue.lanes[&any].order().map(|(_, key, _)| key.3.0).collect() };
        assert_eq!(next(&queue), [2, 3]);
        queue.lease(&a);
        assert_eq!(next(&queue), [3, 2], "a has a slot already");
        queue.remove(&any, &a, &key(0, 2));
        assert_eq!(next(&queue), [3, 1]);
        queue.release(&a);
        queue.remove(&any, &b, &key(5, 3));
        queue.remove(&any, &a, &key(1, 1));
        assert_eq!(queue, Queue::default(), "nothing stays behind");
    }
}
