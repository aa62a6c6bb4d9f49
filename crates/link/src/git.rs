//! Git as it is asked here: nobody's configuration counts, no hooks run, no question waits for an answer.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a commit may take to come.
const FETCH_MAX: Duration = Duration::from_secs(15 * 60);
/// What git says is repeated up to here.
const SAID_BYTES_MAX: usize = 1000;

/// Where commits come from, and who we are there.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// `http(s)://host:port`.
    pub(crate) server: String,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
}

/// Brings a commit without its past into a bare repository. What the repository has already is not sent again.
///
/// # Errors
/// What git says.
pub(crate) fn fetch(
    mirror: &Path,
    origin: &Origin,
    project: &str,
    commit: &str,
    credential: &str,
) -> Result<(), String> {
    let url = format!("{}/git/{project}", origin.server);
    // A name is kept for it, so that the next fetch says what is here.
    let wanted = format!("+{commit}:refs/paceline/last");
    let mut command = git(mirror);
    command.args(["fetch", "--quiet", "--depth=1", "--no-tags", "--no-write-fetch-head", "--end-of-options"]);
    command.arg(&url).arg(&wanted);
    // In the environment, which only this user and root can read, and not among the arguments, which everybody can.
    settings(
        &mut command,
        &[
            ("http.extraHeader", &format!("Authorization: Bearer {credential}")),
            ("http.followRedirects", "false"),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "60"),
            ("gc.autoDetach", "false"),
        ],
    );
    if let Some(ca) = &origin.ca {
        command.env("GIT_SSL_CAINFO", ca);
    }
    if let Some((certificate, key)) = &origin.identity {
        command.env("GIT_SSL_CERT", certificate).env("GIT_SSL_KEY", key);
    }
    within(command, FETCH_MAX).map(|_| ())
}

/// Makes a bare repository, unless it is there.
///
/// # Errors
/// What git says.
pub(crate) fn init(mirror: &Path) -> Result<(), String> {
    if mirror.join("HEAD").is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(mirror).map_err(|error| format!("cannot make {}: {error}", mirror.display()))?;
    let mut command = git(mirror);
    command.args(["init", "--quiet", "--bare"]).arg(mirror);
    within(command, FETCH_MAX).map(|_| ())
}

/// Whether the commit and all its files are there.
pub(crate) fn has(mirror: &Path, commit: &str) -> bool {
    let mut command = git(mirror);
    command.args(["rev-parse", "--quiet", "--verify", "--end-of-options"]).arg(format!("{commit}^{{tree}}"));
    within(command, FETCH_MAX).is_ok()
}

/// Writes the files of a commit into an empty folder. Their paths, without submodules, which are empty folders.
///
/// # Errors
/// What git says, or a name that is not UTF-8.
pub(crate) fn check_out(mirror: &Path, commit: &str, folder: &Path, index: &Path) -> Result<Vec<String>, String> {
    let run = |arguments: &[&str]| {
        let mut command = git(mirror);
        command.args(arguments).env("GIT_INDEX_FILE", index).env("GIT_WORK_TREE", folder).current_dir(folder);
        within(command, FETCH_MAX)
    };
    let listed = run(&["ls-tree", "-r", "-z", "--full-tree", commit])?;
    run(&["read-tree", commit])?;
    run(&["checkout-index", "--all", "--force", "--quiet"])?;
    let _ = std::fs::remove_file(index);
    listed.split(|byte| *byte == 0).filter(|line| !line.is_empty() && !line.starts_with(b"160000 ")).map(path).collect()
}

/// `<mode> <type> <id>\t<path>`.
fn path(line: &[u8]) -> Result<String, String> {
    let at = line.iter().position(|byte| *byte == b'\t').map_or(0, |at| at + 1);
    let name = &line[at..];
    let text = std::str::from_utf8(name)
        .map_err(|_| format!("{:?} is not UTF-8; rename it", String::from_utf8_lossy(name)))?;
    Ok(text.to_string())
}

fn git(mirror: &Path) -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    let passed = ["PATH", "HOME", "http_proxy", "https_proxy", "no_proxy", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"];
    command.envs(passed.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let fixed: [(&str, &OsStr); 7] = [
        ("GIT_DIR", mirror.as_os_str()),
        ("GIT_CONFIG_NOSYSTEM", OsStr::new("1")),
        ("GIT_CONFIG_GLOBAL", OsStr::new("/dev/null")),
        ("GIT_ATTR_NOSYSTEM", OsStr::new("1")),
        ("GIT_TERMINAL_PROMPT", OsStr::new("0")),
        ("GIT_ASKPASS", OsStr::new("true")),
        ("LC_ALL", OsStr::new("C")),
    ];
    command.envs(fixed).stdin(Stdio::null());
    settings(&mut command, &[]);
    command
}

/// Settings of one command: these, and those that all have.
fn settings(command: &mut Command, own: &[(&str, &str)]) {
    let all = [("core.hooksPath", "/dev/null"), ("core.fsmonitor", "false"), ("protocol.version", "2")];
    let settings: Vec<&(&str, &str)> = all.iter().chain(own).collect();
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (at, (name, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{at}"), name).env(format!("GIT_CONFIG_VALUE_{at}"), value);
    }
}

/// What it printed, or what it said when it failed or took too long.
fn within(mut command: Command, at_most: Duration) -> Result<Vec<u8>, String> {
    let started = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|error| format!("git cannot be started: {error}"))?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        let said = scope.spawn(|| drink(errors, SAID_BYTES_MAX));
        let printed = scope.spawn(|| drink(output, usize::MAX));
        let ended = wait(&mut child, at_most);
        let (said, printed) = (said.join().unwrap_or_default(), printed.join().unwrap_or_default());
        match ended {
            Ok(true) => Ok(printed),
            Ok(false) => Err(format!("git says: {}", String::from_utf8_lossy(&said).trim())),
            Err(why) => Err(why),
        }
    })
}

/// All of it; what is over the bound is read and dropped.
fn drink(from: Option<impl std::io::Read>, bytes_max: usize) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    let Some(mut from) = from else { return kept };
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        let room = bytes_max - kept.len();
        kept.extend_from_slice(&chunk[..length.min(room)]);
    }
    kept
}

/// Whether it ended well.
fn wait(child: &mut Child, at_most: Duration) -> Result<bool, String> {
    let (begin, mut nap) = (Instant::now(), Duration::from_micros(500));
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if begin.elapsed() < at_most => std::thread::sleep(nap),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("git took longer than {} minutes and was ended", at_most.as_secs() / 60));
            }
            Err(error) => return Err(format!("cannot wait for git: {error}")),
        }
        nap = (nap * 2).min(Duration::from_millis(20));
    }
}
