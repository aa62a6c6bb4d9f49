//! Notices: rules say who hears of an ended run, by webhook, Slack-compatible message or e-mail.

use std::sync::OnceLock;
use std::time::Duration;

use access::{For, SecretRecord, choose};
use lettre::message::header::ContentType;
use lettre::{Message, SmtpTransport, Transport as _};
use model::{Glob, GlobList, RunOutcome, RunSummary, units::show_duration};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Errand, RunQuery};

use crate::Shared;
use crate::errands::{Came, Poster};
use crate::records::Project;

/// Rules of one project.
pub const RULES_MAX: usize = 50;
/// Receivers of one rule.
const RECEIVERS_MAX: usize = 50;
/// Runs before this one that are looked through for one that ended.
const BEFORE_MAX: usize = 50;
/// Secrets of one project that are looked through.
const SECRETS_MAX: usize = 1000;
/// For a whole mail.
const MAIL_TIME: Duration = Duration::from_secs(30);
/// Where mail goes: `smtp://user:password@host:587?tls=required`, `smtps://…`, `smtp://localhost`.
pub const SMTP_ENV: &str = "PACE_SMTP_URL";
/// Who sends it: `Paceline <ci@example.com>`.
pub const FROM_ENV: &str = "PACE_MAIL_FROM";

/// When somebody hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// Every end.
    Always,
    /// It failed.
    Failure,
    /// It failed, and the one before did not.
    Broken,
    /// It passed, and the one before did not.
    Fixed,
    /// It passed.
    Success,
    /// It was stopped.
    Cancelled,
}

/// Who hears when. Exactly one of `webhook`, `slack`, `email`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// One of these.
    pub on: Vec<On>,
    /// Branches by patterns; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<String>,
    /// Pipelines by name; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pipelines: Vec<String>,
    /// JSON by POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Place>,
    /// Slack, Mattermost, Rocket.Chat, Discord (with `/slack`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<Place>,
    /// Mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Receivers>,
}

/// Where a webhook is. Settings are in the log for ever, so an address that is itself a secret is kept as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// Instead of `url`: the project's secret that holds it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url_secret: String,
    /// The project's secret that signs what is sent; empty: it is not signed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sign_secret: String,
}

/// Who gets a mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receivers {
    /// Addresses.
    pub to: Vec<String>,
}

/// Reads the rules of a project.
///
/// # Errors
/// A sentence that names the first one that is wrong.
pub fn rules(values: &[Value]) -> Result<Vec<Rule>, String> {
    if values.len() > RULES_MAX {
        return Err(format!("a project has at most {RULES_MAX} rules of notices"));
    }
    let numbered = values.iter().enumerate();
    numbered.map(|(at, value)| rule(value).map_err(|why| format!("rule {} of notices: {why}", at + 1))).collect()
}

fn rule(value: &Value) -> Result<Rule, String> {
    let rule = Rule::deserialize(value).map_err(|error| error.to_string())?;
    let ways = [rule.webhook.is_some(), rule.slack.is_some(), rule.email.is_some()];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        return Err("write exactly one of `webhook`, `slack`, `email`".into());
    }
    globs(&rule.branches)?;
    if let Some(place) = rule.webhook.as_ref().or(rule.slack.as_ref()) {
        let is_url = place.url.starts_with("https://") || place.url.starts_with("http://");
        if is_url != place.url_secret.is_empty() {
            return Err("write one of `url`, an address, and `url_secret`, the name of a secret".into());
        }
    }
    if let Some(email) = &rule.email {
        if email.to.is_empty() || email.to.len() > RECEIVERS_MAX {
            return Err(format!("`to` has 1 to {RECEIVERS_MAX} addresses"));
        }
        if let Some(bad) = email.to.iter().find(|to| to.parse::<lettre::message::Mailbox>().is_err()) {
            return Err(format!("`{}` is no address of mail", bad.escape_debug()));
        }
    }
    Ok(rule)
}

fn globs(texts: &[String]) -> Result<GlobList, String> {
    let read = |text: &String| Glob::parse(text).map_err(|why| format!("branch `{}`: {why}", text.escape_debug()));
    Ok(GlobList(texts.iter().map(read).collect::<Result<_, _>>()?))
}

