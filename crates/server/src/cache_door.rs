//! Who may use the shared cache of a server: agents that are registered, and the one in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use access::{CredentialKind, Shown};
use cache::access::{Ask, Rights, Scope, Secret, Token};
use store::Store;

use crate::records::RegisteredAgent;

/// How long an answer is believed: an agent that was removed is out after it.
const BELIEVED: Duration = Duration::from_secs(10);
/// Answers that are remembered.
const ANSWERS_MAX: usize = 20_000;

struct Door {
    store: Store,
    builtin: [u8; 32],
    // Every request to the cache asks; the store shall not be asked each time.
    answers: Mutex<HashMap<[u8; 32], Answer>>,
}

/// Who it is, if anybody, and when that was found out.
type Answer = (Option<Arc<Token>>, Instant);

/// Answers for the cache; `builtin` is the credential of the agent in this process.
pub(crate) fn ask(store: Store, builtin: &str) -> Ask {
    let builtin = hash(builtin);
    let door = Door { store, builtin, answers: Mutex::default() };
    Ask::new(move |secret| door.token(secret))
}

impl Door {
    fn token(&self, secret: &Secret) -> Option<Arc<Token>> {
        let (sha256, now) = (secret.sha256(), Instant::now());
        let answers = || self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((answer, at)) = answers().get(&sha256)
            && now.duration_since(*at) < BELIEVED
        {
            return answer.clone();
        }
        let name = self.name(secret, sha256);
        let answer = name.map(|name| Arc::new(writer(&name, sha256)));
        let mut answers = answers();
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(sha256, (answer.clone(), now));
        answer
    }

    fn name(&self, secret: &Secret, sha256: [u8; 32]) -> Option<String> {
        if sha256 == self.builtin {
            return Some("agent/builtin".into());
        }
        let shown = Shown::read(secret.reveal()).filter(|shown| shown.kind == CredentialKind::Agent)?;
        // A store that does not answer lets nobody in.
        let kept = self.store.record::<RegisteredAgent>(shown.id).ok()??;
        shown.proves(&kept.value.credential).then(|| format!("agent/{}", kept.value.name))
    }
}

fn writer(name: &str, sha256: [u8; 32]) -> Token {
    let name = name.chars().take(cache::access::NAME_BYTES_MAX).collect();
    Token { name, sha256, instance: None, scope: Scope::Main, rights: Rights::Write, created: 0, expires: None }
}

fn hash(text: &str) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
