//! The secrets of an attempt: those of its project that fit its branch and environment; none for a stranger's pull request.

use std::collections::BTreeMap;

use access::{For, Keys, SecretRecord, choose};
use store::Store;

use crate::desk::RunCard;

/// Secrets of one project that are looked through.
const SECRETS_MAX: usize = 1000;

/// Values of the secrets that an attempt asks for. Blocks.
///
/// # Errors
/// A sentence that names the first one that is not to be had, and why.
pub fn of_attempt(
    store: &Store,
    keys: &Keys,
    run: &RunCard,
    wanted: &[String],
) -> Result<BTreeMap<String, String>, String> {
    if run.fork {
        let names = wanted.join(", ");
        return Err(format!("the step wants secrets ({names}), and a pull request from a fork gets none"));
    }
    let project = run.project.as_str();
    let kept = store.records::<SecretRecord>(&SecretRecord::prefix(project), "", SECRETS_MAX);
    let kept = kept.map_err(|error| format!("the secrets of {project} cannot be read: {error}"))?;
    let secrets: Vec<SecretRecord> = kept.into_iter().map(|kept| kept.value).collect();
    let branch = run.trigger.git.branch.as_str();
    wanted.iter().map(|name| Ok((name.clone(), value(&secrets, keys, name, project, branch)?))).collect()
}

fn value(secrets: &[SecretRecord], keys: &Keys, name: &str, project: &str, branch: &str) -> Result<String, String> {
    let place = For { environment: "", branch, fork: false };
    let chosen = choose(secrets, name, &place).ok_or_else(|| {
        let there = secrets.iter().any(|secret| secret.name == name);
        let why = if there { "is not for this branch" } else { "is not set" };
        format!("secret {name} of project {project} {why}; `pace secrets set {name} --project {project}` sets it")
    })?;
    let opened = chosen.open(keys).map_err(|error| format!("secret {name} of {project}: {error}"))?;
    String::from_utf8(opened).map_err(|_| format!("secret {name} of {project} is not text"))
}
