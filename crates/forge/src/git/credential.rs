//! What opens a repository: a token, user and password, or a private key of ssh. It is in no argument, no environment and
//! no message; a password never touches a disk, a key only a file that is removed after use.

use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, Mode};

use super::{Address, GitError};

/// How often git may ask for one: once, and again for a redirection within the host.
const COPIES: usize = 4;
/// Longest credential in bytes: a key of 16 384 bits has 13 KB. All copies must fit in a pipe (64 KiB).
const CREDENTIAL_BYTES_MAX: usize = 14 << 10;
/// Hands over one copy. Only what is built into the shell, so that no process list shows the secret. The arguments that
/// git adds are the function's.
const HELPER: &str = "!f() { test \"$1\" = get || exit 0; { read -r user; read -r word; } <\"$PACE_GIT_CREDENTIAL\"; printf '%s\\n%s\\n' \"$user\" \"$word\"; }; f";

static NEXT: AtomicU64 = AtomicU64::new(0);

/// What opens a repository.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// For HTTP.
    Password {
        /// The user; forges take any for a token.
        user: String,
        /// The password or token.
        word: String,
    },
    /// A private key of ssh, in PEM or OpenSSH's form.
    Key(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Password { .. } => "Credential::Password",
            Credential::Key(_) => "Credential::Key",
        })
    }
}

impl Credential {
    /// Reads what people enter: a private key, `user:password`, or a token. `None` for an empty text.
    ///
    /// # Errors
    /// It is too long, or has lines and is no key.
    pub fn parse(text: &str) -> Result<Option<Credential>, GitError> {
        let text = text.trim();
        let refuse = |why: &str| Err(GitError::Failed { act: "use the credential".into(), said: why.into() });
        if text.is_empty() {
            return Ok(None);
        }
        if text.len() > CREDENTIAL_BYTES_MAX {
            return refuse("it is longer than any token, password or key");
        }
        if text.starts_with("-----BEGIN ") {
            return Ok(Some(Credential::Key(format!("{text}\n"))));
        }
        if text.chars().any(char::is_control) {
            return refuse("it has several lines, and is no private key");
        }
        // A user's name has no spaces and slashes; some tokens hold colons, which this leaves alone when they are long.
        let pair =
            text.split_once(':').filter(|(user, word)| user.len() <= 64 && !word.is_empty() && !user.contains('/'));
        let (user, word) = pair.unwrap_or(("x-access-token", text));
        Ok(Some(Credential::Password { user: user.into(), word: word.into() }))
    }

    /// What must not be shown.
    pub fn secret(&self) -> &str {
        match self {
            Credential::Password { word, .. } => word,
            Credential::Key(key) => key,
        }
    }
}

/// A credential that is lent to one command; taken back when dropped.
#[derive(Debug, Default)]
pub(super) struct Lent {
    files: Vec<PathBuf>,
    // Both ends of the pipe: while it is open, what was written into it stays.
    _pipe: Option<File>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        for file in &self.files {
            // It is gone, or the folder is; both are fine.
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Prepares a command for an address: the credential for its host and for no other, and ssh that asks nobody.
pub(super) fn lend(
    command: &mut Command,
    home: &Path,
    address: &Address,
    credential: Option<&Credential>,
) -> Result<Lent, GitError> {
    // Whatever else is configured is forgotten.
    command.args(["-c", "credential.helper="]);
    match (address, credential) {
        (Address::Http { scheme, host, user, .. }, Some(Credential::Password { user: ours, word })) => {
            let user = if user.is_empty() { ours } else { user };
            let (path, pipe) = filled_pipe(home, &format!("username={user}\npassword={word}\n"))?;
            command.arg("-c").arg(format!("credential.{scheme}://{host}.helper={HELPER}"));
            command.env("PACE_GIT_CREDENTIAL", &path);
            Ok(Lent { files: vec![path], _pipe: Some(pipe) })
        }
        (Address::Ssh { .. }, credential) => {
            let mut ssh = format!(
                "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=20 \
                 -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -o UserKnownHostsFile={}",
                quoted(&home.join("known_hosts"))
            );
            let mut lent = Lent::default();
            if let Some(Credential::Key(key)) = credential {
                let path = private_file(key)?;
                ssh.push_str(&format!(" -F none -o IdentitiesOnly=yes -o IdentityAgent=none -i {}", quoted(&path)));
                lent.files.push(path);
            }
            command.env("GIT_SSH_COMMAND", ssh);
            Ok(lent)
        }
        _ => Ok(Lent::default()),
    }
}

/// A pipe with a name that only we may open, with the text in it several times.
fn filled_pipe(home: &Path, text: &str) -> Result<(PathBuf, File), GitError> {
    let path = home.join(unique());
    let failed = |why: String| GitError::Folder { path: path.display().to_string(), why };
    rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).map_err(|error| failed(error.to_string()))?;
    // Opened for both, it waits for nobody.
    let opened = File::options().read(true).write(true).open(&path);
    let filled = opened.and_then(|mut pipe| pipe.write_all(text.repeat(COPIES).as_bytes()).map(|()| pipe));
    match filled {
        Ok(pipe) => Ok((path, pipe)),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(failed(error.to_string()))
        }
    }
}

/// A file that only we may read; in memory where there is such a place.
fn private_file(text: &str) -> Result<PathBuf, GitError> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    let path = folder.join(unique());
    let failed = |error: std::io::Error| GitError::Folder { path: path.display().to_string(), why: error.to_string() };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(path)
}

fn unique() -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!(".pace-{}-{nanos:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// For the shell that reads `GIT_SSH_COMMAND`.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Program;

    #[test]
    fn what_people_enter_is_understood() {
        let read = |text: &str| Credential::parse(text).unwrap();
        let password = |user: &str, word: &str| Some(Credential::Password { user: user.into(), word: word.into() });
        assert_eq!(read("ghp_abc"), password("x-access-token", "ghp_abc"));
        assert_eq!(read("anna:s3:cret"), password("anna", "s3:cret"));
        assert_eq!(read("  "), None);
        assert!(matches!(read("-----BEGIN OPENSSH PRIVATE KEY-----\nx"), Some(Credential::Key(_))));
        assert!(Credential::parse("a\npassword=b").is_err());
        assert!(!format!("{:?}", read("anna:s3cret")).contains("s3cret"));
    }

    /// What `git credential fill` answers for a URL, with a credential lent for one address.
    fn filled(url: &str, address: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let program = Program::new(dir.path()).unwrap();
        let mut command = program.command();
        let credential = Credential::parse("anna:s3cret").unwrap();
        let address = Address::parse(address).unwrap();
        let lent = lend(&mut command, dir.path(), &address, credential.as_ref()).unwrap();
        let shown = format!("{command:?}");
        assert!(!shown.contains("s3cret"), "in neither argument nor environment: {shown}");
        command.args(["credential", "fill"]).stdin(std::process::Stdio::piped());
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let asked = child.stdin.take().unwrap().write_all(format!("url={url}\n\n").as_bytes());
        asked.unwrap();
        let answer = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        drop(lent);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["gitconfig"], "nothing stays");
        answer
    }

    #[test]
    fn a_credential_goes_to_its_host_and_to_no_other() {
        let own = filled("https://host.example/a/b.git", "https://host.example/a/b.git");
        assert!(own.contains("username=anna\npassword=s3cret\n"), "{own}");
        for other in ["https://evil.example/a/b.git", "http://host.example/a/b.git"] {
            let seen = filled(other, "https://host.example/a/b.git");
            assert!(!seen.contains("s3cret"), "{other}: {seen}");
        }
    }
}