impl Rule {
    /// Whether somebody hears of a run; `before` is how the one before ended.
    pub fn wants(&self, run: &RunSummary, before: Option<RunOutcome>) -> bool {
        let Some(outcome) = run.outcome else { return false };
        let green = outcome == RunOutcome::Succeeded;
        let failed = matches!(outcome, RunOutcome::Failed | RunOutcome::Infrastructure | RunOutcome::Refused);
        let was_green = before.is_none_or(|before| before == RunOutcome::Succeeded);
        let hears = |on: &On| match on {
            On::Always => true,
            On::Failure => failed,
            On::Broken => failed && was_green,
            On::Fixed => green && !was_green,
            On::Success => green,
            On::Cancelled => outcome == RunOutcome::Cancelled,
        };
        let branch = self.branches.is_empty() || globs(&self.branches).is_ok_and(|globs| globs.matches(&run.branch));
        let pipeline = self.pipelines.is_empty() || self.pipelines.contains(&run.pipeline);
        branch && pipeline && self.on.iter().any(hears)
    }
}

/// Carries out a notice: that of a run becomes one for each rule, so that none waits for another or is sent twice with it.
pub(crate) fn carry_out(shared: &Shared, poster: &Poster, errand: &Errand) -> Came {
    let text = |name: &str| errand.body[name].as_str().unwrap_or_default().to_owned();
    let found = shared.store.record::<Project>(&text("project")).and_then(|project| {
        let run = shared.store.run(&model::RunId::new(text("run")))?;
        Ok(project.map(|kept| kept.value).zip(run))
    });
    let (project, run) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Came::Done,
        Err(error) => return Came::Again(error.to_string()),
    };
    match errand.body.get("rule") {
        None => spread(shared, errand, &project, &run),
        Some(value) => match rule(value) {
            Ok(rule) => send(shared, poster, errand, &rule, &project, &run),
            Err(why) => Came::Never(why),
        },
    }
}

fn spread(shared: &Shared, errand: &Errand, project: &Project, run: &RunSummary) -> Came {
    let rules = match rules(&project.notify) {
        Ok(rules) => rules,
        Err(why) => return Came::Never(why),
    };
    let before = match before(shared, run) {
        Ok(before) => before,
        Err(error) => return Came::Again(error.to_string()),
    };
    let change = match (before, run.outcome) {
        (Some(before), Some(RunOutcome::Succeeded)) if before != RunOutcome::Succeeded => "fixed",
        (None | Some(RunOutcome::Succeeded), Some(RunOutcome::Failed)) => "broken",
        _ => "",
    };
    let errands = rules.iter().enumerate().filter(|(_, rule)| rule.wants(run, before)).map(|(at, rule)| {
        let mut body = errand.body.clone();
        body["rule"] = serde_json::to_value(rule).unwrap_or_default();
        body["change"] = change.into();
        Errand { id: format!("{}/{at}", errand.id), tries: 0, body, ..errand.clone() }
    });
    Came::Into(errands.collect())
}

/// How the run before this one of the same pipeline and branch ended; those that were cancelled say nothing.
fn before(shared: &Shared, run: &RunSummary) -> Result<Option<RunOutcome>, store::StoreError> {
    let query = RunQuery {
        project: Some(run.project.clone()),
        branch: Some(run.branch.clone()),
        pipeline: Some(run.pipeline.clone()),
        max: BEFORE_MAX,
        ..RunQuery::default()
    };
    let runs = shared.store.runs(&query)?;
    let earlier = runs.into_iter().map(|run| run.value).filter(|other| other.number < run.number);
    Ok(earlier.filter_map(|other| other.outcome).find(|outcome| *outcome != RunOutcome::Cancelled))
}

fn send(shared: &Shared, poster: &Poster, errand: &Errand, rule: &Rule, project: &Project, run: &RunSummary) -> Came {
    let url = format!("{}{}", shared.config.url, view::page::path::run(&project.name, run.number));
    let change = errand.body["change"].as_str().unwrap_or_default();
    if let Some(email) = &rule.email {
        return mail(email, run, change, &url);
    }
    let Some(place) = rule.webhook.as_ref().or(rule.slack.as_ref()) else { return Came::Done };
    let secret = |name: &str| secret(shared, project, run, name);
    let address = match place.url_secret.is_empty() {
        true => place.url.clone(),
        false => match secret(&place.url_secret) {
            Ok(address) => address,
            Err(why) => return Came::Never(why),
        },
    };
    let body = if rule.slack.is_some() { slack(run, change, &url) } else { json(run, change, &url) };
    let body = body.to_string().into_bytes();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x-paceline-event", "run.ended".to_owned()),
        ("x-paceline-delivery", errand.id.clone()),
    ];
    if !place.sign_secret.is_empty() {
        match secret(&place.sign_secret) {
            Ok(secret) => headers.push(("x-paceline-signature", forge::sign(&secret, &body))),
            Err(why) => return Came::Never(why),
        }
    }
    Came::of(poster.post(&address, &headers, &body))
}

