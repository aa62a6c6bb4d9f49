//! Sign-in with an issuer of OpenID Connect: asks it where the browser goes, and makes its people users of this server.

use std::sync::Arc;
use std::time::Duration;

use access::{Identity, OidcConfig, OidcError, Pending, Provider, User};
use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Change, Expect, Kept};
use tokio::sync::{Mutex, Semaphore};

use crate::Shared;
use crate::authentication::{off, write};
use crate::clock::now;
use crate::problem::Problem;

/// Where the issuer sends browsers back to, below the server's address.
pub const CALLBACK: &str = "/sign-in/oidc/callback";
/// What the issuer said about itself is asked again after this.
const KNOWN_FOR: Duration = Duration::from_secs(600);
/// Sign-ins that ask the issuer at the same time; others wait.
const ASKING_MAX: usize = 8;
/// What the sealed cookie is for.
const CONTEXT: &str = "a sign-in that was begun";
/// Users that are read at once.
const READ_AT_ONCE: usize = 500;

/// What is kept in memory of an issuer.
#[derive(Debug)]
pub struct Issuer {
    /// What it said, and when. Only one asks: hence the lock, which is held while it is asked.
    known: Mutex<Option<(Arc<Provider>, Timestamp)>>,
    asking: Semaphore,
}

impl Default for Issuer {
    fn default() -> Issuer {
        Issuer { known: Mutex::default(), asking: Semaphore::new(ASKING_MAX) }
    }
}

/// A sign-in that began: where the browser goes, and what it keeps until it is back.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The issuer's page.
    pub url: String,
    /// Sealed; a cookie.
    pub sealed: String,
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    pending: Pending,
    next: String,
}

impl From<OidcError> for Problem {
    fn from(error: OidcError) -> Problem {
        let word = match error {
            OidcError::Issuer { .. } => "unavailable",
            OidcError::Stale => "invalid",
            OidcError::Untrusted { .. } => "denied",
        };
        Problem::new(word, error.to_string())
    }
}

/// Begins a sign-in that leads to the page `next`.
///
/// # Errors
/// There is no issuer, or it cannot be asked.
pub async fn begin(shared: &Arc<Shared>, next: &str) -> Result<Begun, Problem> {
    let provider = provider(shared).await?;
    let started = provider.start(&format!("{}{CALLBACK}", shared.config.url), now());
    let remembered = Remembered { pending: started.pending, next: next.into() };
    let text = serde_json::to_vec(&remembered).map_err(|error| Problem::new("defect", error.to_string()))?;
    Ok(Begun { url: started.url, sealed: shared.authentication.keys.seal(CONTEXT, &text)? })
}

/// Ends a sign-in with the state and the code that the browser brought back: who it is, and where it wanted to go. Of a
/// sign-in that the issuer refused there is a word for that instead of a code.
///
/// # Errors
/// It was not begun in this browser, the issuer refuses it, or who it is may not sign in here.
pub async fn finish(
    shared: &Arc<Shared>,
    sealed: &str,
    state: &str,
    code: Result<&str, &str>,
) -> Result<(User, String), Problem> {
    let stale = |_| Problem::from(OidcError::Stale);
    let opened = shared.authentication.keys.open(CONTEXT, sealed).map_err(stale)?;
    let remembered: Remembered = serde_json::from_slice(&opened).map_err(|_| Problem::from(OidcError::Stale))?;
    if !remembered.pending.is_answered_by(state, now()) {
        return Err(OidcError::Stale.into());
    }
    let code = code.map_err(|word| {
        let word: String = word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        Problem::new("denied", format!("the sign-in was refused there: {word}"))
    })?;
    let provider = provider(shared).await?;
    let permit = shared.authentication.issuer.asking.acquire().await;
    let (pending, state, code) = (remembered.pending, state.to_owned(), code.to_owned());
    let identity = off(move || Ok(provider.finish(&pending, &state, &code, now())?)).await?;
    drop(permit);
    Ok((user(shared, &identity).await?, remembered.next))
}

fn config(shared: &Shared) -> Result<&OidcConfig, Problem> {
    let missing = || Problem::not_found("this server has no issuer to sign in with; see `pace server --oidc-issuer`");
    shared.config.oidc.as_ref().ok_or_else(missing)
}

async fn provider(shared: &Arc<Shared>) -> Result<Arc<Provider>, Problem> {
    let config = config(shared)?.clone();
    let mut known = shared.authentication.issuer.known.lock().await;
    let life = u64::try_from(KNOWN_FOR.as_micros()).unwrap_or(u64::MAX);
    if let Some((provider, _)) = known.as_ref().filter(|(_, at)| now().0.saturating_sub(at.0) < life) {
        return Ok(provider.clone());
    }
    let provider = Arc::new(off(move || Ok(Provider::discover(config)?)).await?);
    *known = Some((provider.clone(), now()));
    Ok(provider)
}

/// The user that somebody is here, with the rights that its groups give now; made when it is new and may sign in.
async fn user(shared: &Arc<Shared>, identity: &Identity) -> Result<User, Problem> {
    let config = config(shared)?;
    let (at_store, key) = (shared.clone(), identity.key.clone());
    let known = off(move || of_key(&at_store, &key)).await?;
    let admitted = identity.is_admitted(config);
    let refused = || {
        Problem::new("denied", "none of your groups, nor your mail address, may sign in here; ask who administers it")
    };
    if let Some(kept) = known {
        let user = identity.apply(kept.value.clone(), config);
        // Who left all groups loses what they gave, also in sessions that are open.
        if user != kept.value {
            let by = format!("user:{}", user.name);
            write(shared, vec![Change::put(now(), &by, "user.changed", &user, Expect::Version(kept.version))]).await?;
        }
        return if admitted && !user.disabled { Ok(user) } else { Err(refused()) };
    }
    if !admitted {
        return Err(refused());
    }
    let fresh = User { name: identity.name.clone(), created_us: now().0, ..User::default() };
    let user = identity.apply(fresh, config);
    let by = format!("user:{}", user.name);
    // Never somebody who has the name already: names are what people choose there.
    let made = write(shared, vec![Change::put(now(), &by, "user.signed-up", &user, Expect::Absent)]).await;
    made.map_err(|problem| match problem.word() {
        "changed" => Problem::new("conflict", format!("somebody else here has the name `{}` already", user.name)),
        _ => problem,
    })?;
    Ok(user)
}

fn of_key(shared: &Shared, key: &str) -> Result<Option<Kept<User>>, Problem> {
    let mut after = String::new();
    loop {
        let read = shared.store.records::<User>("", &after, READ_AT_ONCE)?;
        let Some(last) = read.last() else { return Ok(None) };
        after.clone_from(&last.value.name);
        if let Some(kept) = read.into_iter().find(|kept| kept.value.oidc == key) {
            return Ok(Some(kept));
        }
    }
}
