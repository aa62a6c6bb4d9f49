//! `pace login`: makes a server know us, by a password, a token or a link. `pace logout` forgets it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Logins, Team, TeamArgs, text};

/// Length of a password or token that is read.
const LINE_BYTES_MAX: u64 = 4096;

/// Make a server known: by name and password, by a token, or by a link that works once.
///
/// Password or token are read from standard input, without echo on a terminal. A link that `pace server` printed, or that
/// somebody sent, makes the user first.
#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Address of the server, or a link of it
    #[arg(value_name = "URL")]
    pub url: String,
    /// The user's name
    #[arg(long, value_name = "NAME", required_unless_present = "with_token")]
    pub user: Option<String>,
    /// Read a token instead of a password
    #[arg(long, conflicts_with = "user")]
    pub with_token: bool,
    /// Life of the token that is made, in days
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub days: u64,
}

/// Logs in.
pub fn run(args: &LoginArgs, screen: &mut Screen) -> Ended {
    let (url, link) = parts(&args.url);
    let token = match &args.user {
        None => secret("token: ")?,
        Some(user) => by_password(url, link, user, args.days)?,
    };
    let team = Team::stranger(url, Some(token.clone()))?;
    let me = team.read("/me")?;
    if me["user"].is_null() {
        return Err(Failure::refused("the server knows nobody by this token"));
    }
    let mut logins = Logins::read()?;
    logins.current = team.url().to_owned();
    logins.tokens.insert(team.url().to_owned(), token);
    logins.write()?;
    screen.text(&format!("logged in at {} as {}", team.url(), text(&me, "user")));
    Ok(Exit::Green)
}

/// Forgets a server.
pub fn logout(args: &TeamArgs, screen: &mut Screen) -> Ended {
    let mut logins = Logins::read()?;
    let url = args.server.clone().unwrap_or_else(|| logins.current.clone());
    let url = url.trim_end_matches('/');
    if logins.tokens.remove(url).is_none() {
        return Err(Failure::usage(format!("nobody is logged in at `{url}`")));
    }
    if logins.current == url {
        logins.current = logins.tokens.keys().next().cloned().unwrap_or_default();
    }
    logins.write()?;
    screen.text(&format!("logged out of {url}; `pace tokens rm` makes the token itself worthless"));
    Ok(Exit::Green)
}

fn by_password(url: &str, link: Option<&str>, user: &str, days: u64) -> Result<String, Failure> {
    let password = secret("password: ")?;
    let team = Team::stranger(url, None)?;
    if let Some(link) = link {
        team.ask("POST", "/sign-up", Some(&json!({ "link": link, "user": user, "password": password })))?;
    }
    let label = format!("pace login on {}", super::server::host_name());
    let label: String = label.chars().take(80).collect();
    let token = json!({ "label": label, "scopes": ["admin"], "days": days });
    let made = team.ask("POST", "/sign-in", Some(&json!({ "user": user, "password": password, "token": token })))?;
    match &made["token"] {
        Value::String(token) => Ok(token.clone()),
        _ => Err(Failure::infrastructure("the server made no token")),
    }
}

/// Address of the server and what its link carries, if it is one.
fn parts(url: &str) -> (&str, Option<&str>) {
    for path in ["/setup/", "/invite/", "/password/"] {
        if let Some((url, link)) = url.split_once(path) {
            return (url, Some(link));
        }
    }
    (url, None)
}

/// A line that nobody shall see.
fn secret(prompt: &str) -> Result<String, Failure> {
    let input = std::io::stdin();
    let hidden = if input.is_terminal() {
        // Nobody is left to see a prompt that cannot be written.
        let _ = write!(std::io::stderr(), "{prompt}").and_then(|()| std::io::stderr().flush());
        without_echo()
    } else {
        None
    };
    let mut line = String::new();
    let read = std::io::Read::take(input.lock(), LINE_BYTES_MAX).read_line(&mut line);
    if let Some(before) = hidden {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
        let _ = writeln!(std::io::stderr());
    }
    read.map_err(|error| Failure::usage(format!("cannot read from standard input: {error}")))?;
    match line.trim_end_matches(['\n', '\r']) {
        "" => Err(Failure::usage(format!("nothing was given for {prompt}")).help("it is read from standard input")),
        line => Ok(line.to_owned()),
    }
}

fn without_echo() -> Option<rustix::termios::Termios> {
    let before = tcgetattr(std::io::stdin()).ok()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(std::io::stdin(), OptionalActions::Now, &quiet).ok()?;
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_an_address_and_what_it_carries() {
        assert_eq!(parts("https://ci/setup/pace_link_1_2"), ("https://ci", Some("pace_link_1_2")));
        assert_eq!(parts("https://ci"), ("https://ci", None));
    }
}
