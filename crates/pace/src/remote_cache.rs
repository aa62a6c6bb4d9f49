//! Which shared cache a run uses, and what it may do there: flags, variables, the user's file, the repository's file.
//!
//! What a repository says is a suggestion. A cache that it names could hand out results that look like those of another
//! project, and would be sent the token: it is used only when the user's own file lists it under `trust`, and read only
//! unless the user says more.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use remote::{Address, Options, Remote, Token};
use serde::Deserialize;

use crate::cli::{SharedArgs, SharedMode};
use crate::exit::Failure;
use crate::screen::Screen;

/// Where a token is looked for unless told otherwise.
pub const TOKEN_ENV: &str = "PACE_CACHE_TOKEN";
/// The repository's file, below its root.
const PROJECT_FILE: &str = ".paceline/config.toml";
/// A file of a few lines.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// A named cache with more bytes stays here.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    cache: Section,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    url: Option<String>,
    instance: Option<String>,
    token_env: Option<String>,
    mode: Option<Mode>,
    ca: Option<PathBuf>,
    /// Addresses that a repository may name. Means nothing in a repository.
    #[serde(default)]
    trust: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    Read,
    Write,
    ReadWrite,
}

impl From<Mode> for SharedMode {
    fn from(mode: Mode) -> SharedMode {
        match mode {
            Mode::Read => SharedMode::Read,
            Mode::Write => SharedMode::Write,
            Mode::ReadWrite => SharedMode::ReadWrite,
        }
    }
}

/// The shared cache of a run, or none. Nothing is asked of it yet.
pub fn choose(args: &SharedArgs, root: &Path, screen: &mut Screen) -> Result<Option<agent::SharedCache>, Failure> {
    let user_file = user_file();
    let user = user_file.as_deref().map_or_else(|| Ok(Section::default()), read)?;
    let Some(Choice { address, mode }) = address(args, &user, root, user_file.as_deref(), screen)? else {
        return Ok(None);
    };
    let mut options = Options::new(address);
    options.token = token(args, &user, screen)?;
    options.ca = args.ca.clone().or(user.ca);
    let mode = match from_fork(|name| std::env::var(name).ok()) {
        true => SharedMode::Read,
        false => mode,
    };
    Ok(Some(agent::SharedCache {
        remote: Remote::new(options),
        reads: mode != SharedMode::Write,
        writes: mode != SharedMode::Read,
        snapshot_bytes_max: SNAPSHOT_BYTES_MAX,
    }))
}

/// Whose named caches these are, on every machine alike: those of all that say the same `PACE_CACHE_SCOPE`, else those of
/// the checkouts of one repository. `None` when Git knows no origin: then they stay here.
pub fn scope(root: &Path) -> Option<String> {
    let said = std::env::var("PACE_CACHE_SCOPE").ok().filter(|said| !said.is_empty());
    let whose = said.map(|said| format!("scope {said}")).or_else(|| cas::git::origin(root))?;
    Some(format!("{} {}\n{whose}", std::env::consts::OS, std::env::consts::ARCH))
}

/// The variable that holds the token. No step gets to see it.
pub fn token_variable(args: &SharedArgs) -> String {
    // What is wrong with the file is told by who chooses the cache.
    let of_user = || user_file().and_then(|path| read(&path).ok()).and_then(|user| user.token_env);
    args.token_env.clone().or_else(of_user).unwrap_or_else(|| TOKEN_ENV.into())
}

#[derive(Debug)]
struct Choice {
    address: Address,
    mode: SharedMode,
}

