//! Who asks: bearer tokens of programs, cookies of browsers, passwords, one-time links.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access::{
    COOKIE, Cookie, CredentialKind, Keys, Link, PasswordHash, Purpose, SealError, Session, Shown, SignInLimit, Token,
    User, Who, password_problem, user_name_problem,
};
use http::{HeaderMap, header};
use store::{Batch, Change, Expect, Kept};
use tokio::sync::Semaphore;

use crate::clock::now;
use crate::oidc::Issuer;
use crate::problem::Problem;
use crate::{Config, Shared};

/// Passwords that are looked at at the same time: each takes 19 MiB and a CPU for some 20 ms.
const HASHING_MAX: usize = 2;
/// The link of a new server is good for so long; a restart makes another.
const SETUP_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Sessions that are looked at for ended ones when one begins.
const SWEPT: usize = 200;
/// Name of the header that browsers' scripts send with what changes something.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// What is kept in memory of it.
#[derive(Debug)]
pub struct Authentication {
    /// Seals secrets at rest.
    pub keys: Keys,
    /// Handlers of many threads count wrong tries, hence the lock.
    limit: Mutex<SignInLimit>,
    hashing: Semaphore,
    /// Whom people sign in with elsewhere.
    pub(crate) issuer: Issuer,
    /// Makes what forms carry.
    forms: [u8; 32],
}

/// Who asks, and how it proved it.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Who.
    pub who: Who,
    /// The cookie, for browsers.
    pub cookie: Option<Cookie>,
    /// What forms of this session carry; `None` without a cookie: no form is taken then.
    pub csrf: Option<String>,
    /// A `Set-Cookie` that the answer must carry: the session got a new secret.
    pub set_cookie: Option<String>,
}

impl Asker {
    fn with(who: Who) -> Asker {
        Asker { who, cookie: None, csrf: None, set_cookie: None }
    }

    /// Whether what a browser sends, with the token it carries, really comes from a page of this session. Who shows a token
    /// has no cookie that another site could make a browser send.
    pub fn may_change(&self, csrf: &str) -> bool {
        self.csrf.as_ref().map_or(self.who.is_token(), |expected| access::is_csrf_token(expected, csrf))
    }
}

impl Authentication {
    /// With the master key of the data folder, or of `PACE_MASTER_KEY`.
    ///
    /// # Errors
    /// There is no usable key.
    pub fn open(config: &Config) -> Result<Authentication, SealError> {
        let variable = std::env::var("PACE_MASTER_KEY").ok();
        Ok(Authentication::with(Keys::load(&config.data, variable.as_deref())?))
    }

    /// With these keys.
    pub fn with(keys: Keys) -> Authentication {
        Authentication {
            forms: keys.derive("forms"),
            keys,
            limit: Mutex::default(),
            hashing: Semaphore::new(HASHING_MAX),
            issuer: Issuer::default(),
        }
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, SignInLimit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what blocks (the store, argon2) where it may.
pub(crate) async fn off<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Problem::new("defect", "this was not finished; the server's log says more")))
}

