//! Starting a run by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use access::{Action, On, may};
use axum::Extension;
use axum::extract::{Path, Query, State};
use model::{ParamKind, Selection};
use serde::Deserialize;
use view::page::path;
use view::page::trigger::{PARAM_PREFIX, ParamField, Trigger};

use super::enter::{on_to, page as html_page, page_of_trouble};
use super::{Answer, Failed, Posted, Visit, Web};
use crate::authentication::off;
use crate::desk::Refusal;
use crate::problem::Problem;
use crate::records::Project;
use crate::sources::Sources;
use crate::verbs::{self, Asked};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    r#ref: String,
    pipeline: String,
}

/// `GET /p/PROJECT/-/trigger`
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Extension(visit): Extension<Visit>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let form = form(&web, &visit, &name, wanted.r#ref, wanted.pipeline, &BTreeMap::new()).await?;
    Ok(html_page(form.page(&visit.frame)))
}

/// The form for what is at a branch now, with what was given before.
async fn form(
    web: &Web,
    visit: &Visit,
    name: &str,
    reference: String,
    pipeline: String,
    given: &BTreeMap<String, String>,
) -> Result<Trigger, Failed> {
    let project = verbs::project(&web.shared, &visit.asker.who, name).await?.value;
    may(&visit.asker.who, Action::Trigger, On::Project { name, public: project.public })?;
    let (sources, given, name) = (web.shared.sources.clone(), given.clone(), name.to_owned());
    let form = off(move || {
        let mut form = Trigger { project: name, reference, pipeline, ..Trigger::default() };
        if let Err(refusal) = fill(&mut form, &sources, &project, &given) {
            form.trouble = refusal.to_string();
        }
        Ok(form)
    });
    Ok(form.await?)
}

/// Reads the pipeline and its parameters. Blocks.
fn fill(
    form: &mut Trigger,
    sources: &Sources,
    project: &Project,
    given: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let repository = sources.repository(project)?;
    if form.reference.is_empty() {
        form.reference = repository.default_branch(project)?;
    }
    let commit = match is_commit(&form.reference) {
        true => {
            repository.ensure(&form.reference)?;
            form.reference.clone()
        }
        false => match form.reference.strip_prefix(TAG_PREFIX) {
            Some(tag) => repository.head("", tag)?,
            None => repository.head(&form.reference, "")?,
        },
    };
    form.pipelines = sources.files(project, &repository, &commit)?;
    if !form.pipelines.contains(&form.pipeline) {
        form.pipeline = form.pipelines.first().cloned().unwrap_or_default();
    }
    let pipeline = sources.read(&repository, &commit, form.pipeline.clone())?.pipeline.map_err(Refusal::Invalid)?;
    let field = |(name, param): (&String, &model::Param)| ParamField {
        name: name.clone(),
        param: param.clone(),
        given: given.get(name).cloned(),
    };
    form.params = pipeline.params.iter().map(field).collect();
    Ok(())
}

/// How a tag is told from a branch.
const TAG_PREFIX: &str = "refs/tags/";

fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64) && reference.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `POST /p/PROJECT/-/trigger`
pub(super) async fn run(State(web): State<Arc<Web>>, Path(name): Path<String>, posted: Posted) -> Answer {
    let Posted { visit, fields } = posted;
    let (reference, pipeline) = (fields.text("ref").to_owned(), fields.text("pipeline").to_owned());
    let mut given: BTreeMap<String, String> =
        fields.with_prefix(PARAM_PREFIX).map(|(name, value)| (name.to_owned(), value.replace("\r\n", "\n"))).collect();
    let mut form = form(&web, &visit, &name, reference.clone(), pipeline.clone(), &given).await?;
    // A box that is not ticked is not sent.
    let boxes = form.params.iter().filter(|field| field.param.kind == ParamKind::Boolean);
    for field in boxes {
        given.entry(field.name.clone()).or_insert_with(|| "false".to_owned());
    }
    let mut asked = Asked {
        pipeline,
        params: given.into_iter().collect(),
        selection: Selection { no_cache: fields.ticked("no_cache"), ..Selection::default() },
        ..Asked::default()
    };
    match (is_commit(&reference), reference.strip_prefix(TAG_PREFIX)) {
        (true, _) => asked.commit = reference,
        (false, Some(tag)) => asked.tag = tag.to_owned(),
        (false, None) => asked.branch = reference,
    }
    match verbs::trigger(&web.shared, &visit.asker.who, &name, asked).await {
        Ok(granted) => Ok(on_to(&path::run(&name, granted.number), "")),
        Err(problem) if is_about_the_form(&problem) => {
            form.trouble.clone_from(&problem.detail);
            Ok(page_of_trouble(&problem, form.page(&visit.frame)))
        }
        Err(problem) => Err(problem.into()),
    }
}

fn is_about_the_form(problem: &Problem) -> bool {
    matches!(problem.word(), "invalid" | "unprocessable" | "not-found" | "conflict")
}