fn secret(shared: &Shared, project: &Project, run: &RunSummary, name: &str) -> Result<String, String> {
    let kept = shared.store.records::<SecretRecord>(&SecretRecord::prefix(&project.name), "", SECRETS_MAX);
    let secrets: Vec<SecretRecord> =
        kept.map_err(|error| error.to_string())?.into_iter().map(|kept| kept.value).collect();
    let place = For { environment: "", branch: &run.branch, fork: false };
    let chosen = choose(&secrets, name, &place).ok_or_else(|| format!("the project has no secret `{name}`"))?;
    let opened = chosen.open(&shared.authentication.keys).map_err(|error| format!("secret `{name}`: {error}"))?;
    Ok(String::from_utf8_lossy(&opened).trim().to_owned())
}

/// `web #12 failed on main`
fn headline(run: &RunSummary, change: &str) -> String {
    let word = match (run.outcome, change) {
        (_, "fixed") => "is fixed",
        (_, "broken") => "is broken",
        (Some(RunOutcome::Succeeded), _) => "passed",
        (Some(RunOutcome::Cancelled), _) => "was cancelled",
        _ => "failed",
    };
    let on = [&run.branch, &run.tag].into_iter().find(|name| !name.is_empty());
    let on = on.map(|name| format!(" on {name}")).unwrap_or_default();
    format!("{} {} {word}{on}: {}", run.project, run.number, run.pipeline)
}

fn json(run: &RunSummary, change: &str, url: &str) -> Value {
    serde_json::json!({
        "event": "run.ended",
        "project": run.project.as_str(),
        "run": run.run.as_str(),
        "number": run.number.0,
        "pipeline": run.pipeline,
        "outcome": run.word(),
        "change": change,
        "branch": run.branch,
        "tag": run.tag,
        "commit": run.commit,
        "title": run.title,
        "author": run.author,
        "requested_us": run.requested.0,
        "ended_us": run.ended.map(|at| at.0),
        "url": url,
    })
}

/// Slack's own marks are taken out of what others wrote.
fn slack(run: &RunSummary, change: &str, url: &str) -> Value {
    let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = plain(&run.title);
    let by = if run.author.is_empty() { String::new() } else { format!(" ({})", plain(&run.author)) };
    serde_json::json!({ "text": format!("<{url}|{}>\n{title}{by}", plain(&headline(run, change))) })
}

fn mail(email: &Receivers, run: &RunSummary, change: &str, url: &str) -> Came {
    static MAILER: OnceLock<Result<(SmtpTransport, String), String>> = OnceLock::new();
    let (transport, from) = match MAILER.get_or_init(mailer) {
        Ok(mailer) => mailer,
        Err(why) => return Came::Never(why.clone()),
    };
    match message(email, from, run, change, url) {
        Err(why) => Came::Never(why),
        Ok(message) => match transport.send(&message) {
            Ok(_) => Came::Done,
            Err(error) if error.is_permanent() => Came::Never(format!("mail: {error}")),
            Err(error) => Came::Again(format!("mail: {error}")),
        },
    }
}

/// From the environment, where a password shows in no process list.
fn mailer() -> Result<(SmtpTransport, String), String> {
    let missing = |name: &str| format!("no mail can be sent: the server's variable {name} is not set");
    let url = std::env::var(SMTP_ENV).map_err(|_| missing(SMTP_ENV))?;
    let from = std::env::var(FROM_ENV).map_err(|_| missing(FROM_ENV))?;
    let transport = SmtpTransport::from_url(&url).map_err(|_| format!("{SMTP_ENV} is no address of a mail server"))?;
    Ok((transport.timeout(Some(MAIL_TIME)).build(), from))
}