/// Who sends these headers: a bearer token, else a session's cookie, else nobody in particular.
///
/// # Errors
/// There is a token, and it is wrong or over; or the store cannot be read.
pub async fn asker(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Asker, Problem> {
    if let Some(token) = bearer(headers) {
        let (shared, token) = (shared.clone(), token?.to_owned());
        let who = off(move || bearer_who(&shared, &token)).await?;
        return Ok(Asker::with(who));
    }
    let Some(cookie) = cookie(headers) else {
        return Ok(Asker::with(Who::anonymous()));
    };
    let shared = shared.clone();
    off(move || cookie_asker(&shared, cookie)).await
}

/// Signs somebody in with name and password. `address` is where the try comes from, `agent` what the browser calls itself.
///
/// # Errors
/// Wrong (which of both is not said), too many tries, or the store cannot be reached.
pub async fn sign_in(
    shared: &Arc<Shared>,
    name: &str,
    password: &str,
    address: &str,
    agent: &str,
) -> Result<Cookie, Problem> {
    let user = check_password(shared, name, password, address).await?;
    begin_session(shared, &user, agent).await
}

/// Whether name and password belong together; counts wrong tries.
///
/// # Errors
/// As [`sign_in`].
pub async fn check_password(shared: &Arc<Shared>, name: &str, password: &str, address: &str) -> Result<User, Problem> {
    let (by_name, by_address) = (format!("user {name}"), format!("from {address}"));
    let keys = [by_name.as_str(), by_address.as_str()];
    shared.authentication.limit().check(&keys, now())?;
    let permit = shared.authentication.hashing.acquire().await;
    let (at_store, wanted, tried) = (shared.clone(), name.to_owned(), password.to_owned());
    let user = off(move || {
        let user = at_store.store.record::<User>(&wanted)?.map(|kept| kept.value).filter(|user| !user.disabled);
        let hash = user.as_ref().and_then(|user| PasswordHash::read(&user.password));
        let good = hash.map_or_else(|| PasswordHash::is_nobodys(&tried), |hash| hash.is_of(&tried));
        Ok(user.filter(|_| good))
    })
    .await?;
    drop(permit);
    let Some(user) = user else {
        shared.authentication.limit().failed(&keys, now());
        return Err(Problem::new("signed-out", "there is no user of this name with this password"));
    };
    shared.authentication.limit().passed(&by_name);
    Ok(user)
}

/// Begins a session of somebody who just proved who it is.
///
/// # Errors
/// The store cannot be written.
pub async fn begin_session(shared: &Arc<Shared>, user: &User, agent: &str) -> Result<Cookie, Problem> {
    let (session, cookie) = Session::begin(&user.name, agent, now());
    let by = format!("user:{}", user.name);
    let at_store = shared.clone();
    off(move || {
        let at = now();
        let mut changes = vec![Change::put(at, &by, "session.started", &session, Expect::Absent)];
        let over = at_store.store.records::<Session>("", "", SWEPT)?.into_iter().filter(|kept| kept.value.is_over(at));
        changes.extend(
            over.map(|kept| Change::remove::<Session>(at, "server", "session.ended", &kept.value.sha256, Expect::Any)),
        );
        at_store.store.append(None, Batch { changes, ..Batch::default() })?;
        Ok(cookie)
    })
    .await
}

/// Ends a session.
///
/// # Errors
/// The store cannot be written.
pub async fn sign_out(shared: &Arc<Shared>, asker: &Asker) -> Result<(), Problem> {
    let Some(cookie) = &asker.cookie else { return Ok(()) };
    let change = Change::remove::<Session>(now(), &asker.who.name, "session.ended", &cookie.key(), Expect::Any);
    write(shared, vec![change]).await.map(drop)
}

/// On a server without users: a link that makes the first administrator, to be printed. Blocks.
///
/// # Errors
/// The store cannot be read or written.
pub fn setup_link(shared: &Shared) -> Result<Option<String>, Problem> {
    if !shared.store.records::<User>("", "", 1)?.is_empty() {
        return Ok(None);
    }
    let links = shared.store.records::<Link>("", "", 100)?;
    let old = links.into_iter().filter(|kept| kept.value.purpose == Purpose::Setup);
    let (link, minted) = Link::mint(Purpose::Setup, SETUP_LIFE, now());
    let gone = old.map(|kept| Change::remove::<Link>(now(), "server", "link.replaced", &kept.value.id, Expect::Any));
    let mut changes: Vec<Change> = gone.collect();
    changes.push(Change::put(now(), "server", "link.created", &link, Expect::Absent));
    shared.store.append(None, Batch { changes, ..Batch::default() })?;
    Ok(Some(format!("{}/setup/{}", shared.config.url, minted.text)))
}

/// What a link that somebody has is for.
///
/// # Errors
/// It was used, is over, or never was.
pub async fn link(shared: &Arc<Shared>, text: &str) -> Result<Kept<Link>, Problem> {
    let (shared, text) = (shared.clone(), text.to_owned());
    off(move || {
        let gone = || Problem::not_found("this link was used already, is over, or never was; ask for a new one");
        let shown = Shown::read(&text).filter(|shown| shown.kind == CredentialKind::Link).ok_or_else(gone)?;
        let kept = shared.store.record::<Link>(shown.id)?.ok_or_else(gone)?;
        match kept.value.is_shown_by(&shown, now()) {
            true => Ok(kept),
            false => Err(gone()),
        }
    })
    .await
}

/// Uses a link: makes its user, or gives one a new password. The link works once, whoever is faster.
///
/// # Errors
/// As [`link()`], or the name is taken, or name or password will not do.
pub async fn use_link(shared: &Arc<Shared>, text: &str, name: &str, password: &str) -> Result<User, Problem> {
    let kept = link(shared, text).await?;
    let name = match &kept.value.purpose {
        Purpose::Password { user } => user.clone(),
        Purpose::Setup | Purpose::Invite { .. } => name.to_owned(),
    };
    check_user(&name, password)?;
    let hash = hash(shared, password).await?;
    let (at_store, of) = (shared.clone(), name.clone());
    let known = off(move || Ok(at_store.store.record::<User>(&of)?)).await?;
    let at = now();
    let fresh = User { name: name.clone(), password: hash.clone(), created_us: at.0, ..User::default() };
    let (user, expect) = match (kept.value.purpose, known) {
        (Purpose::Setup, None) => (User { admin: true, ..fresh }, Expect::Absent),
        (Purpose::Invite { admin, grants }, None) => (User { admin, grants, ..fresh }, Expect::Absent),
        (Purpose::Password { .. }, Some(known)) => {
            (User { password: hash, sessions_since_us: at.0, ..known.value }, Expect::Version(known.version))
        }
        (Purpose::Password { .. }, None) => {
            return Err(Problem::not_found(format!("there is no user `{name}` any more")));
        }
        (_, Some(_)) => return Err(Problem::new("conflict", format!("the name `{name}` is taken"))),
    };
    let by = format!("user:{name}");
    let used = Change::remove::<Link>(at, &by, "link.used", &kept.value.id, Expect::Version(kept.version));
    write(shared, vec![used, Change::put(at, &by, "user.signed-up", &user, expect)]).await?;
    Ok(user)
}

/// Whether name and password will do for a user.
pub(crate) fn check_user(name: &str, password: &str) -> Result<(), Problem> {
    match user_name_problem(name).or_else(|| password_problem(password, name)) {
        Some(problem) => Err(Problem::invalid(problem)),
        None => Ok(()),
    }
}

/// What is kept of a password.
pub(crate) async fn hash(shared: &Arc<Shared>, password: &str) -> Result<String, Problem> {
    let _permit = shared.authentication.hashing.acquire().await;
    let password = password.to_owned();
    off(move || Ok(PasswordHash::of(&password).to_string())).await
}

/// Appends changes of records.
pub(crate) async fn write(shared: &Arc<Shared>, changes: Vec<Change>) -> Result<Vec<u64>, Problem> {
    let shared = shared.clone();
    off(move || Ok(shared.store.append(None, Batch { changes, ..Batch::default() })?.versions)).await
}

/// The token of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<Result<&str, Problem>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|text| text.split_once(' '));
    Some(match token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(Problem::new("signed-out", "the header `authorization` must be `Bearer` and a token")),
    })
}

