//! Secrets: written by people, read by steps.

use std::sync::Arc;

use access::{Action, SecretRecord, Who, secret_problem};
use model::Record as _;
use store::{Batch, Change, Expect, Kept};

use super::{Page, bounded, may_project, may_server, shown};
use crate::Shared;
use crate::authentication::off;
use crate::clock::now;
use crate::problem::Problem;
use crate::records::Project;

/// Secrets of a project.
const SECRETS_MAX: usize = 1000;
/// Records that are rewrapped in one batch.
const REKEYED: usize = 100;

/// Secrets of a project without their values, by key.
///
/// # Errors
/// They may not be seen.
pub async fn secrets(
    shared: &Arc<Shared>,
    who: &Who,
    project: &str,
    after: &str,
    max: usize,
) -> Result<Page<Kept<SecretRecord>>, Problem> {
    let (shared, who, project, after, max) =
        (shared.clone(), who.clone(), project.to_owned(), after.to_owned(), bounded(max));
    off(move || {
        may_project(&shared, &who, Action::SeeSecrets, &project)?;
        let read = shared.store.records::<SecretRecord>(&SecretRecord::prefix(&project), &after, max + 1)?;
        Ok(Page::cut(read, max, |kept| kept.value.key()))
    })
    .await
}

/// Writes a secret: a new one, or a new version of one. Returns the version.
///
/// # Errors
/// It may not be written, or name, scope or value will not do.
pub async fn put_secret(shared: &Arc<Shared>, who: &Who, secret: SecretRecord, value: String) -> Result<u32, Problem> {
    let (shared, who) = (shared.clone(), who.clone());
    off(move || {
        may_project(&shared, &who, Action::WriteSecrets, &secret.project)?;
        if let Some(problem) = secret_problem(&secret.name, &secret.environment, &secret.branches, value.as_bytes()) {
            return Err(Problem::invalid(problem));
        }
        let known = shared.store.record::<SecretRecord>(&secret.key())?;
        let expect = known.as_ref().map_or(Expect::Absent, |kept| Expect::Version(kept.version));
        if known.is_none()
            && shared.store.records::<SecretRecord>(&SecretRecord::prefix(&secret.project), "", SECRETS_MAX)?.len()
                >= SECRETS_MAX
        {
            return Err(Problem::new("conflict", format!("a project has at most {SECRETS_MAX} secrets")));
        }
        let mut kept = known.map_or(SecretRecord { versions: Vec::new(), ..secret }, |kept| kept.value);
        let number = kept.put(&shared.authentication.keys, value.as_bytes(), &who.name, now())?;
        let changes = vec![Change::put(now(), &who.name, "secret.written", &kept, expect)];
        shared.store.append(None, Batch { changes, ..Batch::default() })?;
        Ok(number)
    })
    .await
}

/// Removes a secret.
///
/// # Errors
/// It may not be removed, or is not there.
pub async fn remove_secret(shared: &Arc<Shared>, who: &Who, secret: SecretRecord) -> Result<(), Problem> {
    let (shared, who) = (shared.clone(), who.clone());
    off(move || {
        may_project(&shared, &who, Action::WriteSecrets, &secret.project)?;
        let gone = || Problem::not_found(format!("there is no secret `{}` with this scope", shown(&secret.name)));
        let kept = shared.store.record::<SecretRecord>(&secret.key())?.ok_or_else(gone)?;
        let expect = Expect::Version(kept.version);
        let changes = vec![Change::remove::<SecretRecord>(now(), &who.name, "secret.removed", &secret.key(), expect)];
        shared.store.append(None, Batch { changes, ..Batch::default() })?;
        Ok(())
    })
    .await
}

/// Makes a new master key and seals everything with it. Returns how many records were rewrapped.
///
/// # Errors
/// It may not be done, the keys come from `PACE_MASTER_KEY`, or something cannot be opened; the old keys stay then.
pub async fn rekey(shared: &Arc<Shared>, who: &Who) -> Result<u64, Problem> {
    may_server(who, Action::ManageServer)?;
    let (shared, who) = (shared.clone(), who.clone());
    off(move || {
        shared.authentication.keys.rotate()?;
        let done = rewrap_secrets(&shared, &who)? + rewrap_projects(&shared, &who)?;
        shared.authentication.keys.forget_old()?;
        let changes = vec![Change::note(now(), &who.name, "master-key.changed", &shared.authentication.keys.current())];
        shared.store.append(None, Batch { changes, ..Batch::default() })?;
        Ok(done)
    })
    .await
}

fn rewrap_secrets(shared: &Shared, who: &Who) -> Result<u64, Problem> {
    let (mut after, mut done) = (String::new(), 0);
    loop {
        let read = shared.store.records::<SecretRecord>("", &after, REKEYED)?;
        let Some(last) = read.last() else { return Ok(done) };
        after = last.value.key();
        let mut changes = Vec::new();
        for mut kept in read {
            if kept.value.rewrap(&shared.authentication.keys)? {
                let expect = Expect::Version(kept.version);
                changes.push(Change::put(now(), &who.name, "secret.rewrapped", &kept.value, expect));
            }
        }
        done += changes.len() as u64;
        shared.store.append(None, Batch { changes, ..Batch::default() })?;
    }
}

fn rewrap_projects(shared: &Shared, who: &Who) -> Result<u64, Problem> {
    let (mut after, mut done) = (String::new(), 0);
    loop {
        let read = shared.store.records::<Project>("", &after, REKEYED)?;
        let Some(last) = read.last() else { return Ok(done) };
        after.clone_from(&last.value.name);
        let mut changes = Vec::new();
        for mut kept in read {
            if kept.value.rewrap(&shared.authentication.keys)? {
                let expect = Expect::Version(kept.version);
                changes.push(Change::put(now(), &who.name, "project.rewrapped", &kept.value, expect));
            }
        }
        done += changes.len() as u64;
        shared.store.append(None, Batch { changes, ..Batch::default() })?;
    }
}
