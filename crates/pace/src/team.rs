//! A team's server, asked over its interface: who we are there, questions, answers, streams that resume.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::http::Request;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Body};

use crate::exit::Failure;
use crate::folders::Folders;

/// Length of an answer in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Length of a line of a stream: a piece of a log, or the plan of a large run.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// How long the server may say nothing. A stream says something every 15 seconds.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a stream that broke is tried to go on with: a server that is restarted is back much sooner.
const RESUME_WITHIN: Duration = Duration::from_secs(600);
const RESUME_WAIT: Duration = Duration::from_millis(300);

/// Which server.
#[derive(Debug, Args, Default, Clone)]
pub struct TeamArgs {
    /// The server [default: the one of the last `pace login`]; a token in PACE_TOKEN is taken instead of the stored one
    #[arg(long, value_name = "URL", env = "PACE_SERVER")]
    pub server: Option<String>,
}

/// A server that knows us.
pub struct Team {
    agent: Agent,
    url: String,
    token: Option<String>,
}

/// What `pace login` keeps.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Logins {
    /// The server of the last login.
    pub current: String,
    /// Token by server.
    pub tokens: BTreeMap<String, String>,
}

/// An event of a stream.
#[derive(Debug, Default)]
pub struct Told {
    /// Its kind; empty for the usual one.
    pub event: String,
    /// What it says.
    pub data: String,
    id: String,
}

impl Team {
    /// The server that is meant.
    pub fn find(args: &TeamArgs) -> Result<Team, Failure> {
        let logins = Logins::read()?;
        let url = args.server.clone().unwrap_or_else(|| logins.current.clone());
        if url.is_empty() {
            return Err(
                Failure::usage("no server is known").help("`pace login URL` makes one known, or say --server URL")
            );
        }
        let url = clean(&url)?;
        let own = std::env::var("PACE_TOKEN").ok().filter(|token| !token.is_empty());
        let token = own.or_else(|| logins.tokens.get(&url).cloned());
        Ok(Team { agent: agent(), url, token })
    }

    /// A server that does not know us yet.
    pub fn stranger(url: &str, token: Option<String>) -> Result<Team, Failure> {
        Ok(Team { agent: agent(), url: clean(url)?, token })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Reads something.
    pub fn read(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None)
    }

    /// All parts of a list, at most `max` things.
    pub fn list(&self, path: &str, max: usize) -> Result<Vec<Value>, Failure> {
        let (mut all, mut after) = (Vec::new(), String::new());
        let sign = if path.contains('?') { '&' } else { '?' };
        while all.len() < max {
            let limit = (max - all.len()).min(200);
            let answer = self.read(&format!("{path}{sign}limit={limit}&after={}", escaped(&after)))?;
            all.extend(answer["items"].as_array().cloned().unwrap_or_default());
            match answer["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        all.truncate(max);
        Ok(all)
    }

    /// Asks for something with a body.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.ask_keyed(method, path, body, None)
    }

    /// As [`Team::ask`]; with a key the same question twice is one.
    pub fn ask_keyed(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let mut headers: Vec<(&str, &str)> = Vec::new();
        headers.extend(key.map(|key| ("idempotency-key", key)));
        let answer = self.send(method, path, body, &headers)?;
        let mut text = String::new();
        let read = answer.into_reader().take(ANSWER_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| self.unreachable(&error))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| self.unreachable(&error))
    }

    /// The content of an address, to be read piece by piece.
    pub fn content(&self, path: &str) -> Result<impl std::io::Read + use<>, Failure> {
        Ok(self.send("GET", path, None, &[])?.into_with_config().limit(u64::MAX).reader())
    }

