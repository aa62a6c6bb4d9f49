//! Agents and the tokens by which they register.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use access::{Action, Minted, RegistrationToken, Who};
use store::{Change, Expect, Kept};

use super::{Page, bounded, may_server, shown};
use crate::Shared;
use crate::authentication::{off, write};
use crate::clock::now;
use crate::hub::BUILTIN;
use crate::live::Happened;
use crate::problem::Problem;
use crate::records::RegisteredAgent;

/// A registration token is good for at most so long.
pub const AGENT_TOKEN_MINUTES_MAX: u64 = 7 * 24 * 60;
const LABELS_MAX: usize = 64;

/// Agents, by name.
///
/// # Errors
/// They may not be seen.
pub async fn agents(
    shared: &Arc<Shared>,
    who: &Who,
    after: &str,
    max: usize,
) -> Result<Page<Kept<RegisteredAgent>>, Problem> {
    may_server(who, Action::SeeAgents)?;
    let (shared, after, max) = (shared.clone(), after.to_owned(), bounded(max));
    off(move || {
        let all = shared.store.records("", &after, max + 1)?;
        let mut page = Page::cut(all, max, |kept: &Kept<RegisteredAgent>| kept.value.name.clone());
        if after.is_empty() {
            // The one in the server's own process is in no store.
            let local = shared.hub.agents().into_iter().filter(|line| line.agent.as_str() == BUILTIN);
            let known =
                local.map(|line| RegisteredAgent { name: line.agent.to_string(), ..RegisteredAgent::default() });
            page.items.splice(0..0, known.map(|value| Kept { value, version: 0 }));
        }
        Ok(page)
    })
    .await
}

/// Makes a token by which one agent registers.
///
/// # Errors
/// It may not be made, or the labels or the life will not do.
pub async fn add_registration(
    shared: &Arc<Shared>,
    who: &Who,
    name: &str,
    labels: BTreeSet<String>,
    minutes: u64,
) -> Result<(RegistrationToken, Minted), Problem> {
    may_server(who, Action::ManageAgents)?;
    let word = |text: &str| text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !word(name) || labels.len() > LABELS_MAX || labels.iter().any(|label| label.is_empty() || !word(label)) {
        return Err(Problem::invalid(format!(
            "names and labels (at most {LABELS_MAX}) are at most 64 of A-Z a-z 0-9 - _ ."
        )));
    }
    if minutes == 0 || minutes > AGENT_TOKEN_MINUTES_MAX {
        return Err(Problem::invalid(format!("a registration token lives 1 to {AGENT_TOKEN_MINUTES_MAX} minutes")));
    }
    let life = Duration::from_secs(minutes * 60);
    let (token, minted) = RegistrationToken::mint(name, labels, &who.name, life, now());
    write(shared, vec![Change::put(now(), &who.name, "agent-token.created", &token, Expect::Absent)]).await?;
    Ok((token, minted))
}

/// Registration tokens that were not used.
///
/// # Errors
/// They may not be seen.
pub async fn registrations(shared: &Arc<Shared>, who: &Who) -> Result<Vec<Kept<RegistrationToken>>, Problem> {
    may_server(who, Action::ManageAgents)?;
    let shared = shared.clone();
    off(move || Ok(shared.store.records::<RegistrationToken>("", "", super::PAGE_MAX)?)).await
}

/// Removes a registration token that was not used.
///
/// # Errors
/// It may not be removed.
pub async fn remove_registration(shared: &Arc<Shared>, who: &Who, id: &str) -> Result<(), Problem> {
    may_server(who, Action::ManageAgents)?;
    write(shared, vec![Change::remove::<RegistrationToken>(now(), &who.name, "agent-token.removed", id, Expect::Any)])
        .await
        .map(drop)
}

/// Gives an agent no new work, or work again.
///
/// # Errors
/// It may not be changed, or there is none.
pub async fn pause_agent(
    shared: &Arc<Shared>,
    who: &Who,
    name: &str,
    paused: bool,
) -> Result<Kept<RegisteredAgent>, Problem> {
    may_server(who, Action::ManageAgents)?;
    let kept = known(shared, name).await?;
    let agent = RegisteredAgent { paused, ..kept.value };
    let act = if paused { "agent.paused" } else { "agent.resumed" };
    let versions =
        write(shared, vec![Change::put(now(), &who.name, act, &agent, Expect::Version(kept.version))]).await?;
    shared.live.tell(Happened::Agents);
    Ok(Kept { value: agent, version: versions.first().copied().unwrap_or_default() })
}

/// Removes an agent: its credential is worth nothing from now on.
///
/// # Errors
/// It may not be removed, or there is none.
pub async fn remove_agent(shared: &Arc<Shared>, who: &Who, name: &str) -> Result<(), Problem> {
    may_server(who, Action::ManageAgents)?;
    let kept = known(shared, name).await?;
    let change =
        Change::remove::<RegisteredAgent>(now(), &who.name, "agent.removed", name, Expect::Version(kept.version));
    write(shared, vec![change]).await?;
    shared.live.tell(Happened::Agents);
    Ok(())
}

async fn known(shared: &Arc<Shared>, name: &str) -> Result<Kept<RegisteredAgent>, Problem> {
    let (shared, wanted) = (shared.clone(), name.to_owned());
    let kept = off(move || Ok(shared.store.record::<RegisteredAgent>(&wanted)?)).await?;
    kept.ok_or_else(|| Problem::not_found(format!("there is no agent `{}`", shown(name))))
}
