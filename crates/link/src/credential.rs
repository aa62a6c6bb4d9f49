//! Who we are to the server: a credential that was given, or was got for a single-use token and is kept.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use proto::{AgentsClient, Registration};
use serde::{Deserialize, Serialize};

use crate::config::Config;

/// A file of one line.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What is shown to the server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credential {
    /// Whose server it is for: it is shown to no other.
    server: String,
    /// The name that the server gave.
    pub(crate) agent: String,
    /// The bearer token.
    pub(crate) secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({} at {})", self.agent, self.server)
    }
}

/// The credential that was given or is kept.
pub(crate) fn known(config: &Config) -> Option<Credential> {
    if let Some(secret) = &config.credential {
        let (server, agent) = (config.server.clone(), config.name.clone());
        return Some(Credential { server, agent, secret: secret.clone() });
    }
    let kept = read(&path(&config.execution.state_dir))?;
    (kept.server == config.server).then_some(kept)
}

/// Changes the token into a credential, and keeps it.
///
/// # Errors
/// The server does not answer or does not take the token.
pub(crate) async fn register(
    config: &Config,
    token: &str,
    labels: Vec<String>,
    client: &mut AgentsClient,
) -> Result<Credential, tonic::Status> {
    let question = Registration { token: token.to_string(), name: config.name.clone(), labels };
    let answer = client.register(question).await?;
    let credential = Credential { server: config.server.clone(), agent: answer.agent, secret: answer.credential };
    if let Err(error) = keep(&config.execution.state_dir, &credential) {
        // It is good for this process; the next one needs a new token.
        tracing::error!("the credential was not kept in {}: {error}", config.execution.state_dir.display());
    }
    Ok(credential)
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("credential")
}

fn read(path: &Path) -> Option<Credential> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn keep(state_dir: &Path, credential: &Credential) -> std::io::Result<()> {
    let draft = state_dir.join("credential.new");
    let _ = std::fs::remove_file(&draft);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(credential)?)?;
    file.sync_all()?;
    std::fs::rename(&draft, path(state_dir))?;
    std::fs::File::open(state_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_credential_is_private_and_does_not_show_itself() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let secret = "hunter2".to_string();
        let credential = Credential { server: "http://ci".into(), agent: "a1".into(), secret };
        keep(dir.path(), &credential).expect("kept");
        assert_eq!(read(&path(dir.path())), Some(credential.clone()));
        let mode = std::fs::metadata(path(dir.path())).expect("file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
