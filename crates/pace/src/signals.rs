//! Ctrl-C and SIGTERM as a count: once cancels with clean-up, twice kills, three times ends `pace` at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::exit::Exit;

/// How often the user asked to stop since the program began.
#[derive(Clone, Debug, Default)]
pub struct Stops(Arc<AtomicUsize>);

impl Stops {
    /// Starts to listen. A thread of its own waits for signals, because a handler may do next to nothing.
    pub fn listen() -> std::io::Result<Stops> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let stops = Stops::default();
        let count = stops.0.clone();
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                // Whoever asks a third time is not heard: the loop stands in a `write` that nobody reads, for instance.
                // The sandboxes end with us, and what lies around is swept by the next run.
                if count.fetch_add(1, Ordering::SeqCst) >= 2 {
                    std::process::exit(Exit::Cancelled as i32);
                }
            }
        })?;
        Ok(stops)
    }
    /// The count.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
