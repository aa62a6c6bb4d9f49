//! `pace runs`: the runs made here, newest first.

use jiff::tz::TimeZone;
use model::units::show_duration;

use crate::cli::{Cli, Output, RunsArgs};
use crate::exit::{Ended, Exit};
use crate::folders::Folders;
use crate::history::{History, PastRun};
use crate::past::Story;
use crate::project::Project;
use crate::screen::Screen;
use crate::team::{Team, escaped};

/// Of a run that has not begun: it waits for its concurrency group, or was killed before its first event.
const NO_TIME: &str = "not begun          ";

/// Lists them.
pub fn run(cli: &Cli, args: &RunsArgs, screen: &mut Screen) -> Ended {
    if args.project.is_some() || args.team.server.is_some() {
        return of_team(args, screen);
    }
    let history = History::open(&Folders::find()?, &Project::find_all(cli)?[0])?;
    let runs = history.runs();
    if runs.is_empty() && screen.output != Output::Json {
        screen.text("no run was made here yet: `pace run` makes one");
    }
    for past in runs.iter().take(args.limit) {
        let events = past.events()?;
        let story = Story::of(&events);
        let state = match story.ended {
            Some(ended) => ended.outcome.as_str(),
            None if past.is_live() => "running",
            None => "interrupted",
        };
        match screen.output {
            Output::Json => screen.text(&as_json(past, &story, state)),
            _ => screen.text(&as_text(past, &story, state)),
        }
    }
    Ok(Exit::Green)
}

/// Those on the server.
fn of_team(args: &RunsArgs, screen: &mut Screen) -> Ended {
    let project = args.project.as_deref().map(escaped).unwrap_or_default();
    let all = Team::find(&args.team)?.list(&format!("/runs?project={project}"), args.limit)?;
    super::rows(&all, &["project", "number", "state", "pipeline", "branch", "event", "title", "id"], screen);
    Ok(Exit::Green)
}

fn as_text(past: &PastRun, story: &Story, state: &str) -> String {
    let took = story.took().map(show_duration).unwrap_or_default();
    let cached = story.steps.iter().filter(|step| step.cached).count();
    let mut counts = vec![format!("{} passed", story.count("success"))];
    for (number, word) in [
        (cached, "cached"),
        (story.count("failure"), "failed"),
        (story.count("skipped"), "skipped"),
        (story.count("cancelled"), "cancelled"),
    ] {
        if number > 0 {
            counts.push(format!("{number} {word}"));
        }
    }
    let (pipeline, place) = story.requested.map_or((String::new(), String::new()), |requested| {
        let commit = requested.commit.get(..7).unwrap_or_default();
        (requested.pipeline.clone(), [requested.branch.as_str(), commit].join(" ").trim().to_string())
    });
    format!(
        "{:<6} {:<14} {:>7}  {}  {pipeline}  {place}  {}",
        past.number.to_string(),
        state,
        took,
        if story.at_us == 0 { NO_TIME.into() } else { local_time(story.at_us) },
        counts.join(", ")
    )
}

fn as_json(past: &PastRun, story: &Story, state: &str) -> String {
    serde_json::json!({
        "number": past.number.0,
        "state": state,
        "pipeline": story.requested.map(|requested| &requested.pipeline),
        "commit": story.requested.map(|requested| &requested.commit),
        "branch": story.requested.map(|requested| &requested.branch),
        "at": (story.at_us > 0).then(|| view::json::iso(model::Timestamp(story.at_us))),
        "took_us": story.ended.map(|ended| ended.took_us),
        "passed": story.count("success"),
        "cached": story.steps.iter().filter(|step| step.cached).count(),
        "failed": story.count("failure"),
        "skipped": story.count("skipped"),
        "cancelled": story.count("cancelled"),
        "folder": past.folder.display().to_string(),
    })
    .to_string()
}

/// The time on the wall clock of this place.
pub fn local_time(at_us: u64) -> String {
    let time = i64::try_from(at_us).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    time.map_or_else(String::new, |time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use model::RunNumber;

    use super::*;

    #[test]
    fn a_run_that_has_not_begun_has_no_time() {
        let past = PastRun { number: RunNumber(3), folder: "runs/3".into() };
        let story = Story::of(&[]);
        let text = as_text(&past, &story, "running");
        assert!(text.contains("not begun") && !text.contains("1970"), "{text}");
        assert!(as_json(&past, &story, "running").contains("\"at\":null"));
    }
}
