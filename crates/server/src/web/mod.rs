//! The pages: routes, sessions and forms. What a page shows is `view::page`, what a form does is `verbs`.
//!
//! ```text
//! request ─▶ enter (who asks, same site, headers) ─▶ handler ─▶ verbs ─▶ view::page ─▶ response
//! ```
//!
//! A form is taken only as [`Posted`], which cannot be made without the proof that it is one of ours. What goes wrong is a
//! [`Failed`] problem; `enter` makes a page of it.

mod admin;
mod assets;
mod elsewhere;
mod enter;
mod forms;
mod live;
mod log;
mod place;
mod project;
mod projects;
mod run;
mod secrets;
mod settings;
mod sign_in;
mod step;
mod tokens;
mod trigger;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get, post};
use view::page::Site;

use crate::Shared;
use enter::{Failed, Visit};
use forms::{Posted, Unproven};

/// Bytes of a form; a secret has 64 KiB, three times that when every byte is escaped.
const FORM_BYTES_MAX: usize = 256 << 10;

/// What all pages share.
#[derive(Debug)]
struct Web {
    shared: Arc<Shared>,
    site: Site,
    /// Numbers of lines at places in logs. Many handlers read and write it.
    lines: Mutex<log::Lines>,
}

/// What a handler gives back.
type Answer = Result<axum::response::Response, Failed>;

/// The pages, at the root of the server.
pub fn routes(shared: Arc<Shared>) -> Router {
    let web = Arc::new(Web { shared, site: assets::site(), lines: Mutex::default() });
    let places = places(web.clone());
    let pages = Router::new()
        .route("/", get(projects::page))
        .route("/live", get(live::all))
        .route("/new", get(projects::new).post(projects::add))
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/sign-in/oidc", get(elsewhere::begin))
        .route(crate::oidc::CALLBACK, get(elsewhere::callback))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/setup/{link}", get(sign_in::link_page).post(sign_in::use_link))
        .route("/invite/{link}", get(sign_in::link_page).post(sign_in::use_link))
        .route("/password/{link}", get(sign_in::link_page).post(sign_in::use_link))
        .route("/tokens", get(tokens::page).post(tokens::make))
        .route("/tokens/remove", post(tokens::remove))
        .route("/users", get(admin::users).post(admin::add_user))
        .route("/users/role", post(admin::give_role))
        .route("/users/remove", post(admin::remove_user))
        .route("/users/password", post(admin::new_password))
        .route("/agents", get(admin::agents))
        .route("/agents/token", post(admin::new_agent))
        .route("/agents/pause", post(admin::pause_agent))
        .route("/agents/resume", post(admin::resume_agent))
        .route("/agents/remove", post(admin::remove_agent))
        .route("/audit", get(admin::audit))
        .route("/p/{*place}", any(move |request| place::within(places.clone(), request)))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(web.clone(), enter::enter))
        .with_state(web);
    pages.merge(assets::routes())
}

/// Everything of a project; its name is one part of the path here ([`place`]).
fn places(web: Arc<Web>) -> Router {
    Router::new()
        .route("/p/{project}", get(project::page))
        .route("/p/{project}/live", get(live::of_project))
        .route("/p/{project}/deliveries", get(project::deliveries))
        .route("/p/{project}/secrets", get(secrets::page).post(secrets::put))
        .route("/p/{project}/secrets/remove", post(secrets::remove))
        .route("/p/{project}/settings", get(settings::page).post(settings::save))
        .route("/p/{project}/settings/remove", post(settings::remove))
        .route("/p/{project}/trigger", get(trigger::page).post(trigger::run))
        .route("/p/{project}/runs/{number}", get(run::page))
        .route("/p/{project}/runs/{number}/live", get(live::of_run))
        .route("/p/{project}/runs/{number}/cancel", post(run::cancel))
        .route("/p/{project}/runs/{number}/again", post(run::again))
        .route("/p/{project}/runs/{number}/release", post(run::release))
        .route("/p/{project}/runs/{number}/steps/{node}", get(step::page))
        .route("/p/{project}/runs/{number}/steps/{node}/answer", post(run::answer))
        .route("/p/{project}/runs/{number}/steps/{node}/log", get(step::download))
        .route("/p/{project}/runs/{number}/steps/{node}/lines", get(step::lines))
        .route("/p/{project}/runs/{number}/steps/{node}/follow", get(step::follow))
        .fallback(place::nothing)
        .with_state(web)
}