fn bearer_who(shared: &Shared, text: &str) -> Result<Who, Problem> {
    let wrong = || Problem::new("signed-out", "this token is wrong, was removed, or is over; make a new one");
    let shown = Shown::read(text).filter(|shown| shown.kind == CredentialKind::Token).ok_or_else(wrong)?;
    let token = shared.store.record::<Token>(shown.id)?.ok_or_else(wrong)?.value;
    if !token.is_shown_by(&shown, now()) {
        return Err(wrong());
    }
    let owner = shared.store.record::<User>(&token.owner)?.ok_or_else(wrong)?.value;
    match owner.disabled {
        true => Err(wrong()),
        false => Ok(Who::token(&token, &owner)),
    }
}

fn cookie(headers: &HeaderMap) -> Option<Cookie> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then(|| Cookie::read(value)).flatten())
}

fn cookie_asker(shared: &Shared, cookie: Cookie) -> Result<Asker, Problem> {
    let stranger = Asker::with(Who::anonymous());
    let Some(kept) = shared.store.record::<Session>(&cookie.key())? else { return Ok(stranger) };
    let session = kept.value;
    let Some(user) = shared.store.record::<User>(&session.user)? else { return Ok(stranger) };
    let (user, at) = (user.value, now());
    if !session.is_good_for(&user, at) {
        return Ok(stranger);
    }
    let csrf = Some(session.csrf_token(&shared.authentication.forms));
    let signed_in = Asker { who: Who::user(&user), cookie: Some(cookie), csrf, set_cookie: None };
    let Some((fresh, old, rotated)) = session.rotated(at) else { return Ok(signed_in) };
    let by = &signed_in.who.name;
    let changes = vec![
        Change::put(at, by, "session.rotated", &old, Expect::Version(kept.version)),
        Change::put(at, by, "session.rotated", &fresh, Expect::Absent),
    ];
    // Of two requests at once the other one made the new secret; the old one is good for a moment still.
    match shared.store.append(None, Batch { changes, ..Batch::default() }) {
        Ok(_) => {
            let set_cookie = Some(rotated.header(shared.config.url.starts_with("https://")));
            Ok(Asker { cookie: Some(rotated), set_cookie, ..signed_in })
        }
        Err(_) => Ok(signed_in),
    }
}
