//! Logs as text.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream::unfold;
use http::{HeaderValue, header};
use model::{RunId, Timestamp};
use store::LogId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use view::json::iso;

use super::extract::{Asked, At, Caller};
use super::shape::LogPartAsked;
use crate::Shared;
use crate::authentication::off;
use crate::problem::Problem;
use crate::verbs;

/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

pub(super) fn routes() -> OpenApiRouter<Arc<Shared>> {
    OpenApiRouter::new().routes(routes!(read_log))
}

/// The log of a step as it is now: text, colours kept. `x-log-next` is the `offset` to go on with, `x-log-length` its length
#[utoipa::path(get, path = "/runs/{run}/steps/{step}/log", tag = "logs", params(LogPartAsked),
    responses((status = 200, body = String, content_type = "text/plain")))]
async fn read_log(
    State(shared): State<Arc<Shared>>,
    Caller(asker): Caller,
    At((run, step)): At<(String, String)>,
    Asked(part): Asked<LogPartAsked>,
) -> Result<Response, Problem> {
    let id = verbs::log_id(&shared, &asker.who, &RunId::new(run), &step, part.attempt).await?;
    // What is there now is what is answered: a log that grows has an end, too.
    let length = verbs::log(&shared, &asker.who, &id, u64::MAX >> 1, 1).await?.length;
    let wanted = if part.max == 0 { u64::MAX } else { part.max };
    let end = part.offset.saturating_add(wanted).min(length);
    let name = format!("{}-{}-{}.log", id.run, id.node.0, id.attempt);
    let body = body(shared, id, part.offset.min(end), end, part.timestamps);
    let number = |number: u64| HeaderValue::from(number);
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-log-length", number(length));
    headers.insert("x-log-next", number(end));
    if part.download {
        headers.insert(header::CONTENT_DISPOSITION, super::attachment(&name));
    }
    Ok(response)
}

struct Reading {
    shared: Arc<Shared>,
    id: LogId,
    offset: u64,
    end: u64,
    timestamps: bool,
    /// Begin of a line whose end was not read yet.
    rest: Vec<u8>,
}

fn body(shared: Arc<Shared>, id: LogId, offset: u64, end: u64, timestamps: bool) -> Body {
    let reading = Reading { shared, id, offset, end, timestamps, rest: Vec::new() };
    Body::from_stream(unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        match reading.piece().await {
            Ok(piece) if piece.is_empty() && reading.offset >= reading.end => None,
            Ok(piece) => Some((Ok(Bytes::from(piece)), Some(reading))),
            Err(problem) => Some((Err(std::io::Error::other(problem.detail)), None)),
        }
    }))
}

impl Reading {
    async fn piece(&mut self) -> Result<Vec<u8>, Problem> {
        let max = usize::try_from(self.end - self.offset).unwrap_or(PIECE).min(PIECE);
        if max == 0 {
            return Ok(shown(&std::mem::take(&mut self.rest), self.timestamps));
        }
        let (shared, id, offset) = (self.shared.clone(), self.id.clone(), self.offset);
        let part = off(move || Ok(shared.store.log(&id, offset, max)?)).await?;
        if part.bytes.is_empty() {
            self.end = self.offset;
        }
        self.offset += part.bytes.len() as u64;
        self.rest.extend_from_slice(&part.bytes);
        let whole = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        Ok(shown(&lines, self.timestamps))
    }
}

/// Lines `<unix milliseconds> <text>` for people: with the time written out, or without.
fn shown(lines: &[u8], timestamps: bool) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len());
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let space = line.iter().take(24).position(|byte| *byte == b' ');
        let stamp = space.and_then(|at| std::str::from_utf8(&line[..at]).ok()?.parse::<u64>().ok());
        match (stamp, space) {
            (Some(stamp), Some(at)) => {
                if timestamps {
                    text.extend_from_slice(iso(Timestamp(stamp.saturating_mul(1000))).as_bytes());
                    text.push(b' ');
                }
                text.extend_from_slice(&line[at + 1..]);
            }
            _ => text.extend_from_slice(line),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_taken_off_or_written_out_and_nothing_else_is_touched() {
        let lines = b"0 a b\n1500 \nno stamp\n12x c\n99 \xff";
        assert_eq!(shown(lines, false), b"a b\n\nno stamp\n12x c\n\xff");
        assert_eq!(shown(b"1500 a\n", true), b"1970-01-01T00:00:01.500000Z a\n");
    }
}
