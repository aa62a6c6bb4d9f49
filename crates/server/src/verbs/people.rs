//! Users and tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use access::{
    Action, Link, Minted, PasswordHash, Purpose, Role, Scope, TOKEN_DAYS_MAX, Token, User, Who, user_name_problem,
};
use store::{Batch, Change, Expect, Kept};

use super::{Page, bounded, may_server, shown};
use crate::Shared;
use crate::authentication::{check_user, hash, off, write};
use crate::clock::now;
use crate::problem::Problem;

/// Tokens of one user.
const TOKENS_MAX: usize = 500;
const LABEL_CHARS_MAX: usize = 80;
const GRANTS_MAX: usize = 1000;
/// An invitation, or a link for a new password, is good for so long.
const LINK_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A user that somebody makes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// Its password; empty: it has only tokens. Who signs in with OIDC becomes a user by that.
    pub password: String,
    /// The rest.
    pub change: UserChange,
}

/// What is changed of a user. What is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserChange {
    /// As [`User::display`].
    pub display: Option<String>,
    /// As [`User::email`].
    pub email: Option<String>,
    /// As [`User::admin`].
    pub admin: Option<bool>,
    /// As [`User::disabled`].
    pub disabled: Option<bool>,
    /// As [`User::grants`].
    pub grants: Option<BTreeMap<String, Role>>,
    /// As [`User::teams`].
    pub teams: Option<BTreeSet<String>>,
}

/// A token that somebody wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewToken {
    /// What it is for, in words.
    pub label: String,
    /// What it may.
    pub scopes: BTreeSet<Scope>,
    /// Projects it is for; empty: all of its owner's.
    pub projects: Vec<String>,
    /// Its life in days; 0: for ever.
    pub days: u64,
}

/// Users, by name.
///
/// # Errors
/// They may not be seen.
pub async fn users(shared: &Arc<Shared>, who: &Who, after: &str, max: usize) -> Result<Page<Kept<User>>, Problem> {
    may_server(who, Action::ManageUsers)?;
    let (shared, after, max) = (shared.clone(), after.to_owned(), bounded(max));
    off(move || Ok(Page::cut(shared.store.records::<User>("", &after, max + 1)?, max, |kept| kept.value.name.clone())))
        .await
}

/// A user: oneself, or any for those who manage them.
///
/// # Errors
/// There is none that may be seen.
pub async fn user(shared: &Arc<Shared>, who: &Who, name: &str) -> Result<Kept<User>, Problem> {
    if who.user.as_deref() != Some(name) {
        may_server(who, Action::ManageUsers)?;
    }
    known_user(shared, name).await
}

/// Makes a user.
///
/// # Errors
/// It may not be made, the name is taken, or name or password will not do.
pub async fn add_user(shared: &Arc<Shared>, who: &Who, new: NewUser) -> Result<Kept<User>, Problem> {
    may_server(who, Action::ManageUsers)?;
    let password = match new.password.as_str() {
        "" => match user_name_problem(&new.name) {
            Some(problem) => return Err(Problem::invalid(problem)),
            None => String::new(),
        },
        password => {
            check_user(&new.name, password)?;
            hash(shared, password).await?
        }
    };
    let fresh = User { name: new.name.clone(), password, created_us: now().0, ..User::default() };
    let user = applied(fresh, new.change)?;
    let change = Change::put(now(), &who.name, "user.created", &user, Expect::Absent);
    let versions = write(shared, vec![change]).await.map_err(|problem| match problem.word() {
        "changed" => Problem::new("conflict", format!("there is a user `{}` already", user.name)),
        _ => problem,
    })?;
    Ok(Kept { value: user, version: versions.first().copied().unwrap_or_default() })
}

/// Changes a user's rights. Nobody takes the last administrator away.
///
/// # Errors
/// It may not be changed, somebody else changed it, or it is the last administrator.
pub async fn change_user(
    shared: &Arc<Shared>,
    who: &Who,
    name: &str,
    change: UserChange,
    version: Option<u64>,
) -> Result<Kept<User>, Problem> {
    may_server(who, Action::ManageUsers)?;
    let kept = known_user(shared, name).await?;
    let ruled = kept.value.admin && !kept.value.disabled;
    let user = applied(kept.value, change)?;
    if ruled && (!user.admin || user.disabled) {
        another_rules(shared, name).await?;
    }
    let expect = Expect::Version(version.unwrap_or(kept.version));
    let versions = write(shared, vec![Change::put(now(), &who.name, "user.changed", &user, expect)]).await?;
    Ok(Kept { value: user, version: versions.first().copied().unwrap_or_default() })
}

