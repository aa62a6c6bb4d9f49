//! Nx's self-hosted remote cache: `/v1/cache/{hash}`.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::{Method, StatusCode};

use super::call::Call;
use super::kept::{self, Name, Notes};
use super::refusal::Refusal;

const KIND: &str = "nx";

/// Answers. What is there is never overwritten: that is the protocol's own rule against poisoning.
pub(crate) async fn answer(call: &Call, instance: &[&str], hash: &str, body: Body) -> Result<Response, Refusal> {
    let access = call.admit(instance)?;
    let name = Name { kind: KIND, name: hash };
    let found = kept::look_up(&call.service, &access, &name).await;
    match call.method {
        Method::GET | Method::HEAD => {
            let found = found.ok_or_else(|| Refusal::missing("the record was not found"))?;
            call.send(found.content, "application/octet-stream").await
        }
        Method::PUT => {
            let is_ours = access.may_write_entries()?;
            if found.is_some() {
                call.drain(body).await?;
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "there is a record of this hash; it is not overwritten",
                ));
            }
            match is_ours {
                false => call.drain(body).await?,
                true => {
                    let stored = call.receive_and_keep(body).await?;
                    kept::keep(&call.service, &access, &name, &Notes::default(), stored).await?;
                }
            }
            Ok(StatusCode::OK.into_response())
        }
        _ => Err(Refusal::method("GET, HEAD and PUT")),
    }
}
