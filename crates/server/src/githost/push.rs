//! A push to a repository of the server's own. What it moved is a delivery like any forge's, durable before the client hears
//! that its push was taken; a note on the disk bridges the moment between git and the store.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use axum::body::{Body, Bytes};
use axum::response::Response;
use forge::{Kind, Mirror};
use futures_util::StreamExt as _;
use http::HeaderMap;
use store::{Batch, Delivery};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{House, SILENT_MAX, Service, broken, enter, git, git_response, permit};
use crate::Shared;
use crate::authentication::off;
use crate::clock::now;
use crate::desk::Refusal;
use crate::hooks;
use crate::problem::Problem;
use crate::records::Project;

/// The list of refs that a push moves, in bytes: a few thousand.
const COMMANDS_BYTES_MAX: usize = 1 << 20;
/// What git says at the end of a push, in bytes.
const REPORT_BYTES_MAX: u64 = 16 << 20;
/// Folder of the notes, in the repository.
const NOTES: &str = "pace-pushes";
/// Projects that are read at a time.
const PAGE: usize = 500;

/// A push.
pub(super) async fn receive(house: &House, name: &str, headers: &HeaderMap, body: Body) -> Result<Response, Problem> {
    let (project, mirror) = enter(house, name, Service::Receive, headers).await?;
    let permit = permit(house).await?;
    let mut pieces = body.into_data_stream();
    let (first, moves) = commands(&mut pieces).await?;
    let note = note(&mirror, &moves).await?;
    let mut command = git(&mirror, headers);
    command.args(["receive-pack", "--stateless-rpc"]).arg(mirror.path());
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| broken(&error))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(broken("git has no pipes"));
    };
    let feeding = async move {
        stdin.write_all(&first).await?;
        while let Some(piece) = tokio::time::timeout(SILENT_MAX, pieces.next()).await.ok().flatten() {
            stdin.write_all(&piece.map_err(std::io::Error::other)?).await?;
        }
        stdin.shutdown().await
    };
    let mut report = Vec::new();
    let mut stdout = stdout.take(REPORT_BYTES_MAX);
    // Git that wants to hear no more has said why in its report.
    let (_, read) = tokio::join!(feeding, stdout.read_to_end(&mut report));
    read.map_err(|error| broken(&error))?;
    child.wait().await.map_err(|error| broken(&error))?;
    drop(permit);
    announce(house, &project, &mirror, &note).await?;
    Ok(git_response(Service::Receive, "result", Body::from(report)))
}

/// Reads the beginning of the request: lines `old new ref`, up to the empty one. What was read, and the lines.
async fn commands(
    pieces: &mut (impl futures_util::Stream<Item = Result<Bytes, axum::Error>> + Unpin),
) -> Result<(Vec<u8>, Vec<String>), Problem> {
    let mut read = Vec::new();
    loop {
        match moves(&read) {
            Ok(Some(moves)) => return Ok((read, moves)),
            Ok(None) if read.len() <= COMMANDS_BYTES_MAX => {}
            _ => return Err(Problem::invalid("this is no push of git, or moves too much at once")),
        }
        let piece = tokio::time::timeout(SILENT_MAX, pieces.next()).await;
        match piece {
            Ok(Some(Ok(piece))) => read.extend_from_slice(&piece),
            _ => return Err(Problem::invalid("the push broke off")),
        }
    }
}

/// The lines, if all of them are there. An error is something that git does not send.
fn moves(mut bytes: &[u8]) -> Result<Option<Vec<String>>, ()> {
    let mut moves = Vec::new();
    loop {
        let Some(digits) = bytes.get(..4) else { return Ok(None) };
        let digits = std::str::from_utf8(digits).map_err(|_| ())?;
        let length = usize::from_str_radix(digits, 16).map_err(|_| ())?;
        match length {
            0 => return Ok(Some(moves)),
            1..4 => return Err(()),
            _ => {}
        }
        let Some(line) = bytes.get(4..length) else { return Ok(None) };
        let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| ())?.trim_end();
        // `shallow …` and certificates are not moves.
        if line.splitn(3, ' ').count() == 3 && line.split(' ').next().is_some_and(forge::git::is_commit) {
            moves.push(line.to_owned());
        }
        bytes = &bytes[length..];
    }
}