/// Removes a user with its tokens.
///
/// # Errors
/// It may not be removed, or is the last administrator.
pub async fn remove_user(shared: &Arc<Shared>, who: &Who, name: &str) -> Result<(), Problem> {
    may_server(who, Action::ManageUsers)?;
    let kept = known_user(shared, name).await?;
    if kept.value.admin {
        another_rules(shared, name).await?;
    }
    let (shared, who, name) = (shared.clone(), who.clone(), name.to_owned());
    off(move || {
        let (at, mut changes) = (now(), Vec::new());
        changes.push(Change::remove::<User>(at, &who.name, "user.removed", &name, Expect::Version(kept.version)));
        let tokens = tokens_of(&shared, |token| token.owner == name)?;
        let gone = tokens.iter().map(|kept| &kept.value.id);
        changes.extend(gone.map(|id| Change::remove::<Token>(at, &who.name, "token.removed", id, Expect::Any)));
        shared.store.append(None, Batch { changes, ..Batch::default() })?;
        Ok(())
    })
    .await
}

/// A link by which somebody becomes a user with these rights.
///
/// # Errors
/// It may not be made.
pub async fn invite(
    shared: &Arc<Shared>,
    who: &Who,
    admin: bool,
    grants: BTreeMap<String, Role>,
) -> Result<String, Problem> {
    may_server(who, Action::ManageUsers)?;
    check_grants(&grants)?;
    new_link(shared, who, Purpose::Invite { admin, grants }, "invite").await
}

/// A link by which a user chooses a new password.
///
/// # Errors
/// It may not be made, or there is no such user.
pub async fn password_link(shared: &Arc<Shared>, who: &Who, name: &str) -> Result<String, Problem> {
    may_server(who, Action::ManageUsers)?;
    let user = known_user(shared, name).await?.value.name;
    new_link(shared, who, Purpose::Password { user }, "password").await
}

/// Changes one's own password. All sessions end.
///
/// # Errors
/// The old one is wrong, or the new one will not do.
pub async fn set_own_password(shared: &Arc<Shared>, who: &Who, old: &str, new: &str) -> Result<(), Problem> {
    let name = own(who)?;
    let kept = known_user(shared, &name).await?;
    crate::authentication::check_password(shared, &name, old, &name).await.map_err(|problem| match problem.word() {
        "signed-out" => Problem::invalid("the old password is wrong"),
        _ => problem,
    })?;
    check_user(&name, new)?;
    let password = hash(shared, new).await?;
    debug_assert!(PasswordHash::read(&password).is_some());
    let user = User { password, sessions_since_us: now().0, ..kept.value };
    let change = Change::put(now(), &who.name, "password.changed", &user, Expect::Version(kept.version));
    write(shared, vec![change]).await.map(drop)
}

/// Ends all sessions of oneself.
///
/// # Errors
/// Nobody is signed in.
pub async fn sign_out_everywhere(shared: &Arc<Shared>, who: &Who) -> Result<(), Problem> {
    let kept = known_user(shared, &own(who)?).await?;
    let user = User { sessions_since_us: now().0, ..kept.value };
    let change = Change::put(now(), &who.name, "sessions.ended", &user, Expect::Version(kept.version));
    write(shared, vec![change]).await.map(drop)
}

/// One's own tokens; of all for those who manage users and ask for it.
///
/// # Errors
/// They may not be seen.
pub async fn tokens(
    shared: &Arc<Shared>,
    who: &Who,
    of_all: bool,
    after: &str,
    max: usize,
) -> Result<Page<Kept<Token>>, Problem> {
    let name = own(who)?;
    if of_all {
        may_server(who, Action::ManageUsers)?;
    }
    let (shared, after, max) = (shared.clone(), after.to_owned(), bounded(max));
    off(move || {
        let mut all = tokens_of(&shared, |token| (of_all || token.owner == name) && token.id > after)?;
        all.truncate(max + 1);
        Ok(Page::cut(all, max, |kept| kept.value.id.clone()))
    })
    .await
}

/// Makes a token of oneself. What its holder shows is in the answer and nowhere else.
///
/// # Errors
/// Tokens may not be made, or this one makes no sense.
pub async fn mint_token(shared: &Arc<Shared>, who: &Who, new: NewToken) -> Result<(Token, Minted), Problem> {
    may_server(who, Action::OwnTokens)?;
    let name = own(who)?;
    if new.scopes.is_empty() {
        return Err(Problem::invalid("a token needs a scope: `read`, `run`, `secrets`, `manage` or `admin`"));
    }
    if new.label.chars().count() > LABEL_CHARS_MAX || new.days > TOKEN_DAYS_MAX || new.projects.len() > GRANTS_MAX {
        return Err(Problem::invalid(format!(
            "a label has at most {LABEL_CHARS_MAX} characters, a token lives at most {TOKEN_DAYS_MAX} days"
        )));
    }
    let at_store = shared.clone();
    let of = name.clone();
    if off(move || tokens_of(&at_store, |token| token.owner == of)).await?.len() >= TOKENS_MAX {
        return Err(Problem::new("conflict", format!("there are {TOKENS_MAX} tokens already; remove some")));
    }
    let (token, minted) = Token::mint(&name, &new.label, new.scopes, new.days, now());
    let token = Token { projects: new.projects, ..token };
    write(shared, vec![Change::put(now(), &who.name, "token.created", &token, Expect::Absent)]).await?;
    Ok((token, minted))
}

