//! Fetching: several threads that want something of one repository at a time are served by one git.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use super::{GitError, Mirror, Remote};

/// For a whole fetch. A silent server is noticed much sooner; this only ends what would go on for ever.
const FETCH_LIMIT: Duration = Duration::from_secs(3600);

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    running: bool,
    waiting: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    refs: Vec<String>,
    tell: mpsc::Sender<Told>,
}

#[derive(Debug)]
enum Told {
    /// It was fetched after you asked.
    Done(Result<(), GitError>),
    /// It is your turn to fetch for all that wait.
    YourTurn,
}

impl Turns {
    /// Has `refs` fetched, by this thread or by another one's next fetch. An empty list is everything.
    pub(super) fn take(
        &self,
        refs: &[String],
        fetch: impl Fn(&[String]) -> Result<(), GitError>,
    ) -> Result<(), GitError> {
        let (tell, heard) = mpsc::channel();
        let is_first = {
            let mut queue = self.queue();
            queue.waiting.push(Waiter { refs: refs.to_vec(), tell });
            !std::mem::replace(&mut queue.running, true)
        };
        if is_first {
            self.serve(&fetch);
        }
        loop {
            match heard.recv() {
                Ok(Told::Done(result)) => return result,
                Ok(Told::YourTurn) => self.serve(&fetch),
                Err(_) => return Err(GitError::Start("the thread that fetched is gone".into())),
            }
        }
    }

    /// Fetches once for all that wait now, and hands over to one of those that came meanwhile.
    fn serve(&self, fetch: &impl Fn(&[String]) -> Result<(), GitError>) {
        let batch = std::mem::take(&mut self.queue().waiting);
        let everything = batch.iter().any(|waiter| waiter.refs.is_empty());
        // The heads of pull requests are not among everything, so they are named even then.
        let wanted: BTreeSet<&String> = batch.iter().flat_map(|waiter| &waiter.refs).collect();
        let mut together = match everything {
            true => fetch(&[]),
            false => Ok(()),
        };
        let wanted: Vec<String> = wanted.into_iter().cloned().collect();
        if together.is_ok() && !wanted.is_empty() {
            together = fetch(&wanted);
        }
        for waiter in &batch {
            // What fails for all may be the fault of one: each gets an answer of its own.
            let result = match &together {
                Err(_) if batch.len() > 1 => fetch(&waiter.refs),
                result => result.clone(),
            };
            // Whoever asked is there, or does not mind any more.
            let _ = waiter.tell.send(Told::Done(result));
        }
        let mut queue = self.queue();
        queue.running = queue.waiting.first().is_some_and(|next| next.tell.send(Told::YourTurn).is_ok());
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fetches refs, each to its own name; all branches and tags for an empty list.
pub(super) fn fetch(mirror: &Mirror, remote: &Remote, refs: &[String]) -> Result<(), GitError> {
    let specs = refs.iter().map(|name| format!("+{name}:{name}")).collect::<Vec<_>>();
    let all = ["+refs/heads/*:refs/heads/*".to_owned(), "+refs/tags/*:refs/tags/*".to_owned()];
    let done = if refs.is_empty() {
        git_fetch(mirror, remote, &["--prune"], &all)
    } else {
        git_fetch(mirror, remote, &[], &specs)
    };
    match done {
        Err(GitError::Failed { said, .. }) if said.contains("couldn't find remote ref") => {
            let name = said.split_whitespace().find(|word| word.starts_with("refs/")).unwrap_or("such a ref");
            Err(mirror.missing(format!("ref `{name}`")))
        }
        // A branch `a` that is gone stands in the way of a new one `a/b`.
        Err(GitError::Failed { said, .. }) if !refs.is_empty() && said.contains("cannot lock ref") => {
            git_fetch(mirror, remote, &["--prune"], &all)?;
            git_fetch(mirror, remote, &[], &specs)
        }
        done => done,
    }
}

/// Fetches a commit by its id.
pub(super) fn fetch_commit(mirror: &Mirror, remote: &Remote, commit: &str) -> Result<(), GitError> {
    git_fetch(mirror, remote, &[], &[commit.to_owned()])
}

fn git_fetch(mirror: &Mirror, remote: &Remote, flags: &[&str], specs: &[String]) -> Result<(), GitError> {
    let url = remote.address.text();
    let fixed =
        ["fetch", "--quiet", "--no-tags", "--no-auto-maintenance", "--no-write-fetch-head", "--no-recurse-submodules"];
    let arguments: Vec<&str> = fixed
        .into_iter()
        .chain(flags.iter().copied())
        .chain(["--", url.as_str()])
        .chain(specs.iter().map(String::as_str))
        .collect();
    mirror.run_at(remote, &arguments, "fetch", FETCH_LIMIT).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Barrier};

    #[test]
    fn fetches_at_the_same_time_become_one_and_nobody_gets_an_older_one() {
        let turns = Arc::new(Turns::default());
        let fetched = Arc::new(AtomicUsize::new(0));
        let started = Arc::new(Barrier::new(2));
        let go_on = Arc::new(Barrier::new(2));
        let first = {
            let (turns, fetched, started, go_on) = (turns.clone(), fetched.clone(), started.clone(), go_on.clone());
            std::thread::spawn(move || {
                turns.take(&["refs/heads/a".into()], |_| {
                    if fetched.fetch_add(1, Ordering::SeqCst) == 0 {
                        started.wait();
                        go_on.wait();
                    }
                    Ok(())
                })
            })
        };
        started.wait();
        // The first fetch is under way: what comes now must not be satisfied by it.
        let others: Vec<_> = (0..20)
            .map(|_| {
                let (turns, fetched) = (turns.clone(), fetched.clone());
                std::thread::spawn(move || {
                    turns.take(&["refs/heads/b".into()], |_| {
                        fetched.fetch_add(1, Ordering::SeqCst);
                        Ok(())
                    })
                })
            })
            .collect();
        while turns.queue().waiting.len() < 20 {
            std::thread::yield_now();
        }
        go_on.wait();
        for thread in others.into_iter().chain([first]) {
            assert_eq!(thread.join().unwrap(), Ok(()));
        }
        assert_eq!(fetched.load(Ordering::SeqCst), 2, "twenty that waited were one fetch");
    }

    #[test]
    fn one_that_fails_does_not_fail_the_others() {
        let turns = Turns::default();
        let (bad, good) = (mpsc::channel(), mpsc::channel());
        turns.queue().waiting.extend([
            Waiter { refs: vec!["refs/heads/bad".into()], tell: bad.0 },
            Waiter { refs: vec!["refs/heads/good".into()], tell: good.0 },
        ]);
        turns.serve(&|refs: &[String]| match refs.iter().any(|name| name.ends_with("bad")) {
            true => Err(GitError::Name("bad".into())),
            false => Ok(()),
        });
        assert!(matches!(bad.1.recv(), Ok(Told::Done(Err(_)))));
        assert!(matches!(good.1.recv(), Ok(Told::Done(Ok(())))));
    }
}