fn address(
    args: &SharedArgs,
    user: &Section,
    root: &Path,
    user_file: Option<&Path>,
    screen: &mut Screen,
) -> Result<Option<Choice>, Failure> {
    let asked = args.mode.or(user.mode.map(SharedMode::from));
    if let Some(url) = args.url.as_deref().filter(|url| !url.is_empty()) {
        if url == "none" {
            return Ok(None);
        }
        let address = parse(url, None)?;
        return Ok(Some(Choice { address, mode: asked.unwrap_or(SharedMode::ReadWrite) }));
    }
    if let Some(url) = &user.url {
        let address = parse(url, user.instance.as_deref())?;
        return Ok(Some(Choice { address, mode: asked.unwrap_or(SharedMode::ReadWrite) }));
    }
    let project = read(&root.join(PROJECT_FILE))?;
    let Some(url) = &project.url else { return Ok(None) };
    let address = parse(url, project.instance.as_deref())?;
    if !trusts(user, &address) {
        let file = user_file.map_or("~/.config/paceline/config.toml".into(), |path| path.display().to_string());
        screen.warning(&format!(
            "the repository names the shared cache {address}, which is not used: if you trust it, add it to `trust` in {file}"
        ));
        return Ok(None);
    }
    Ok(Some(Choice { address, mode: asked.unwrap_or(SharedMode::Read) }))
}

fn parse(url: &str, instance: Option<&str>) -> Result<Address, Failure> {
    let mut address = Address::parse(url).map_err(Failure::usage)?;
    if let Some(instance) = instance.filter(|instance| !instance.is_empty()) {
        let whole = format!("{address}/{instance}");
        address = Address::parse(&whole).map_err(Failure::usage)?;
    }
    Ok(address)
}

/// The same server is trusted whatever its instance: who may do what there is its own affair.
fn trusts(user: &Section, address: &Address) -> bool {
    let server = |address: &Address| (address.tls, address.host.clone(), address.port);
    let listed = user.trust.iter().filter_map(|url| Address::parse(url).ok());
    listed.into_iter().any(|trusted| server(&trusted) == server(address))
}

fn token(args: &SharedArgs, user: &Section, screen: &mut Screen) -> Result<Option<Token>, Failure> {
    let named = args.token_env.as_ref().or(user.token_env.as_ref());
    let name = named.map_or(TOKEN_ENV, String::as_str);
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => Ok(Some(
            Token::new(&text).map_err(|error| Failure::usage(error).help(format!("look at the variable {name}")))?,
        )),
        _ => {
            if named.is_some() {
                screen.warning(&format!("{name} is not set: the shared cache is asked without a token"));
            }
            Ok(None)
        }
    }
}

/// Whether CI says that what it runs comes from a fork: then a token that happens to be here is not for it to write with.
fn from_fork(variable: impl Fn(&str) -> Option<String>) -> bool {
    let differ = |one: &str, other: &str| match (variable(one), variable(other)) {
        (Some(one), Some(other)) => !one.is_empty() && one != other,
        _ => false,
    };
    differ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_ID")
        || variable("GITHUB_EVENT_PATH").is_some_and(|path| is_fork_event(Path::new(&path)))
}

/// GitHub's description of a pull request names the repository that it comes from, and the one that it goes to.
fn is_fork_event(path: &Path) -> bool {
    const EVENT_BYTES_MAX: u64 = 8 << 20;
    let read = || {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(path).ok()?.take(EVENT_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()
    };
    let Some(event) = read() else { return false };
    let pull = &event["pull_request"];
    // A fork that was deleted is null, and still a fork.
    !pull.is_null() && pull["head"]["repo"]["full_name"] != pull["base"]["repo"]["full_name"]
}

fn user_file() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))?;
    Some(config.join("paceline/config.toml"))
}