/// Removes a token: one's own, or any for those who manage users.
///
/// # Errors
/// There is none that may be removed.
pub async fn remove_token(shared: &Arc<Shared>, who: &Who, id: &str) -> Result<(), Problem> {
    let (at_store, wanted) = (shared.clone(), id.to_owned());
    let gone = || Problem::not_found(format!("there is no token `{}`", shown(id)));
    let kept = off(move || Ok(at_store.store.record::<Token>(&wanted)?)).await?;
    let kept = kept.ok_or_else(gone)?;
    if who.user.as_deref() != Some(&kept.value.owner) {
        may_server(who, Action::ManageUsers).map_err(|problem| if who.is_known() { gone() } else { problem })?;
    }
    write(shared, vec![Change::remove::<Token>(now(), &who.name, "token.removed", id, Expect::Version(kept.version))])
        .await
        .map(drop)
}

async fn new_link(shared: &Arc<Shared>, who: &Who, purpose: Purpose, path: &str) -> Result<String, Problem> {
    let (link, minted) = Link::mint(purpose, LINK_LIFE, now());
    write(shared, vec![Change::put(now(), &who.name, "link.created", &link, Expect::Absent)]).await?;
    Ok(format!("{}/{path}/{}", shared.config.url, minted.text))
}

fn own(who: &Who) -> Result<String, Problem> {
    who.user.clone().ok_or_else(|| access::Denied::Unknown.into())
}

async fn known_user(shared: &Arc<Shared>, name: &str) -> Result<Kept<User>, Problem> {
    let (shared, wanted) = (shared.clone(), name.to_owned());
    let kept = off(move || Ok(shared.store.record::<User>(&wanted)?)).await?;
    kept.ok_or_else(|| Problem::not_found(format!("there is no user `{}`", shown(name))))
}

async fn another_rules(shared: &Arc<Shared>, name: &str) -> Result<(), Problem> {
    let (shared, name) = (shared.clone(), name.to_owned());
    off(move || {
        let mut after = String::new();
        loop {
            let read = shared.store.records::<User>("", &after, super::PAGE_MAX)?;
            let Some(last) = read.last() else {
                return Err(Problem::new("conflict", "this is the last administrator; make another one first"));
            };
            after.clone_from(&last.value.name);
            if read.iter().any(|kept| kept.value.admin && !kept.value.disabled && kept.value.name != name) {
                return Ok(());
            }
        }
    })
    .await
}

fn tokens_of(shared: &Shared, wanted: impl Fn(&Token) -> bool) -> Result<Vec<Kept<Token>>, Problem> {
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let read = shared.store.records::<Token>("", &after, 500)?;
        let Some(last) = read.last() else { return Ok(found) };
        after.clone_from(&last.value.id);
        found.extend(read.into_iter().filter(|kept| wanted(&kept.value)));
    }
}

fn applied(user: User, change: UserChange) -> Result<User, Problem> {
    let user = User {
        display: change.display.unwrap_or(user.display),
        email: change.email.unwrap_or(user.email),
        admin: change.admin.unwrap_or(user.admin),
        disabled: change.disabled.unwrap_or(user.disabled),
        grants: change.grants.unwrap_or(user.grants),
        teams: change.teams.unwrap_or(user.teams),
        ..user
    };
    check_grants(&user.grants)?;
    let long = |text: &String| text.len() > 256 || text.chars().any(char::is_control);
    if long(&user.display) || long(&user.email) || user.teams.len() > GRANTS_MAX || user.teams.iter().any(long) {
        return Err(Problem::invalid("names, addresses and teams are one line of at most 256 bytes"));
    }
    Ok(user)
}

fn check_grants(grants: &BTreeMap<String, Role>) -> Result<(), Problem> {
    let good = |pattern: &String| {
        let name = pattern.strip_suffix("/*").unwrap_or(pattern);
        pattern == "*" || (!name.is_empty() && name.len() <= 128 && !name.contains(['*', ' ']))
    };
    match grants.len() <= GRANTS_MAX && grants.keys().all(good) {
        true => Ok(()),
        false => Err(Problem::invalid(format!("roles are for at most {GRANTS_MAX} of `project`, `folder/*` or `*`"))),
    }
}
