//! What people do to a server, with the question whether they may: one function each, the same for interface and pages.

mod agents;
mod past;
mod people;
mod projects;
mod runs;
mod secrets;

use std::sync::Arc;

use access::{Action, On, Who, may};

use crate::Shared;
use crate::authentication::off;
use crate::problem::Problem;
use crate::records::Project;

pub use agents::{
    AGENT_TOKEN_MINUTES_MAX, add_registration, agents, pause_agent, registrations, remove_agent, remove_registration,
};
pub use past::{audit, deliveries, redeliver};
pub use people::{
    NewToken, NewUser, UserChange, add_user, change_user, invite, mint_token, password_link, remove_token, remove_user,
    set_own_password, sign_out_everywhere, tokens, user, users,
};
pub use projects::{ProjectSettings, add_project, edit_project, project, projects, remove_project, test_project};
pub use runs::{
    Artifact, Asked, RunsAsked, again, answer, artifacts, cancel, facts, log, log_id, prioritise, release, run,
    run_of_number, runs, trigger, view,
};
pub use secrets::{put_secret, rekey, remove_secret, secrets};

/// Things on a page when nobody says how many.
pub const PAGE: usize = 50;
/// Things on a page at most.
pub const PAGE_MAX: usize = 200;

/// Part of a list, and where the next part begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The part.
    pub items: Vec<T>,
    /// What to ask for the next part with; `None`: this was the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Of what was read with one more than fits, so that it shows whether there is a next part.
    fn cut(mut items: Vec<T>, max: usize, cursor: impl Fn(&T) -> String) -> Page<T> {
        let more = items.len() > max;
        items.truncate(max);
        let next = items.last().filter(|_| more).map(cursor);
        Page { items, next }
    }
}

/// How many things a page has.
fn bounded(asked: usize) -> usize {
    if asked == 0 { PAGE } else { asked.min(PAGE_MAX) }
}

/// A cursor that is a number; an empty one is the beginning.
fn number(cursor: &str) -> Result<Option<u64>, Problem> {
    match cursor {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Problem::invalid("`after` is not a cursor that a page gave")),
    }
}

/// Whether somebody may do something to the whole server.
fn may_server(who: &Who, action: Action) -> Result<(), Problem> {
    Ok(may(who, action, On::Server)?)
}

/// The project, if somebody may do this to it. Blocks.
fn may_project(shared: &Shared, who: &Who, action: Action, name: &str) -> Result<store::Kept<Project>, Problem> {
    let kept = shared.store.record::<Project>(name)?;
    let public = kept.as_ref().is_some_and(|kept| kept.value.public);
    // Asked before it is said that there is none: who may not see it must not learn whether it is there.
    may(who, action, On::Project { name, public })?;
    kept.ok_or_else(|| Problem::not_found(format!("there is no project `{}`", shown(name))))
}

/// [`may_project`] beside the asynchronous tasks.
async fn allowed(shared: &Arc<Shared>, who: &Who, action: Action, name: &str) -> Result<store::Kept<Project>, Problem> {
    let (shared, who, name) = (shared.clone(), who.clone(), name.to_owned());
    off(move || may_project(&shared, &who, action, &name)).await
}

/// A name from outside, fit for a message.
fn shown(name: &str) -> String {
    name.chars().take(80).collect::<String>().escape_debug().to_string()
}
