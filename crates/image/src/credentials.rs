//! Who we are to a registry: credential files of the usual form, and the helper programs that they name.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::error::malformed;
use crate::{ImageError, Name};

/// A credential file, and what a helper prints.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long a helper may take: some ask a cloud.
const HELPER_TIME_MAX: Duration = Duration::from_secs(60);
/// The key under which other tools keep what is for the default registry.
const REGISTRY_DEFAULT_KEY: &str = "https://index.docker.io/v1/";

/// Where credentials are looked for.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    files: Vec<PathBuf>,
}

/// What we tell a registry about us.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    /// What a login left instead of a password; it buys tokens.
    Identity(String),
}

/// Never shows a secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Anonymous => "Anonymous",
            Credential::Password { .. } => "Password",
            Credential::Identity(_) => "Identity",
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase", default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Helped {
    #[serde(default)]
    username: String,
    secret: String,
}

impl Credentials {
    /// Nobody anywhere.
    pub fn none() -> Credentials {
        Credentials::default()
    }
    /// These files, the first one that knows a registry wins.
    pub fn in_files(files: Vec<PathBuf>) -> Credentials {
        Credentials { files }
    }
    /// Where other tools keep them: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`,
    /// and `$XDG_RUNTIME_DIR/containers/auth.json`. `variable` reads the environment.
    pub fn usual(variable: impl Fn(&str) -> Option<OsString>) -> Credentials {
        let folder = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker = folder("DOCKER_CONFIG").or_else(|| Some(folder("HOME")?.join(".docker")));
        let files = [
            folder("REGISTRY_AUTH_FILE"),
            docker.map(|docker| docker.join("config.json")),
            folder("XDG_RUNTIME_DIR").map(|runtime| runtime.join("containers/auth.json")),
        ];
        Credentials { files: files.into_iter().flatten().collect() }
    }

    /// What is known for an image's registry.
    pub(crate) fn of(&self, name: &Name) -> Result<Credential, ImageError> {
        for path in &self.files {
            let file = match read(path)? {
                Some(file) => file,
                None => continue,
            };
            if let Some(credential) = in_file(&file, name, path)? {
                return Ok(credential);
            }
        }
        Ok(Credential::Anonymous)
    }
}

fn read(path: &Path) -> Result<Option<File>, ImageError> {
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(crate::error::io_error("read credentials in", path)(error)),
    }
    // The parser's message may quote what it read, so only the place is told.
    let wrong = |error: serde_json::Error| {
        let why = format!("there is a mistake in line {}, column {}", error.line(), error.column());
        malformed(format!("the credential file {}", path.display()), why)
    };
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

fn in_file(file: &File, name: &Name, path: &Path) -> Result<Option<Credential>, ImageError> {
    let helper = file.cred_helpers.iter().find(|(key, _)| bare(key) == name.registry).map(|(_, helper)| helper);
    if let Some(helper) = helper {
        return ask(helper, name);
    }
    if let Some(entry) = best(&file.auths, name) {
        let credential = from_entry(entry).ok_or_else(|| {
            malformed(
                format!("the credential file {}", path.display()),
                format!("the entry of {} is unreadable", name.registry),
            )
        })?;
        if credential != Credential::Anonymous {
            return Ok(Some(credential));
        }
    }
    file.creds_store.as_ref().map_or(Ok(None), |helper| ask(helper, name))
}

/// The longest key that the image's name begins with: some files have one for each repository.
fn best<'a>(auths: &'a BTreeMap<String, Entry>, name: &Name) -> Option<&'a Entry> {
    let full = format!("{}/{}/", name.registry, name.repository);
    let fits = |key: &str| {
        let key = bare(key);
        full.strip_prefix(key).is_some_and(|rest| rest.starts_with('/')).then_some(key.len())
    };
    auths.iter().filter_map(|(key, entry)| Some((fits(key)?, entry))).max_by_key(|(length, _)| *length).map(|(_, e)| e)
}

/// Keys are hosts, hosts with a path, or addresses.
fn bare(key: &str) -> &str {
    if key == REGISTRY_DEFAULT_KEY || key == "index.docker.io" {
        return "docker.io";
    }
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key)
}

