//! One long-lived `git cat-file --batch`: objects by name, without a process for each.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};

use super::command::Group;
use super::{GitError, Program};

/// Length of git's line about an object, in bytes: the question comes back in it.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A git that answers questions about objects.
#[derive(Debug)]
pub(super) struct Cat {
    _group: Group,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What git found.
#[derive(Debug)]
pub(super) struct Object {
    /// Its id.
    pub(super) id: String,
    /// `blob`, `tree`, `commit`, `tag`.
    pub(super) kind: String,
    /// Its content.
    pub(super) bytes: Vec<u8>,
}

/// Why a question has no answer.
pub(super) enum Trouble {
    /// The object is larger than asked for; git must be started anew.
    TooLarge(u64),
    /// Git is gone or talks nonsense; it must be started anew.
    Broken(String),
}

impl Cat {
    pub(super) fn start(program: &Program, repository: &Path) -> Result<Cat, GitError> {
        let mut command = program.command();
        command.arg("--git-dir").arg(repository).args(["cat-file", "--batch"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut group = Group(command.spawn().map_err(|error| GitError::Start(error.to_string()))?);
        match (group.0.stdin.take(), group.0.stdout.take()) {
            (Some(questions), Some(answers)) => {
                Ok(Cat { _group: group, questions, answers: BufReader::with_capacity(16 << 10, answers) })
            }
            _ => Err(GitError::Start("it has no pipes".into())),
        }
    }

    /// Asks for an object; `what` has no line end. `None`: there is no such thing, or it is ambiguous.
    pub(super) fn ask(&mut self, what: &str, bytes_max: u64) -> Result<Option<Object>, Trouble> {
        let broken = |error: std::io::Error| Trouble::Broken(error.to_string());
        self.questions.write_all(format!("{what}\n").as_bytes()).map_err(broken)?;
        let mut line = String::new();
        self.answers.by_ref().take(LINE_BYTES_MAX).read_line(&mut line).map_err(broken)?;
        let Some(line) = line.strip_suffix('\n') else { return Err(Trouble::Broken("git cat-file ended".into())) };
        if line.ends_with(" missing") || line.ends_with(" ambiguous") {
            return Ok(None);
        }
        let words: Vec<&str> = line.split(' ').collect();
        let [id, kind, size] = words[..] else { return Err(Trouble::Broken(format!("git said `{line}`"))) };
        let size: u64 = size.parse().map_err(|_| Trouble::Broken(format!("git said `{line}`")))?;
        if size > bytes_max {
            return Err(Trouble::TooLarge(size));
        }
        let mut bytes = Vec::new();
        self.answers.by_ref().take(size + 1).read_to_end(&mut bytes).map_err(broken)?;
        if bytes.pop() != Some(b'\n') || bytes.len() as u64 != size {
            return Err(Trouble::Broken("git cat-file ended in the middle of an object".into()));
        }
        Ok(Some(Object { id: id.to_owned(), kind: kind.to_owned(), bytes }))
    }
}