/// What stands in a file; nothing when there is none.
fn read(path: &Path) -> Result<Section, Failure> {
    use std::io::Read;
    let refused = |why: String| Failure::usage(format!("cannot read {}: {why}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Section::default()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(Section::default()),
        Err(error) => return Err(refused(error.to_string())),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| refused(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(refused(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    toml::from_str::<File>(&text).map(|file| file.cache).map_err(|error| refused(error.message().to_string()))
}

/// What the shared cache was good for, as a line under the summary.
pub fn summary(address: &str, counts: &agent::SharedCounts) -> String {
    let results = match counts.hits {
        1 => "1 result".to_string(),
        hits => format!("{hits} results"),
    };
    format!(
        "shared cache {address}: {results} from there, {} received, {} sent",
        model::Bytes(counts.bytes_down),
        model::Bytes(counts.bytes_up)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Color;

    fn section(text: &str) -> Section {
        toml::from_str::<File>(text).expect("a file").cache
    }

    fn chosen(args: &SharedArgs, user: &str, project: &str) -> Option<(String, SharedMode)> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join(".paceline")).expect("a folder");
        std::fs::write(folder.path().join(PROJECT_FILE), project).expect("a file");
        let mut screen = Screen::new(None, Color::Never);
        let choice = address(args, &section(user), folder.path(), None, &mut screen).expect("a choice")?;
        Some((choice.address.to_string(), choice.mode))
    }

    #[test]
    fn flags_come_before_the_users_file_and_that_before_the_repository() {
        let url = |url: &str| SharedArgs { url: Some(url.into()), ..SharedArgs::default() };
        let (user, project) = ("[cache]\nurl = 'grpc://u'\nmode = 'read'", "[cache]\nurl = 'grpc://p'");
        assert_eq!(chosen(&url("grpc://f/main"), user, project), Some(("grpc://f:8980/main".into(), SharedMode::Read)));
        assert_eq!(chosen(&SharedArgs::default(), user, project), Some(("grpc://u:8980".into(), SharedMode::Read)));
        assert_eq!(chosen(&url("none"), user, project), None);
        let of_user = chosen(&SharedArgs::default(), "[cache]\nurl = 'grpc://u'\ninstance = 'main/pr/1'", "");
        assert_eq!(of_user, Some(("grpc://u:8980/main/pr/1".into(), SharedMode::ReadWrite)));
    }

    #[test]
    fn what_a_repository_names_is_used_only_when_the_user_trusts_it_and_then_only_read() {
        let project = "[cache]\nurl = 'grpc://p:1/main'\nmode = 'read-write'\ntrust = ['grpc://p:1']";
        let none = SharedArgs::default();
        assert_eq!(chosen(&none, "", project), None);
        assert_eq!(chosen(&none, "[cache]\ntrust = ['grpc://p:2', 'grpcs://p:1']", project), None);
        let trusted = "[cache]\ntrust = ['grpc://p:1']";
        assert_eq!(chosen(&none, trusted, project), Some(("grpc://p:1/main".into(), SharedMode::Read)));
        let more = "[cache]\ntrust = ['grpc://p:1']\nmode = 'read-write'";
        assert_eq!(chosen(&none, more, project), Some(("grpc://p:1/main".into(), SharedMode::ReadWrite)));
    }

    #[test]
    fn a_pull_request_from_a_fork_is_known_by_what_ci_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let event = folder.path().join("event.json");
        let github = |head: &str| {
            let text =
                format!(r#"{{"pull_request":{{"head":{{"repo":{head}}},"base":{{"repo":{{"full_name":"a/b"}}}}}}}}"#);
            std::fs::write(&event, text).expect("an event");
            from_fork(|name| (name == "GITHUB_EVENT_PATH").then(|| event.display().to_string()))
        };
        assert!(github(r#"{"full_name":"evil/b"}"#) && github("null"));
        assert!(!github(r#"{"full_name":"a/b"}"#));
        let gitlab = |source: &str| {
            from_fork(|name| match name {
                "CI_MERGE_REQUEST_SOURCE_PROJECT_ID" => Some(source.into()),
                "CI_MERGE_REQUEST_PROJECT_ID" => Some("1".into()),
                _ => None,
            })
        };
        assert!(gitlab("2") && !gitlab("1"));
        assert!(!from_fork(|_| None));
    }
}
