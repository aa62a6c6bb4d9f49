//! What is of the whole server: users, agents, the audit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use access::{Role, User};
use axum::Extension;
use axum::extract::{Query, State};
use serde::Deserialize;
use view::page::admin::{self as pages, AgentRow, Agents, AuditLine, UserRow, Users};

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::tokens::once;
use super::{Answer, Failed, Posted, Visit, Web};
use crate::hub::AgentLine;
use crate::problem::Problem;
use crate::records::RegisteredAgent;
use crate::verbs::{self, NewUser, UserChange};

/// Users and lines of the audit on a page.
const SHOWN: usize = 100;
/// How long the token of a new agent is good.
const AGENT_TOKEN_MINUTES: u64 = 60;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Asked {
    after: String,
    before: String,
}

async fn kept_users(web: &Web, visit: &Visit, after: &str) -> Result<Users, Failed> {
    let found = verbs::users(&web.shared, &visit.asker.who, after, SHOWN).await?;
    let row = |user: User| UserRow {
        admin: user.rules_all(),
        elsewhere: !user.oidc.is_empty(),
        disabled: user.disabled,
        roles: roles(&user),
        name: user.name,
    };
    let rows = found.items.into_iter().map(|kept| row(kept.value)).collect();
    Ok(Users { rows, next: found.next, invite: None, trouble: String::new() })
}

fn roles(user: &User) -> Vec<(String, String)> {
    let given = user.grants.iter().chain(&user.oidc_grants);
    given.map(|(project, role)| (project.clone(), role.word().to_owned())).collect()
}

