//! New agents: a token that is good once becomes a credential that is good until somebody takes it back.

use access::{CredentialKind, RegistrationToken, Shown, sha256};
use model::AgentId;
use proto::{Registered, Registration};
use store::{Batch, Change, Expect, Kept, StoreError};
use tonic::Status;

use super::Hub;
use crate::clock::now;
use crate::records::RegisteredAgent;

/// Length of an agent's name in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Labels of one agent, and bytes of each.
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 64;
/// Name of the agent in the server's own process.
pub const BUILTIN: &str = "local";

impl Hub {
    /// Registers an agent. Blocks.
    pub(super) fn enrol(&self, question: &Registration) -> Result<Registered, Status> {
        let token = self.token(&question.token)?;
        let name = if token.value.name.is_empty() { &question.name } else { &token.value.name };
        check_name(name)?;
        let minted = CredentialKind::Agent.mint(name);
        let agent = RegisteredAgent {
            name: name.clone(),
            labels: token.value.labels.iter().cloned().collect(),
            credential: minted.sha256,
            registered_us: now().0,
            paused: false,
        };
        let (by, spent) = (format!("agent:{name}"), Expect::Version(token.version));
        let changes = vec![
            Change::remove::<RegistrationToken>(now(), &by, "agent_token.used", &token.value.id, spent),
            Change::put(now(), &by, "agent.registered", &agent, Expect::Absent),
        ];
        match self.store.append(None, Batch { changes, ..Batch::default() }) {
            Ok(_) => Ok(Registered { agent: name.clone(), credential: minted.text }),
            Err(StoreError::Conflict { key, .. }) if key == *name => Err(Status::already_exists(format!(
                "an agent `{name}` is registered already; name another with --name, or remove that one first"
            ))),
            Err(StoreError::Conflict { .. }) => Err(Status::unauthenticated("this token was used a moment ago")),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }

    fn token(&self, text: &str) -> Result<Kept<RegistrationToken>, Status> {
        let wrong = || {
            let why = "this registration token is not known, was used or is over; `pace agents token` makes a new one";
            Status::unauthenticated(why)
        };
        let shown = Shown::read(text).ok_or_else(wrong)?;
        let kept = self.store.record::<RegistrationToken>(shown.id);
        let kept = kept.map_err(|error| Status::unavailable(error.to_string()))?;
        kept.filter(|kept| kept.value.is_shown_by(&shown, now())).ok_or_else(wrong)
    }

    /// Who shows this credential: of calls, of the cache, of git. Blocks.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if it is nobody's, `UNAVAILABLE` if that cannot be known now.
    pub fn agent_of(&self, credential: &str) -> Result<RegisteredAgent, Status> {
        let unknown = || Status::unauthenticated("this credential is not known; register the agent again");
        let shown = Shown::read(credential).filter(|shown| shown.kind == CredentialKind::Agent).ok_or_else(unknown)?;
        if shown.proves(&sha256(&self.builtin)) {
            return Ok(RegisteredAgent { name: BUILTIN.into(), ..RegisteredAgent::default() });
        }
        let kept = self.store.record::<RegisteredAgent>(shown.id);
        let kept = kept.map_err(|error| Status::unavailable(error.to_string()))?;
        kept.filter(|kept| shown.proves(&kept.value.credential)).map(|kept| kept.value).ok_or_else(unknown)
    }
}

/// The id an agent is known by in the engine.
pub(super) fn id_of(agent: &RegisteredAgent) -> AgentId {
    AgentId::new(agent.name.as_str())
}

fn check_name(name: &str) -> Result<(), Status> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(fits) && name != BUILTIN;
    match good {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "an agent's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`, and is not `{BUILTIN}`"
        ))),
    }
}

/// Whether labels are labels.
pub(super) fn check_labels(labels: &[String]) -> Result<(), Status> {
    let good = |label: &String| {
        !label.is_empty() && label.len() <= LABEL_BYTES_MAX && label.chars().all(|c| c.is_ascii_graphic())
    };
    match labels.len() <= LABELS_MAX && labels.iter().all(good) {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "an agent has at most {LABELS_MAX} labels of 1 to {LABEL_BYTES_MAX} visible ASCII characters"
        ))),
    }
}
