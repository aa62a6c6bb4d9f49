//! Results: taken when the whole log is there and the artifacts are kept, acknowledged when what follows is durable.

use std::sync::Arc;

use model::{AttemptEnd, AttemptResult, Cause, Input};
use proto::{Finished, ServerWord};

use super::conversation::{LOG_BYTES_WAITING_MAX, Talk};
use super::lease::Named;

/// A result cannot be taken now.
enum NotYet {
    /// The log ends here; the rest is to be told first.
    LogEndsAt(u64),
    /// The store cannot be asked: the conversation ends, and it is told again.
    Unreadable,
}

impl Talk {
    pub(super) async fn take_result(self: Arc<Self>, Finished { lease, result, log_bytes }: Finished) {
        let told = lease.clone();
        let Some(named) = self.own(lease).await else {
            // Not its own, or of a run that is gone: it may forget it.
            if let Some(lease) = told {
                self.say(ServerWord::ResultTaken(lease));
            }
            return;
        };
        // All of the log that was told before it is durable, or refused.
        drop(self.room.acquire_many(LOG_BYTES_WAITING_MAX).await);
        let result = match serde_json::from_str::<AttemptResult>(&result) {
            Ok(result) => result,
            Err(error) => {
                let why = format!("the agent's result cannot be read: {error}; are agent and server of one version?");
                AttemptResult::ended(AttemptEnd::Failed(Cause::Infrastructure(why)))
            }
        };
        let (talk, asked) = (self.clone(), named.clone());
        let kept = tokio::task::spawn_blocking(move || talk.keep(&asked, result, log_bytes)).await;
        match kept {
            Ok(Ok(result)) => self.tell_desk(&named, result),
            Ok(Err(NotYet::LogEndsAt(length))) => self.log_taken(&named, length),
            Ok(Err(NotYet::Unreadable)) | Err(_) => self.part(),
        }
    }

    /// Holds the result against the log, and takes its artifacts out of the cache, where they would be evicted. Blocks.
    fn keep(&self, named: &Named, result: AttemptResult, log_bytes: u64) -> Result<AttemptResult, NotYet> {
        if log_bytes > 0 {
            let part = self.hub.store.log(&named.log, log_bytes, 0).map_err(|_| NotYet::Unreadable)?;
            if part.length < log_bytes {
                return Err(NotYet::LogEndsAt(part.length));
            }
        }
        let files = result.artifacts.iter().flat_map(|artifact| &artifact.files);
        match self.hub.archive.keep(files.map(|(_, digest, _)| *digest)) {
            Ok(()) => Ok(result),
            Err(why) => {
                let end = AttemptEnd::Failed(Cause::Infrastructure(format!("an artifact could not be kept: {why}")));
                Ok(AttemptResult { end, artifacts: Vec::new(), ..result })
            }
        }
    }

    fn tell_desk(self: &Arc<Self>, named: &Named, result: AttemptResult) {
        let held = named.held();
        let input = Input::AttemptFinished {
            run: held.run,
            node: held.node,
            attempt: held.attempt,
            fence: held.fence,
            result: Arc::new(result),
        };
        let (talk, lease) = (self.clone(), named.write());
        self.hub.desk.tell_then(input, move |taken| match taken {
            Ok(()) => talk.say(ServerWord::ResultTaken(lease)),
            Err(_) => talk.part(),
        });
    }
}
