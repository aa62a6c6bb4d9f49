//! `pace cache token`: makes, lists and revokes the tokens of a served cache.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use cache::access::{Secret, Token, Tokens, instance_problem, moment};
use cache::config::Settings;
use model::units::parse_duration;
use serde_json::json;

use crate::cli::{Output, TokenCommand, TokensFile};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;

/// One of its commands.
pub fn run(what: &TokenCommand, screen: &mut Screen) -> Ended {
    match what {
        TokenCommand::New { file, jwt, .. } => new(&path(file)?, what, *jwt, screen),
        TokenCommand::Ls { file } => list(&path(file)?, screen),
        TokenCommand::Revoke { name, file } => {
            let path = path(file)?;
            let revoked = Tokens::edit(&path, |tokens| tokens.revoke(name)).map_err(Failure::usage)?;
            screen.text(&format!(
                "token `{}` is revoked; entries it wrote stay: `pace cache purge --writer`",
                revoked.name
            ));
            Ok(Exit::Green)
        }
    }
}

fn path(file: &TokensFile) -> Result<PathBuf, Failure> {
    let from_config = match &file.config {
        Some(config) => Settings::read(config).map_err(Failure::usage)?.tokens_file,
        None => None,
    };
    file.tokens.clone().or(from_config).ok_or_else(|| {
        Failure::usage("nobody said where the tokens are")
            .help("name their file with --tokens, or a configuration that has `tokens_file` with --config")
    })
}

fn new(path: &std::path::Path, what: &TokenCommand, jwt: bool, screen: &mut Screen) -> Ended {
    let secret = Secret::generate().map_err(Failure::infrastructure)?;
    let token = token(what, &secret)?;
    let shown = if jwt { secret.as_json_web_token() } else { secret.reveal().to_owned() };
    let row = row(&token);
    Tokens::edit(path, |tokens| tokens.add(token)).map_err(Failure::usage)?;
    if screen.output == Output::Json {
        let mut row = row;
        row["secret"] = json!(shown);
        screen.text(&row.to_string());
    } else {
        // Alone on standard output, for `TOKEN=$(pace cache token new …)`.
        screen.text(&shown);
        screen.diagnostics("this is shown once; its SHA-256 is kept\n");
    }
    Ok(Exit::Green)
}

fn token(what: &TokenCommand, secret: &Secret) -> Result<Token, Failure> {
    let TokenCommand::New { name, instance, rights, domain, expires, .. } = what else {
        return Err(Failure::internal("only a new token has a secret"));
    };
    let wrong = |flag: &'static str| move |why: String| Failure::usage(format!("--{flag}: {why}"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let good_for = expires.as_deref().map(parse_duration).transpose();
    let good_for = good_for.map_err(|why| wrong("expires")(why.to_owned()))?;
    let instance = (instance != "*").then(|| instance.clone());
    if let Some(problem) = instance.as_deref().and_then(instance_problem) {
        return Err(wrong("instance")(problem));
    }
    Ok(Token {
        name: name.clone(),
        sha256: secret.sha256(),
        instance,
        scope: domain.parse().map_err(wrong("domain"))?,
        rights: rights.parse().map_err(wrong("rights"))?,
        created: now,
        expires: good_for.map(|good_for| now + good_for.as_secs()),
    })
}

fn list(path: &std::path::Path, screen: &mut Screen) -> Ended {
    let tokens = Tokens::read(path).map_err(Failure::usage)?;
    for token in tokens.iter() {
        let row = row(token);
        if screen.output == Output::Json {
            screen.text(&row.to_string());
            continue;
        }
        let expires = token.expires.map_or("never".to_owned(), moment);
        let (instance, rights) = (token.instance.as_deref().unwrap_or("*"), token.rights.word());
        let line = format!("{:<24} {instance:<16} {:<10} {rights:<8} expires {expires}", token.name, token.scope);
        screen.text(&line);
    }
    Ok(Exit::Green)
}

fn row(token: &Token) -> serde_json::Value {
    json!({
        "name": token.name,
        "instance": token.instance.as_deref().unwrap_or("*"),
        "domain": token.scope.to_string(),
        "rights": token.rights.word(),
        "created": moment(token.created),
        "expires": token.expires.map(moment),
    })
}