fn message(email: &Receivers, from: &str, run: &RunSummary, change: &str, url: &str) -> Result<Message, String> {
    let wrong = |what: &str| format!("`{}` is no address of mail", what.escape_debug());
    let mut builder = Message::builder().from(from.parse().map_err(|_| wrong(from))?);
    for to in &email.to {
        builder = builder.to(to.parse().map_err(|_| wrong(to))?);
    }
    let took = run.started.zip(run.ended).map(|(started, ended)| show_duration(ended.since(started)));
    let lines = [
        Some(headline(run, change)),
        Some(format!("{} ({})", run.title, run.author)),
        Some(format!("commit {}", run.commit)),
        took.map(|took| format!("took {took}")),
        Some(url.to_owned()),
    ];
    let text = lines.into_iter().flatten().collect::<Vec<_>>().join("\n");
    let message = builder.subject(headline(run, change)).header(ContentType::TEXT_PLAIN).body(format!("{text}\n"));
    message.map_err(|error| format!("mail: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use model::{EventKind, ProjectId, RunId, RunNumber, Timestamp};
    use serde_json::json;

    fn run(outcome: RunOutcome, branch: &str) -> RunSummary {
        RunSummary {
            project: ProjectId::new("web"),
            run: RunId::new("r"),
            number: RunNumber(12),
            pipeline: "build".into(),
            event: EventKind::Push,
            commit: "c".repeat(40),
            branch: branch.into(),
            tag: String::new(),
            title: "Say <hello> & more".into(),
            author: "anna".into(),
            requested: Timestamp(1),
            started: Some(Timestamp(1)),
            ended: Some(Timestamp(2_000_001)),
            outcome: Some(outcome),
            held: None,
            asks: BTreeSet::new(),
            priority: 0,
            by: String::new(),
            again: None,
            late: false,
        }
    }

    fn one(value: Value) -> Rule {
        rules(&[value]).unwrap().remove(0)
    }

    #[test]
    fn a_rule_hears_what_it_says() {
        use RunOutcome::{Cancelled, Failed, Succeeded};
        let place = json!({ "url": "https://x" });
        let cases = [
            ("failure", Failed, None, true),
            ("failure", Succeeded, None, false),
            ("fixed", Succeeded, Some(Failed), true),
            ("fixed", Succeeded, Some(Succeeded), false),
            ("fixed", Succeeded, None, false),
            ("broken", Failed, Some(Failed), false),
            ("broken", Failed, None, true),
            ("always", Cancelled, None, true),
            ("success", Cancelled, None, false),
        ];
        for (on, outcome, before, hears) in cases {
            let rule = one(json!({ "on": [on], "webhook": place }));
            assert_eq!(rule.wants(&run(outcome, "main"), before), hears, "{on} {outcome:?} {before:?}");
        }
        let rule = one(json!({ "on": ["always"], "branches": ["release/**"], "slack": place }));
        assert!(rule.wants(&run(Failed, "release/1"), None) && !rule.wants(&run(Failed, "main"), None));
    }

    #[test]
    fn a_rule_that_is_wrong_says_why() {
        for (value, word) in [
            (json!({ "on": ["never"], "slack": { "url": "https://x" } }), "never"),
            (json!({ "on": ["always"] }), "exactly one"),
            (json!({ "on": ["always"], "slack": { "url": "ftp://x" } }), "url_secret"),
            (json!({ "on": ["always"], "email": { "to": ["nobody"] } }), "nobody"),
            (json!({ "on": ["always"], "email": { "to": [] } }), "addresses"),
            (json!({ "on": ["always"], "branch": "x", "slack": { "url": "https://x" } }), "branch"),
        ] {
            let why = rules(&[value]).unwrap_err();
            assert!(why.starts_with("rule 1 of notices: ") && why.contains(word), "{why}");
        }
    }

    #[test]
    fn what_others_wrote_is_no_mark_of_slack() {
        let text =
            slack(&run(RunOutcome::Failed, "main"), "broken", "https://ci/x")["text"].as_str().unwrap().to_owned();
        assert_eq!(text, "<https://ci/x|web #12 is broken on main: build>\nSay &lt;hello&gt; &amp; more (anna)");
    }

    #[test]
    fn a_mail_reaches_a_mail_server() {
        let sink = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = sink.local_addr().unwrap();
        let heard = std::thread::spawn(move || {
            let (stream, _) = sink.accept().unwrap();
            let (mut answers, mut lines) = (stream.try_clone().unwrap(), BufReader::new(stream).lines());
            let mut heard = Vec::new();
            answers.write_all(b"220 sink\r\n").unwrap();
            let mut in_data = false;
            while let Some(Ok(line)) = lines.next() {
                let answer = match line.as_str() {
                    "." => "250 kept",
                    _ if in_data => "",
                    "DATA" => "354 go on",
                    "QUIT" => "221 bye",
                    _ => "250 ok",
                };
                in_data = line == "DATA" || in_data && line != ".";
                let over = line == "." || line == "QUIT";
                heard.push(line);
                if !answer.is_empty() {
                    answers.write_all(format!("{answer}\r\n").as_bytes()).unwrap();
                }
                if over {
                    break;
                }
            }
            heard.join("\n")
        });
        let transport = SmtpTransport::from_url(&format!("smtp://{address}")).unwrap().build();
        let email = Receivers { to: vec!["Anna <anna@example.com>".into()] };
        let message =
            message(&email, "CI <ci@example.com>", &run(RunOutcome::Failed, "main"), "", "https://ci/x").unwrap();
        transport.send(&message).unwrap();
        let heard = heard.join().unwrap();
        assert!(heard.contains("RCPT TO:<anna@example.com>"), "{heard}");
        assert!(heard.contains("Subject: web #12 failed on main: build") && heard.contains("https://ci/x"), "{heard}");
    }
}
