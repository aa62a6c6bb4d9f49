//! The desk's thread: lead, read the active runs from the log, take inputs until that is over, and again.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use engine::World;
use store::{Epoch, Store, StoreError};
use tokio::sync::mpsc::UnboundedSender;

use super::clock::Clock;
use super::keep::Keep;
use super::{Asked, Desk, HubOrder, Refusal, of_store};
use crate::live::Live;

/// Inputs that share one append.
const INPUTS_MAX: usize = 1024;
/// How often a server that does not lead asks whether it may.
const LEAD_EVERY: Duration = Duration::from_millis(500);
/// After a failure: doubled each time, up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// How often a server that leads asks whether it still does.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The thread.
struct Thread {
    who: String,
    store: Store,
    live: Live,
    inbox: Receiver<Asked>,
    orders: UnboundedSender<HubOrder>,
    epoch: Arc<AtomicU64>,
    pause: Duration,
}

/// All that is true while this server leads.
pub(super) struct Leading {
    pub(super) epoch: Epoch,
    pub(super) world: World,
    pub(super) keep: Keep,
    pub(super) clock: Clock,
    /// What was on its way when the last leader ended was done again.
    pub(super) recovered: bool,
}

/// Why a leadership ended, or none began.
pub(super) enum Over {
    /// It was told to stop.
    Stopped(Sender<()>),
    /// Nobody is left who could ask.
    Alone,
    /// The log does not take what was decided, so what was decided never happened.
    Fault(Refusal),
}

/// Starts the thread.
pub(super) fn start(
    who: &str,
    desk: &Desk,
    live: Live,
    inbox: Receiver<Asked>,
    orders: UnboundedSender<HubOrder>,
) -> std::io::Result<()> {
    let (store, epoch) = (desk.store.clone(), desk.epoch.clone());
    let thread = Thread { who: who.into(), store, live, inbox, orders, epoch, pause: PAUSE.0 };
    let run = move || {
        // A desk that died would leave a server that answers and does nothing. The log has all that was acknowledged, so that
        // whoever starts the server again (systemd, Kubernetes) loses nothing; what was told is on standard error.
        if std::panic::catch_unwind(AssertUnwindSafe(|| thread.run())).is_err() {
            tracing::error!(
                "the desk died of a defect: this server ends, and goes on from its log when it is started again"
            );
            std::process::abort();
        }
    };
    std::thread::Builder::new().name("desk".into()).spawn(run).map(drop)
}

impl Thread {
    fn run(mut self) {
        loop {
            let over = match self.lead() {
                Ok(epoch) => self.reign(epoch),
                Err(over) => over,
            };
            match over {
                Over::Alone => return,
                Over::Stopped(done) => {
                    let _ = done.send(());
                    return;
                }
                Over::Fault(refusal) => {
                    tracing::warn!("the desk begins anew: {refusal}");
                    if let Err(Over::Stopped(done)) = self.pass(self.pause, &refusal) {
                        let _ = done.send(());
                        return;
                    }
                    self.pause = (self.pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    /// Waits until this server leads.
    fn lead(&mut self) -> Result<Epoch, Over> {
        loop {
            match self.store.lead(&self.who) {
                Ok(Some(epoch)) => return Ok(epoch),
                Ok(None) => self.pass(LEAD_EVERY, &Refusal::NotLeader)?,
                Err(error) => return Err(Over::Fault(of_store(error))),
            }
        }
    }

    /// From the first fact that is read to the last that is written.
    fn reign(&mut self, epoch: Epoch) -> Over {
        let over = match self.rebuild(epoch) {
            Err(refusal) => Over::Fault(refusal),
            Ok(mut leading) => {
                self.epoch.store(epoch.0, Ordering::Release);
                tracing::info!(epoch = epoch.0, runs = leading.world.runs().count(), "this server leads");
                self.order(HubOrder::Lead);
                let over = self.serve(&mut leading);
                self.epoch.store(0, Ordering::Release);
                self.order(HubOrder::Hush);
                over
            }
        };
        // If it cannot be given back now, it ends with the connection.
        let _ = self.store.step_down(epoch);
        over
    }

    fn rebuild(&self, epoch: Epoch) -> Result<Leading, Refusal> {
        let (mut world, mut keep) = (World::with_leases_of(crate::hub::LEASE), Keep::default());
        for run in self.store.active_runs().map_err(of_store)? {
            for fact in self.store.facts_of(&run.run).map_err(of_store)? {
                world.fold(&fact).map_err(|illegal| Refusal::Unavailable(illegal.to_string()))?;
                keep.fold(&run.project, &fact);
            }
        }
        // Numbers are read from the store when they are needed first: it knows of ended runs, too.
        keep.numbers.clear();
        let mut clock = Clock::new();
        // Agents get the time of a lease to come back and say what they hold.
        world.resume(clock.now());
        Ok(Leading { epoch, world, keep, clock, recovered: false })
    }

    /// Takes inputs until that is over. The only place that waits.
    fn serve(&mut self, leading: &mut Leading) -> Over {
        // Nobody asks for what was on its way when the last leader ended.
        let mut first_round = true;
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                // A store that cannot be asked is heard of with the next append.
                if let Ok(false) = self.store.leads(leading.epoch) {
                    return Over::Fault(Refusal::NotLeader);
                }
            }
            let now = leading.clock.now();
            let wait = leading.world.next_wake().map_or(LOOK_EVERY, |at| at.since(now).min(LOOK_EVERY));
            let wait = if std::mem::take(&mut first_round) { Duration::ZERO } else { wait };
            let first = match self.inbox.recv_timeout(wait) {
                Ok(asked) => Some(asked),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Over::Alone,
            };
            let batch = first.into_iter().chain(self.inbox.try_iter()).take(INPUTS_MAX);
            match leading.round(batch, &self.store, &self.live, &self.orders) {
                Ok(None) => self.pause = PAUSE.0,
                Ok(Some(done)) => return Over::Stopped(done),
                Err(refusal) => return Over::Fault(refusal),
            }
        }
    }

    /// Lets time pass while it does not lead; whoever asks hears why.
    fn pass(&self, time: Duration, why: &Refusal) -> Result<(), Over> {
        let until = Instant::now() + time;
        loop {
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Asked::Stop { done }) => return Err(Over::Stopped(done)),
                Ok(asked) => asked.refuse(why),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Over::Alone),
            }
        }
    }

    fn order(&self, order: HubOrder) {
        // Without a hub (it ends before the desk) nobody is to be told.
        let _ = self.orders.send(order);
    }
}

impl Asked {
    /// It cannot be done.
    pub(super) fn refuse(self, why: &Refusal) {
        match self {
            Asked::Tell { done, .. } => {
                if let Some(done) = done {
                    done(Err(why.clone()));
                }
            }
            // Who does not wait any more needs no answer.
            Asked::Run { reply, .. } => drop(reply.send(Err(why.clone()))),
            Asked::Act { reply, .. } => drop(reply.send(Err(why.clone()))),
            Asked::Waiting { .. } | Asked::Stop { .. } => {}
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Refusal {
        of_store(error)
    }
}