    /// Follows a stream until `take` has enough (false) or the stream ends; goes on where it was when it breaks.
    pub fn follow(&self, path: &str, mut take: impl FnMut(&Told) -> Result<bool, Failure>) -> Result<(), Failure> {
        let mut last = String::new();
        let mut since = Instant::now();
        loop {
            let before = last.clone();
            match self.follow_once(path, &mut last, &mut take) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Broken::Ours(failure)) => return Err(failure),
                Err(Broken::Wire(failure)) if since.elapsed() > RESUME_WITHIN => return Err(failure),
                Err(Broken::Wire(_)) => {}
            }
            if last != before {
                since = Instant::now();
            }
            if since.elapsed() > RESUME_WITHIN {
                return Err(self.unreachable(&"the stream says nothing more"));
            }
            std::thread::sleep(RESUME_WAIT);
        }
    }

    /// Whether it came to its end.
    fn follow_once(
        &self,
        path: &str,
        last: &mut String,
        take: &mut impl FnMut(&Told) -> Result<bool, Failure>,
    ) -> Result<bool, Broken> {
        let id = last.clone();
        let headers: &[(&str, &str)] = if id.is_empty() { &[] } else { &[("last-event-id", &id)] };
        let answer = self.send("GET", path, None, headers).map_err(|failure| match failure.is_infrastructure() {
            true => Broken::Wire(failure),
            false => Broken::Ours(failure),
        })?;
        let mut lines = BufReader::new(answer.into_with_config().limit(u64::MAX).reader());
        let mut told = Told::default();
        loop {
            let mut line = String::new();
            let read = (&mut lines).take(LINE_BYTES_MAX).read_line(&mut line);
            match read {
                Ok(0) | Err(_) => return Ok(false),
                Ok(_) => {}
            }
            let line = line.trim_end_matches(['\n', '\r']);
            if !line.is_empty() {
                told.line(line);
                continue;
            }
            if !told.id.is_empty() {
                last.clone_from(&told.id);
            }
            let whole = std::mem::take(&mut told);
            if whole.event == "problem" {
                return Ok(false);
            }
            if (!whole.data.is_empty() || !whole.event.is_empty()) && !take(&whole).map_err(Broken::Ours)? {
                return Ok(true);
            }
        }
    }

    /// The id of a run that people name: an id, `PROJECT#NUMBER`, or a number with a project.
    pub fn run_id(&self, run: &str, project: Option<&str>) -> Result<String, Failure> {
        let (project, number) = match run.rsplit_once('#') {
            Some((project, number)) if !project.is_empty() => (Some(project), number),
            Some((_, number)) => (project, number),
            None => (project, run),
        };
        match (number.parse::<u64>(), project) {
            (Ok(number), Some(project)) => {
                let found = self.read(&format!("/projects/{}/runs/{number}", escaped(project)))?;
                Ok(found["run"]["id"].as_str().unwrap_or_default().to_owned())
            }
            (Ok(_), None) => Err(Failure::usage(format!("run {run} of which project?"))
                .help("write PROJECT#NUMBER, or add --project NAME")),
            (Err(_), _) => Ok(run.to_owned()),
        }
    }

    fn send(&self, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Result<Body, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}/api/v1{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", self.url));
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body.to_string());
                self.agent.run(request.map_err(|error| wrong(&error))?)
            }
            None => self.agent.run(request.body(()).map_err(|error| wrong(&error))?),
        };
        let (parts, mut body) = answer.map_err(|error| self.unreachable(&error))?.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let text = body.with_config().limit(1 << 20).read_to_string().unwrap_or_default();
        Err(self.refused(parts.status.as_u16(), &text))
    }

    /// What the server says, with the exit code that goes with it.
    fn refused(&self, status: u16, text: &str) -> Failure {
        let problem: Value = serde_json::from_str(text).unwrap_or_default();
        let detail = problem["detail"].as_str().map_or_else(|| format!("{} answers {status}", self.url), str::to_owned);
        match status {
            401 => Failure::usage(detail).help(format!("`pace login {}` signs you in", self.url)),
            403 => Failure::refused(detail),
            422 => Failure::invalid(detail),
            400..=499 if status != 429 => Failure::usage(detail),
            _ => Failure::infrastructure(detail),
        }
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::infrastructure(format!("cannot ask {}: {error}", self.url))
    }
}

/// Why a stream ended before its end.
enum Broken {
    /// Somebody has to do something about it.
    Ours(Failure),
    /// Trying again may help.
    Wire(Failure),
}

impl Told {
    fn line(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => self.event = value.to_owned(),
            "id" => self.id = value.to_owned(),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            _ => {}
        }
    }
}

impl Logins {
    /// What is kept; nothing when nobody logged in yet.
    pub fn read() -> Result<Logins, Failure> {
        let path = Logins::path()?;
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| {
                Failure::usage(format!("{} is damaged: {error}", path.display())).help("remove it and log in again")
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Logins::default()),
            Err(error) => Err(Failure::infrastructure(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Keeps it, readable by nobody else.
    pub fn write(&self) -> Result<(), Failure> {
        let path = Logins::path()?;
        let failed =
            |error: std::io::Error| Failure::infrastructure(format!("cannot write {}: {error}", path.display()));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let fresh = path.with_extension("new");
        let text = serde_json::to_string_pretty(self).map_err(Failure::internal)?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed)?;
        fs::rename(&fresh, &path).map_err(failed)
    }

    fn path() -> Result<PathBuf, Failure> {
        Ok(Folders::find()?.state.join("logins.json"))
    }
}

/// A text as part of an address.
pub fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A text of an answer; empty when it is missing. Fit for a terminal.
pub fn text(value: &Value, name: &str) -> String {
    let shown = match &value[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Array(items) => {
            let items: Vec<String> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect();
            items.join(",")
        }
        other => other.to_string(),
    };
    shown.chars().filter(|c| !c.is_control()).collect()
}

fn clean(url: &str) -> Result<String, Failure> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(Failure::usage(format!("{url} starts with neither http:// nor https://")));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        // A token goes to the server that was named, and to no other.
        .max_redirects(0)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(SILENCE_MAX))
        .timeout_per_read(Some(SILENCE_MAX))
        .user_agent(concat!("pace/", env!("CARGO_PKG_VERSION")))
        .build();
    config.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_line_by_line() {
        let mut told = Told::default();
        for line in ["id: 7", "event: log", ": still there", "data: a", "data:b", "retry: 1"] {
            told.line(line);
        }
        assert_eq!((told.id.as_str(), told.event.as_str(), told.data.as_str()), ("7", "log", "a\nb"));
    }

    #[test]
    fn names_become_part_of_an_address() {
        assert_eq!(escaped("team/web#1 ä"), "team%2Fweb%231%20%C3%A4");
        assert!(clean("ftp://x").is_err() && clean("https://x/").is_ok_and(|url| url == "https://x"));
    }
}