/// `GET /users`
pub(super) async fn users(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Answer {
    Ok(html_page(kept_users(&web, &visit, &asked.after).await?.page(&visit.frame)))
}

/// `POST /users`: with a password a user, without one a link by which the user chooses name and password.
pub(super) async fn add_user(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let (who, admin) = (&visit.asker.who, fields.ticked("admin"));
    if fields.text("name").is_empty() {
        let link = verbs::invite(&web.shared, who, admin, BTreeMap::new()).await?;
        return with_link(&web, &visit, link).await;
    }
    let change = UserChange { admin: Some(admin), ..UserChange::default() };
    let new = NewUser { name: fields.text("name").to_owned(), password: fields.exact("password"), change };
    match verbs::add_user(&web.shared, who, new).await {
        Ok(_) => Ok(on_to("/users", "user")),
        Err(problem) => users_with(&web, &visit, &problem).await,
    }
}

/// `POST /users/password`: a link by which a user chooses a new password.
pub(super) async fn new_password(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    let link = verbs::password_link(&web.shared, &posted.visit.asker.who, posted.fields.text("key")).await?;
    with_link(&web, &posted.visit, link).await
}

/// `POST /users/role`
pub(super) async fn give_role(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let (who, name, project) = (&visit.asker.who, fields.text("user"), fields.text("project"));
    let given = async {
        let user = verbs::user(&web.shared, who, name).await?;
        let mut grants = user.value.grants;
        match fields.text("role") {
            "none" => drop(grants.remove(project)),
            word => {
                let role: Role =
                    word.parse().map_err(|error: access::UnknownWord| Problem::invalid(error.to_string()))?;
                grants.insert(project.to_owned(), role);
            }
        }
        let change = UserChange { grants: Some(grants), ..UserChange::default() };
        verbs::change_user(&web.shared, who, name, change, Some(user.version)).await
    };
    match given.await {
        Ok(_) => Ok(on_to("/users", "role")),
        Err(problem) => users_with(&web, &visit, &problem).await,
    }
}

/// `POST /users/remove`
pub(super) async fn remove_user(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    verbs::remove_user(&web.shared, &posted.visit.asker.who, posted.fields.text("key")).await?;
    Ok(on_to("/users", "removed"))
}

async fn users_with(web: &Web, visit: &Visit, problem: &Problem) -> Answer {
    let again = Users { trouble: problem.detail.clone(), ..kept_users(web, visit, "").await? };
    Ok(page_of_trouble(problem, again.page(&visit.frame)))
}

async fn with_link(web: &Web, visit: &Visit, link: String) -> Answer {
    let shown = Users { invite: Some(link), ..kept_users(web, visit, "").await? };
    Ok(once(html_page(shown.page(&visit.frame))))
}

async fn kept_agents(web: &Web, visit: &Visit) -> Result<Agents, Failed> {
    let found = verbs::agents(&web.shared, &visit.asker.who, "", verbs::PAGE_MAX).await?;
    let mut here: BTreeMap<String, AgentLine> =
        web.shared.hub.agents().into_iter().map(|line| (line.agent.to_string(), line)).collect();
    let mut rows: Vec<AgentRow> = Vec::new();
    for registered in found.items.into_iter().map(|kept| kept.value) {
        let line = here.remove(&registered.name);
        rows.push(agent_row(&registered, line.as_ref(), false));
    }
    for (name, line) in here {
        rows.push(agent_row(&RegisteredAgent { name, ..RegisteredAgent::default() }, Some(&line), true));
    }
    Ok(Agents { rows, command: None, trouble: String::new() })
}

fn agent_row(registered: &RegisteredAgent, line: Option<&AgentLine>, built_in: bool) -> AgentRow {
    let labels: BTreeSet<String> =
        registered.labels.iter().chain(line.into_iter().flat_map(|line| &line.labels)).cloned().collect();
    AgentRow {
        name: registered.name.clone(),
        here: line.is_some(),
        paused: registered.paused || line.is_some_and(|line| line.draining),
        labels: labels.into_iter().collect(),
        busy: line.map(|line| (u32::try_from(line.busy).unwrap_or(u32::MAX), line.capacity.slots)),
        about: line.map_or_else(String::new, |line| format!("{} {}", line.version, line.host)),
        built_in,
    }
}

/// `GET /agents`
pub(super) async fn agents(State(web): State<Arc<Web>>, Extension(visit): Extension<Visit>) -> Answer {
    Ok(html_page(kept_agents(&web, &visit).await?.page(&visit.frame)))
}

/// `POST /agents/token`: the answer is a page, because what it shows is shown once.
pub(super) async fn new_agent(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    let who = &posted.visit.asker.who;
    let (_, minted) = verbs::add_registration(&web.shared, who, "", BTreeSet::new(), AGENT_TOKEN_MINUTES).await?;
    let command = format!("pace agent --server {} --token {}", web.shared.config.url, minted.text);
    let shown = Agents { command: Some(command), ..kept_agents(&web, &posted.visit).await? };
    Ok(once(html_page(shown.page(&posted.visit.frame))))
}

/// `POST /agents/pause`
pub(super) async fn pause_agent(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    verbs::pause_agent(&web.shared, &posted.visit.asker.who, posted.fields.text("key"), true).await?;
    Ok(on_to("/agents", "paused"))
}

/// `POST /agents/resume`
pub(super) async fn resume_agent(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    verbs::pause_agent(&web.shared, &posted.visit.asker.who, posted.fields.text("key"), false).await?;
    Ok(on_to("/agents", "resumed"))
}

/// `POST /agents/remove`
pub(super) async fn remove_agent(State(web): State<Arc<Web>>, posted: Posted) -> Answer {
    verbs::remove_agent(&web.shared, &posted.visit.asker.who, posted.fields.text("key")).await?;
    Ok(on_to("/agents", "removed"))
}

/// `GET /audit`
pub(super) async fn audit(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Answer {
    let found = verbs::audit(&web.shared, &visit.asker.who, &asked.before, SHOWN).await?;
    let older = found.next.and_then(|next| next.parse().ok());
    let line = |row: store::Audited| AuditLine {
        at: row.at,
        by: row.by,
        act: row.act,
        about: if row.kind.is_empty() { row.key } else { format!("{} {}", row.kind, row.key) },
    };
    let lines: Vec<AuditLine> = found.items.into_iter().map(|row| line(row.value)).collect();
    Ok(html_page(pages::audit(&visit.frame, &lines, older)))
}