fn from_entry(entry: &Entry) -> Option<Credential> {
    if let Some(token) = entry.identitytoken.as_ref().filter(|token| !token.is_empty()) {
        return Some(Credential::Identity(token.clone()));
    }
    if let (Some(user), Some(password)) = (&entry.username, &entry.password) {
        return Some(Credential::Password { user: user.clone(), password: password.clone() });
    }
    let Some(auth) = entry.auth.as_ref().filter(|auth| !auth.is_empty()) else { return Some(Credential::Anonymous) };
    let decoded = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(Credential::Password { user: user.into(), password: password.trim_end_matches('\0').into() })
}

/// A helper says who we are when it is told the registry on standard input.
fn ask(helper: &str, name: &Name) -> Result<Option<Credential>, ImageError> {
    let program = format!("docker-credential-{helper}");
    let wrong = |why: String| malformed(format!("what {program} says about {}", name.registry), why);
    if helper.is_empty() || !helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(wrong("the name of the helper is not one".into()));
    }
    let server = if name.registry == "docker.io" { REGISTRY_DEFAULT_KEY } else { &name.registry };
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| wrong(format!("it cannot be started: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that does not listen says nothing either.
        let _ = stdin.write_all(server.as_bytes());
    }
    let stdout = child.stdout.take();
    // Read beside, because only so the wait has an end.
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            let _ = stdout.take(FILE_BYTES_MAX).read_to_end(&mut said);
        }
        said
    });
    let deadline = Instant::now() + HELPER_TIME_MAX;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(wrong("it did not answer within a minute".into()));
            }
        }
    };
    let said = reader.join().unwrap_or_default();
    if !status.success() {
        // So helpers say that they know nothing; what is wrong with them shows when the registry refuses.
        return Ok(None);
    }
    let helped: Helped = serde_json::from_slice(&said).map_err(|_| wrong("it is not JSON with a Secret".into()))?;
    Ok(Some(match helped.username.as_str() {
        "<token>" => Credential::Identity(helped.secret),
        user => Credential::Password { user: user.into(), password: helped.secret },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reference;

    fn name(text: &str) -> Name {
        Reference::parse(text).expect("reference").name().expect("name").clone()
    }

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.into(), password: password.into() }
    }

    fn with(text: &str, of: &str) -> Result<Credential, ImageError> {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).expect("write");
        Credentials::in_files(vec![dir.path().join("absent"), path]).of(&name(of))
    }

    #[test]
    fn the_usual_files_are_read_in_their_usual_forms() {
        let auth = STANDARD.encode("me:pass:word");
        let file = format!(
            r#"{{"auths":{{"r.example.com":{{"auth":"{auth}"}},"https://index.docker.io/v1/":{{"auth":"{auth}"}},
                "r.example.com/team/app":{{"username":"app","password":"p"}},"https://t.example.com/v2/":{{"identitytoken":"T"}},
                "empty.example.com":{{}}}}}}"#
        );
        assert_eq!(with(&file, "r.example.com/x").expect("host"), password("me", "pass:word"));
        assert_eq!(with(&file, "r.example.com/team/app/x").expect("path"), password("app", "p"));
        assert_eq!(with(&file, "r.example.com/team/apple").expect("not the path"), password("me", "pass:word"));
        assert_eq!(with(&file, "debian").expect("default"), password("me", "pass:word"));
        assert_eq!(with(&file, "t.example.com/x").expect("token"), Credential::Identity("T".into()));
        assert_eq!(with(&file, "empty.example.com/x").expect("empty"), Credential::Anonymous);
        assert_eq!(with(&file, "other.example.com/x").expect("other"), Credential::Anonymous);
    }

    #[test]
    fn a_malformed_file_is_told_without_what_is_in_it() {
        let error = with(r#"{"auths":{"r.example.com":{"auth":"c2VjcmV0"#, "r.example.com/x").expect_err("torn");
        assert!(error.to_string().contains("there is a mistake in line 1") && !error.to_string().contains("c2Vj"));
        let error = with(r#"{"auths":{"r.example.com":{"auth":"%%%"}}}"#, "r.example.com/x").expect_err("no base64");
        assert!(error.to_string().contains("the entry of r.example.com is unreadable"), "{error}");
        assert!(!format!("{:?}", password("u", "secret")).contains("secret"));
    }

    #[test]
    fn a_helper_with_a_path_in_its_name_is_not_started() {
        let error = with(r#"{"credsStore":"../../bin/sh"}"#, "r.example.com/x").expect_err("refused").to_string();
        assert!(error.contains("the name of the helper is not one"), "{error}");
    }
}
