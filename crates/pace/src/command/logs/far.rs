//! Logs of runs on the server.

use serde_json::Value;

use crate::cli::{LogsArgs, Output};
use crate::exit::{Ended, Exit, Failure};
use crate::screen::Screen;
use crate::team::{Team, escaped, text};

/// Whether a run on the server is meant, and not one made here.
pub fn is_meant(args: &LogsArgs) -> bool {
    let named = args.target.first().is_some_and(|run| run.starts_with("run_") || run.contains('#'));
    named || args.project.is_some() || args.team.server.is_some()
}

/// Prints the log of a step, or of all; with `--follow` until it ends.
pub fn run(args: &LogsArgs, screen: &mut Screen) -> Ended {
    if args.service.is_some() {
        return Err(Failure::usage("logs of services stay with the agent; the server has those of steps"));
    }
    let team = Team::find(&args.team)?;
    let run = args.target.first().ok_or_else(|| Failure::usage("which run? write its id, or PROJECT#NUMBER"))?;
    let id = team.run_id(run, args.project.as_deref())?;
    let steps = match args.target.get(1) {
        Some(step) => vec![step.clone()],
        None => started(&team, &id)?,
    };
    let several = steps.len() > 1;
    for step in steps {
        let prefix = if several { format!("{step} | ") } else { String::new() };
        let mut printer = Printer { prefix, timestamps: args.timestamps, screen };
        let path = format!("/runs/{}/steps/{}/log", escaped(&id), escaped(&step));
        match args.follow {
            true => follow(&team, &path, &mut printer)?,
            false => printer.all(&team, &path)?,
        }
    }
    Ok(Exit::Green)
}

/// Steps that have a log, in the order of the file.
fn started(team: &Team, id: &str) -> Result<Vec<String>, Failure> {
    let run = team.read(&format!("/runs/{}", escaped(id)))?;
    let steps = run["steps"].as_array().cloned().unwrap_or_default();
    Ok(steps.iter().filter(|step| step["attempts"].as_u64() > Some(0)).map(|step| text(step, "name")).collect())
}

fn follow(team: &Team, path: &str, printer: &mut Printer<'_>) -> Result<(), Failure> {
    team.follow(&format!("{path}/events"), |told| {
        if told.event == "end" {
            return Ok(false);
        }
        let piece: Value = serde_json::from_str(&told.data).unwrap_or_default();
        printer.lines(piece["text"].as_str().unwrap_or_default());
        Ok(true)
    })
}

struct Printer<'a> {
    prefix: String,
    timestamps: bool,
    screen: &'a mut Screen,
}

impl Printer<'_> {
    /// What there is now: the stream of a log that ended is all of it, that of one that goes on is taken up to its length.
    fn all(&mut self, team: &Team, path: &str) -> Result<(), Failure> {
        use std::io::{BufRead as _, BufReader};
        let mut lines = BufReader::new(team.content(&format!("{path}?timestamps={}", self.timestamps))?);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line);
            if read.map_err(|error| Failure::infrastructure(format!("the log broke off: {error}")))? == 0 {
                return Ok(());
            }
            self.line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        }
    }

    /// Lines with their stamps.
    fn lines(&mut self, text: &str) {
        for line in text.lines() {
            let (stamp, text) = line.split_once(' ').unwrap_or(("0", line));
            match self.timestamps {
                true => {
                    let at = model::Timestamp(stamp.parse::<u64>().unwrap_or_default().saturating_mul(1000));
                    self.line(&format!("{} {text}", view::json::iso(at)));
                }
                false => self.line(text),
            }
        }
    }

    fn line(&mut self, line: &str) {
        let text = view::ansi::clean(line, self.screen.style());
        match self.screen.output {
            Output::Json => self
                .screen
                .text(&serde_json::json!({ "step": self.prefix.trim_end_matches(" | "), "text": text }).to_string()),
            _ => self.screen.text(&format!("{}{text}\n", self.prefix)),
        }
    }
}
