//! Starting git: with its own environment, in its own process group, for a bounded time, with bounded answers.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::GitError;

/// Length of an answer in bytes: a list of a million refs is some 70 MB.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// What git says when it fails, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4096;
/// Seconds that a server may send next to nothing before git gives up.
pub const SILENT_MAX: u64 = 60;
/// Variables of the server that concern the way to the network, and nothing else.
const PASSED: [&str; 12] = [
    "PATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "GIT_SSL_CAINFO",
    "SSH_AUTH_SOCK",
    "TZ",
];

/// The `git` program as the server starts it.
#[derive(Clone, Debug)]
pub struct Program {
    home: PathBuf,
}

impl Program {
    /// Makes `home`, the folder that git takes for the user's, with a configuration that says nothing but which folders
    /// may belong to others: those that an administrator named.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn new(home: &Path) -> Result<Program, GitError> {
        let failed =
            |error: std::io::Error| GitError::Folder { path: home.display().to_string(), why: error.to_string() };
        std::fs::create_dir_all(home).map_err(failed)?;
        let config = home.join("gitconfig");
        // Written once: a server must not change it under a git that is reading it.
        if !config.exists() {
            let fresh = home.join(format!("gitconfig.{}", std::process::id()));
            std::fs::write(&fresh, "[safe]\n\tdirectory = *\n[init]\n\tdefaultBranch = main\n").map_err(failed)?;
            std::fs::rename(&fresh, &config).map_err(failed)?;
        }
        Ok(Program { home: home.to_path_buf() })
    }

    /// Its home.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// A git command, not yet started. It reads no configuration but the repository's, asks nobody, and takes no way but
    /// HTTP, ssh and files. Public for those who serve mirrors: they add `upload-pack` and its arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", &self.home)
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.home.join("gitconfig"))
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("GIT_ALLOW_PROTOCOL", "http:https:ssh:file")
            .env("GIT_HTTP_LOW_SPEED_LIMIT", "100")
            .env("GIT_HTTP_LOW_SPEED_TIME", SILENT_MAX.to_string())
            .process_group(0)
            .stdin(Stdio::null());
        command
    }
}

/// Runs a command to its end. `act` says what is tried, `secret` is taken out of whatever git says.
pub(super) fn run(mut command: Command, act: &str, limit: Duration, secret: &str) -> Result<Vec<u8>, GitError> {
    let deadline = Instant::now() + limit;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Group(command.spawn().map_err(|error| GitError::Start(error.to_string()))?);
    let answer = reader(child.0.stdout.take(), ANSWER_BYTES_MAX);
    let complaint = reader(child.0.stderr.take(), COMPLAINT_BYTES_MAX);
    let timed_out = || GitError::TimedOut { act: act.to_owned(), seconds: limit.as_secs() };
    let heard = |from: mpsc::Receiver<(Vec<u8>, bool)>| {
        from.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(|_| timed_out())
    };
    let (answer, whole) = heard(answer)?;
    let (complaint, _) = heard(complaint)?;
    // Both ends are closed, so it has ended or is about to.
    let status = child.0.wait().map_err(|error| GitError::Start(error.to_string()))?;
    if !status.success() {
        let said = said(&complaint, secret);
        let said = if said.is_empty() { format!("git ended with {status}") } else { said };
        return Err(GitError::Failed { act: act.to_owned(), said });
    }
    if !whole {
        let (what, bytes) = (format!("the answer of git to `{act}`"), ANSWER_BYTES_MAX + 1);
        return Err(GitError::TooLarge { what, bytes, bytes_max: ANSWER_BYTES_MAX });
    }
    Ok(answer)
}

/// Reads a stream to its end and keeps its beginning; whether that is all of it.
fn reader(stream: Option<impl Read + Send + 'static>, max: u64) -> mpsc::Receiver<(Vec<u8>, bool)> {
    let (tell, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut whole = true;
        if let Some(mut stream) = stream {
            // What cannot be read is as good as an end.
            let _ = stream.by_ref().take(max).read_to_end(&mut kept);
            whole = std::io::copy(&mut stream, &mut std::io::sink()).is_ok_and(|more| more == 0);
        }
        // Nobody may be waiting any more.
        let _ = tell.send((kept, whole));
    });
    heard
}

/// What git said, without secrets and control characters.
fn said(bytes: &[u8], secret: &str) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = if secret.is_empty() { text.into_owned() } else { text.replace(secret, "***") };
    text.chars().filter(|c| *c == '\n' || !c.is_control()).collect::<String>().trim().to_owned()
}

/// A process and all that it started; ended when dropped.
#[derive(Debug)]
pub(super) struct Group(pub(super) Child);

impl Drop for Group {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(pid) = i32::try_from(self.0.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended by itself by now.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> (tempfile::TempDir, Program) {
        let dir = tempfile::tempdir().unwrap();
        let program = Program::new(dir.path()).unwrap();
        (dir, program)
    }

    #[test]
    fn what_hangs_is_ended_with_all_that_it_started() {
        let (_dir, program) = program();
        let mut command = program.command();
        command.args(["-c", "alias.hang=!sleep 1000 & sleep 1000", "hang"]);
        let before = Instant::now();
        let seen = run(command, "hang", Duration::from_millis(200), "");
        assert_eq!(seen, Err(GitError::TimedOut { act: "hang".into(), seconds: 0 }));
        assert!(before.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_secret_is_taken_out_of_what_git_says() {
        let (_dir, program) = program();
        let mut command = program.command();
        command.args(["-c", "alias.tell=!echo the key is s3cret >&2; exit 1", "tell"]);
        let seen = run(command, "tell", Duration::from_secs(60), "s3cret").unwrap_err();
        assert_eq!(seen.to_string(), "cannot tell: the key is ***");
    }

    #[test]
    fn programs_are_no_way_to_a_repository() {
        let (dir, program) = program();
        let mut command = program.command();
        command.args(["ls-remote", "ext::touch escaped"]).current_dir(dir.path());
        assert!(run(command, "list", Duration::from_secs(60), "").unwrap_err().to_string().contains("not allowed"));
        assert!(!dir.path().join("escaped").exists());
    }
}
