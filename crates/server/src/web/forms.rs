//! Forms that were sent.

use axum::extract::{Form, FromRequest, Request};

use super::enter::{Failed, Visit};
use crate::problem::Problem;

/// Fields of a form; nothing more than that.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields(Vec<(String, String)>);

/// A form that comes from one of our pages in the session of who sends it.
#[derive(Clone, Debug)]
pub(super) struct Posted {
    /// Who.
    pub(super) visit: Visit,
    /// What.
    pub(super) fields: Fields,
}

/// A form of somebody who has no session yet: a sign-in.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    /// Who.
    pub(super) visit: Visit,
    /// What.
    pub(super) fields: Fields,
}

impl Fields {
    /// A field; empty when it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.trim())
    }

    /// A field as it was typed, with line breaks as Unix has them.
    pub(super) fn exact(&self, name: &str) -> String {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map_or_else(String::new, |(_, value)| value.replace("\r\n", "\n"))
    }

    /// A box that was ticked.
    pub(super) fn ticked(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// All fields whose names begin so, without that.
    pub(super) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<(Visit, Fields), Failed> {
    let visit = request.extensions().get::<Visit>().cloned();
    let visit = visit.ok_or_else(|| Problem::new("defect", "a form came without its visit"))?;
    let form = Form::<Vec<(String, String)>>::from_request(request, state).await;
    let Form(fields) = form.map_err(|refused| match refused.status().as_u16() {
        413 => Problem::new("too-large", "the form is larger than any of ours"),
        _ => Problem::invalid("this is no form of ours"),
    })?;
    Ok((visit, Fields(fields)))
}

impl<S: Send + Sync> FromRequest<S> for Posted {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Posted, Failed> {
        let (visit, fields) = read(request, state).await?;
        if !visit.asker.who.is_known() {
            return Err(access::Denied::Unknown.into());
        }
        match visit.asker.may_change(fields.text("csrf")) {
            true => Ok(Posted { visit, fields }),
            false => {
                Err(Problem::new("denied", "this form is too old, or not one of ours: load its page again").into())
            }
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Unproven {
    type Rejection = Failed;

    async fn from_request(request: Request, state: &S) -> Result<Unproven, Failed> {
        read(request, state).await.map(|(visit, fields)| Unproven { visit, fields })
    }
}