/// Writes down what is about to be moved.
async fn note(mirror: &Mirror, moves: &[String]) -> Result<PathBuf, Problem> {
    let (folder, text) = (mirror.path().join(NOTES), moves.join("\n"));
    off(move || {
        let path = folder.join(access::id());
        let written = std::fs::create_dir_all(&folder).and_then(|()| {
            std::fs::write(&path, text)?;
            std::fs::File::open(&path)?.sync_all()?;
            std::fs::File::open(&folder)?.sync_all()
        });
        written.map_err(|error| broken(&format!("{}: {error}", path.display())))?;
        Ok(path)
    })
    .await
}

/// Makes a delivery of what was really moved, and takes the note away.
async fn announce(house: &House, project: &Project, mirror: &Mirror, note: &Path) -> Result<(), Problem> {
    let (shared, project, mirror, path) = (house.shared.clone(), project.clone(), mirror.clone(), note.to_path_buf());
    let delivery = off(move || {
        settle_head(&mirror);
        delivery(&project, &mirror, &path)
    })
    .await?;
    if let Some(delivery) = delivery {
        hooks::append(&shared, delivery).await?;
        shared.deliveries.wake();
    }
    // Left over, it is the same delivery again, which changes nothing.
    let _ = std::fs::remove_file(note);
    Ok(())
}

/// The delivery of a note; `None` when git took none of it.
fn delivery(project: &Project, mirror: &Mirror, note: &Path) -> Result<Option<Delivery>, Problem> {
    let text = std::fs::read_to_string(note).map_err(|error| broken(&error))?;
    let mut done = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(3, ' ');
        let (Some(_), Some(new), Some(name)) = (words.next(), words.next(), words.next()) else { continue };
        if !forge::git::is_ref_name(name) {
            continue;
        }
        let target = mirror.target(name).map_err(Refusal::from)?;
        if target.unwrap_or_else(|| "0".repeat(new.len())) == new {
            done.push(line);
        }
    }
    if done.is_empty() {
        return Ok(None);
    }
    let id = note.file_name().unwrap_or_default().to_string_lossy();
    Ok(Some(Delivery {
        id: format!("{}/{}/{id}", project.name, Kind::Git),
        project: project.id(),
        at: now(),
        source: Kind::Git.word().to_owned(),
        headers: Vec::new(),
        body: done.join("\n").into_bytes(),
    }))
}

/// The first branch that is pushed is the one that is checked out, whatever it is called.
fn settle_head(mirror: &Mirror) {
    let has_head =
        mirror.default_branch().ok().flatten().is_some_and(|branch| mirror.head(&branch).ok().flatten().is_some());
    if let (false, Ok(branches)) = (has_head, mirror.branches())
        && let Some((branch, _)) = branches.first()
        && let Err(error) = mirror.choose_default_branch(branch)
    {
        tracing::warn!("{error}");
    }
}

/// Announces what notes of a former process say.
pub(super) fn recover(shared: &Shared) {
    let mut after = String::new();
    while let Ok(page) = shared.store.records::<Project>("", &after, PAGE) {
        let Some(last) = page.last() else { return };
        after.clone_from(&last.value.name);
        for kept in page.into_iter().filter(|kept| kept.value.repository.is_empty()) {
            if let Err(problem) = recover_one(shared, &kept.value) {
                tracing::warn!(project = kept.value.name, "pushes before the restart: {}", problem.detail);
            }
        }
    }
}

fn recover_one(shared: &Shared, project: &Project) -> Result<(), Problem> {
    let mirror = shared.sources.repository(project)?.mirror;
    let Ok(notes) = std::fs::read_dir(mirror.path().join(NOTES)) else { return Ok(()) };
    for note in notes.flatten() {
        if let Some(delivery) = delivery(project, &mirror, &note.path())? {
            shared.store.append(None, Batch { deliveries: vec![delivery], ..Batch::default() })?;
        }
        let _ = std::fs::remove_file(note.path());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pkt(line: &str) -> String {
        format!("{:04x}{line}", line.len() + 4)
    }

    #[test]
    fn what_a_push_moves_is_read_from_its_beginning() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text = format!(
            "{}{}0000PACK…",
            pkt(&format!("{a} {b} refs/heads/main\0report-status side-band-64k")),
            pkt(&format!("{a} {b} refs/heads/x\n")),
        );
        let expected = vec![format!("{a} {b} refs/heads/main"), format!("{a} {b} refs/heads/x")];
        assert_eq!(moves(text.as_bytes()), Ok(Some(expected)));
        for end in 0..text.find("0000PACK").unwrap() + 4 {
            assert_eq!(moves(&text.as_bytes()[..end]), Ok(None), "{end}");
        }
        assert_eq!(moves(b"zzzz"), Err(()));
        assert_eq!(moves(b"0001"), Err(()));
    }
}
