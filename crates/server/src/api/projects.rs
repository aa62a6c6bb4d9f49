//! Projects.

use std::sync::Arc;

use access::{Action, On, may};
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::{Asked, At, Caller, Input, if_match};
use super::shape::{Listed, Part, ProjectInput, ProjectShape, Reached, versioned};
use super::{listed, tagged};
use crate::Shared;
use crate::problem::Problem;
use crate::records::Project;
use crate::verbs::{self, ProjectSettings};

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new()
        .routes(routes!(list_projects, add_project))
        .routes(routes!(read_project, change_project, remove_project))
        .routes(routes!(test_project))
}

/// Projects, by name
#[utoipa::path(get, path = "/projects", tag = "projects", params(Part), responses((status = 200, body = Listed<ProjectShape>)))]
async fn list_projects(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    uri: Uri,
    Asked(part): Asked<Part>,
) -> Result<Response, Problem> {
    let page = verbs::projects(&shared, &asker.who, &part.after, part.limit).await?;
    let list = Listed::of(page, |kept| shown(&asker.who, kept.value));
    Ok(listed(&uri, list))
}

/// Makes a project
#[utoipa::path(post, path = "/projects", tag = "projects", request_body = ProjectInput, responses((status = 201, body = ProjectShape)))]
async fn add_project(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    Input(input): Input<ProjectInput>,
) -> Result<Response, Problem> {
    let name = input.name.clone().ok_or_else(|| Problem::invalid("a project needs `name`"))?;
    let kept = verbs::add_project(&shared, &asker.who, &name, settings(input)).await?;
    Ok(tagged(StatusCode::CREATED, versioned(kept, |project| shown(&asker.who, project))))
}

/// A project
#[utoipa::path(get, path = "/projects/{project}", tag = "projects", responses((status = 200, body = ProjectShape)))]
async fn read_project(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
) -> Result<Response, Problem> {
    let kept = verbs::project(&shared, &asker.who, &name).await?;
    Ok(tagged(StatusCode::OK, versioned(kept, |project| shown(&asker.who, project))))
}

/// Changes settings of a project
#[utoipa::path(patch, path = "/projects/{project}", tag = "projects", request_body = ProjectInput, responses((status = 200, body = ProjectShape)))]
async fn change_project(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
    headers: HeaderMap,
    Input(input): Input<ProjectInput>,
) -> Result<Response, Problem> {
    if input.name.as_ref().is_some_and(|wanted| *wanted != name) {
        return Err(Problem::invalid("the name of a project never changes"));
    }
    let kept = verbs::edit_project(&shared, &asker.who, &name, settings(input), if_match(&headers)?).await?;
    Ok(tagged(StatusCode::OK, versioned(kept, |project| shown(&asker.who, project))))
}

/// Removes a project with its secrets; its runs stay in the log
#[utoipa::path(delete, path = "/projects/{project}", tag = "projects", responses((status = 204)))]
async fn remove_project(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    verbs::remove_project(&shared, &asker.who, &name, if_match(&headers)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries to reach the repository
#[utoipa::path(post, path = "/projects/{project}/test", tag = "projects", responses((status = 200, body = Reached)))]
async fn test_project(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At(name): At<String>,
) -> Result<Json<Reached>, Problem> {
    let tried = verbs::test_project(&shared, &asker.who, &name).await?;
    let reached = tried.is_ok();
    Ok(Json(Reached { reached, detail: tried.unwrap_or_else(|why| why) }))
}

fn shown(who: &access::Who, project: Project) -> ProjectShape {
    let on = On::Project { name: &project.name, public: project.public };
    let settings = may(who, Action::SeeSettings, on).is_ok();
    ProjectShape::of(project, settings)
}

fn settings(input: ProjectInput) -> ProjectSettings {
    ProjectSettings {
        repository: input.repository,
        forge: input.forge,
        forge_api: input.forge_api,
        forge_name: input.forge_name,
        webhook_secret: input.webhook_secret,
        credential: input.credential,
        default_branch: input.default_branch,
        pipelines: input.pipelines,
        tenant: input.tenant,
        public: input.public,
        approve_forks: input.approve_forks,
        keep_days: input.keep_days,
        notify: input.notify,
        values: input.values,
    }
}
