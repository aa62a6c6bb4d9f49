//! Settings of a project.

use std::sync::Arc;

use access::{Action, On, may};
use axum::Extension;
use axum::extract::{Path, State};
use view::page::path;
use view::page::settings::Settings;

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::forms::Fields;
use super::project::{hook, rights};
use super::{Answer, Failed, Posted, Visit, Web};
use crate::problem::Problem;
use crate::verbs::{self, ProjectSettings};

async fn kept(web: &Web, visit: &Visit, name: &str) -> Result<Settings, Failed> {
    let who = &visit.asker.who;
    let store::Kept { value: project, version } = verbs::project(&web.shared, who, name).await?;
    may(who, Action::SeeSettings, On::Project { name, public: project.public })?;
    Ok(Settings {
        rights: rights(who, &project),
        hook: hook(web, name),
        has_credential: !project.credential.is_empty(),
        has_webhook_secret: !project.webhook_secret.is_empty(),
        name: project.name,
        repository: project.repository,
        forge: project.forge,
        forge_api: project.forge_api,
        forge_name: project.forge_name,
        default_branch: project.default_branch,
        pipelines: project.pipelines.join("\n"),
        public: project.public,
        approve_forks: project.approve_forks,
        keep_days: project.keep_days,
        version,
        trouble: String::new(),
    })
}

/// `GET /p/PROJECT/-/settings`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(name): Path<String>,
) -> Answer {
    Ok(html_page(kept(&web, &visit, &name).await?.page(&visit.frame)))
}

/// `POST /p/PROJECT/-/settings`
pub(super) async fn save(State(web): State<Arc<Web>>, Path(name): Path<String>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let saved = match wanted(&fields) {
        Ok((settings, version)) => verbs::edit_project(&web.shared, &visit.asker.who, &name, settings, version).await,
        Err(problem) => Err(problem),
    };
    match saved {
        Ok(_) => Ok(on_to(&path::within(&name, "settings"), "saved")),
        Err(problem) => {
            let mut again = kept(&web, &visit, &name).await?;
            typed(&mut again, &fields);
            again.trouble.clone_from(&problem.detail);
            Ok(page_of_trouble(&problem, again.page(&visit.frame)))
        }
    }
}

fn wanted(fields: &Fields) -> Result<(ProjectSettings, Option<u64>), Problem> {
    let keep_days = fields.text("keep_days").parse();
    let keep_days = keep_days.map_err(|_| Problem::invalid("the days to keep are a number from 0 on"))?;
    let text = |name: &str| Some(fields.text(name).to_owned());
    let settings = ProjectSettings {
        repository: text("repository"),
        forge: text("forge"),
        forge_api: text("forge_api"),
        forge_name: text("forge_name"),
        default_branch: text("default_branch"),
        pipelines: Some(lines(fields)),
        credential: sealed(fields, "credential"),
        webhook_secret: sealed(fields, "webhook_secret"),
        public: Some(fields.ticked("public")),
        approve_forks: Some(fields.ticked("approve_forks")),
        keep_days: Some(keep_days),
        ..ProjectSettings::default()
    };
    Ok((settings, fields.text("version").parse().ok()))
}

fn lines(fields: &Fields) -> Vec<String> {
    fields.exact("pipelines").lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An empty field keeps what there is; the box beside it removes it.
fn sealed(fields: &Fields, name: &str) -> Option<String> {
    match (fields.text(name), fields.ticked(&format!("{name}_remove"))) {
        ("", false) => None,
        ("", true) => Some(String::new()),
        (value, _) => Some(value.to_owned()),
    }
}

/// What was typed is not lost with what was wrong in it.
fn typed(settings: &mut Settings, fields: &Fields) {
    let places = [
        ("repository", &mut settings.repository),
        ("forge", &mut settings.forge),
        ("forge_api", &mut settings.forge_api),
        ("forge_name", &mut settings.forge_name),
        ("default_branch", &mut settings.default_branch),
    ];
    places.into_iter().for_each(|(name, place)| fields.text(name).clone_into(place));
    settings.pipelines = fields.exact("pipelines");
    settings.public = fields.ticked("public");
    settings.approve_forks = fields.ticked("approve_forks");
}

/// `POST /p/PROJECT/-/settings/remove`
pub(super) async fn remove(State(web): State<Arc<Web>>, Path(name): Path<String>, posted: Posted) -> Answer {
    if posted.fields.text("sure") != name {
        return Err(Problem::invalid("the name that was typed is not the project's; nothing was removed").into());
    }
    verbs::remove_project(&web.shared, &posted.visit.asker.who, &name, None).await?;
    Ok(on_to("/", "removed"))
}
