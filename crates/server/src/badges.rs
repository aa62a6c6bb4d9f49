//! Badges: how the last run of a branch ended, as a picture for a README.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use model::{ProjectId, RunOutcome};
use serde::Deserialize;
use store::RunQuery;

use crate::Shared;
use crate::authentication::{asker, off};
use crate::problem::Problem;

/// Runs that are looked through for one that ended.
const RUNS_MAX: usize = 20;
/// Width of a character in the font that browsers take, in tenths of a pixel.
const CHARACTER: usize = 68;

/// Which runs.
#[derive(Debug, Default, Deserialize)]
struct Which {
    branch: Option<String>,
    pipeline: Option<String>,
}

/// `GET /badges/<project>.svg?branch=…&pipeline=…`
pub fn routes(shared: Arc<Shared>) -> Router {
    Router::new().route("/badges/{*file}", get(badge)).with_state(shared)
}

async fn badge(
    State(shared): State<Arc<Shared>>,
    Path(file): Path<String>,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = file.strip_suffix(".svg").ok_or_else(|| Problem::not_found("a badge ends in `.svg`"))?.to_owned();
    let who = asker(&shared, &headers).await?.who;
    let project = crate::verbs::project(&shared, &who, &name).await?.value;
    let branch = which.branch.filter(|branch| !branch.is_empty()).unwrap_or(project.default_branch);
    let query = RunQuery {
        project: Some(ProjectId::new(name)),
        branch: Some(branch).filter(|branch| !branch.is_empty()),
        pipeline: which.pipeline.clone(),
        max: RUNS_MAX,
        ..RunQuery::default()
    };
    let runs = off(move || Ok(shared.store.runs(&query)?)).await?;
    let last = runs.iter().find(|run| run.value.outcome.is_some());
    let (word, color) = match last.and_then(|run| run.value.outcome) {
        Some(RunOutcome::Succeeded) => ("passing", "#2da44e"),
        Some(RunOutcome::Cancelled) => ("cancelled", "#6e7781"),
        Some(_) => ("failing", "#cf222e"),
        None if runs.is_empty() => ("no runs", "#6e7781"),
        None => ("running", "#bf8700"),
    };
    let label = which.pipeline.unwrap_or_else(|| "build".into());
    let etag = format!("\"{word}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|seen| seen.as_bytes() == etag.as_bytes()) {
        return Ok(StatusCode::NOT_MODIFIED.into_response());
    }
    let told = [
        (header::CONTENT_TYPE, "image/svg+xml; charset=utf-8".to_owned()),
        // Picture proxies of forges keep what they may keep for hours.
        (header::CACHE_CONTROL, "no-cache, max-age=0".to_owned()),
        (header::ETAG, etag),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'".to_owned()),
    ];
    Ok((told, svg(&label, word, color)).into_response())
}

/// Two fields side by side.
fn svg(label: &str, word: &str, color: &str) -> String {
    let label: String = label.chars().filter(|c| !c.is_control()).take(40).collect();
    let width = |text: &str| text.chars().count() * CHARACTER / 10 + 12;
    let (left, right) = (width(&label), width(word));
    let all = left + right;
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let (middle_left, middle_right) = (left / 2, left + right / 2);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" aria-label=\"{label}: {word}\">\
         <title>{label}: {word}</title><clipPath id=\"r\"><rect width=\"{all}\" height=\"20\" rx=\"4\"/></clipPath>\
         <g clip-path=\"url(#r)\"><rect width=\"{left}\" height=\"20\" fill=\"#3d444d\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" fill=\"{color}\"/></g>\
         <g fill=\"#fff\" font-family=\"Verdana,DejaVu Sans,sans-serif\" font-size=\"11\" text-anchor=\"middle\">\
         <text x=\"{middle_left}\" y=\"14\">{label}</text><text x=\"{middle_right}\" y=\"14\">{word}</text></g></svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_escapes_what_it_is_given() {
        let svg = svg("a<script>\"&", "passing", "#2da44e");
        assert!(!svg.contains("<script>") && svg.contains("a&lt;script&gt;&quot;&amp;"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.contains("passing"));
    }
}
