//! `on`: what starts a run.

use croner::parser::{CronParser, Seconds, Year};
use model::{PushFilter, Schedule, Triggers};

use super::{Entry, Keyword, MapShape, Shape, Table, codes, entries};
use crate::decode::{At, Decoder};
use crate::diagnostic::Diagnostic;
use crate::raw::RawFile;
use crate::yaml::Kind;

pub(super) const ON: Keyword<RawFile> = Keyword {
    entry: Entry {
        name: "on",
        shape: Shape::Map(&MapShape { name: "on", entries: || entries(TABLE), rest: None }),
        doc: "What starts a run on a server. Without it: only people do. `pace run` always runs.",
        example: "on: { push: { branches: [main] }, pull_request: {} }",
        required: false,
        also: &["triggers", "trigger", "when"],
    },
    read: |d, at, file| match d.kind(at.node) {
        Kind::Map(_) => d.table(at, "`on`", TABLE, &mut file.on),
        _ => d.wrong_with(
            at,
            "a map with `push`, `pull_request`, `schedule`, `manual`",
            Some("each event is a key: `on: { push: {}, pull_request: {} }`"),
        ),
    },
};

const TABLE: Table<Triggers> = &[&PUSH, &PULL_REQUEST, &SCHEDULE, &MANUAL];
const FILTER: Shape = Shape::Either(&[
    Shape::Map(&MapShape { name: "filter", entries: || entries(FILTERS), rest: None }),
    Shape::Nothing,
]);

const PUSH: Keyword<Triggers> = Keyword {
    entry: Entry {
        name: "push",
        shape: FILTER,
        doc: "A branch or tag moved. Filters narrow it: `branches`, `tags`, and `paths` of which at least one changed.",
        example: "push: { branches: [main, \"release/**\"], tags: [\"v*\"], paths: [\"svc/**\"] }",
        required: false,
        also: &[],
    },
    read: |d, at, on| on.push = Some(filter(d, at, "`push`")),
};

const PULL_REQUEST: Keyword<Triggers> = Keyword {
    entry: Entry {
        name: "pull_request",
        shape: FILTER,
        doc: "A pull request was opened or changed. `branches` are those it goes to.",
        example: "pull_request: { branches: [main] }",
        required: false,
        also: &["merge_request", "pull_request_target", "pr"],
    },
    read: |d, at, on| on.pull_request = Some(filter(d, at, "`pull_request`")),
};

const SCHEDULE: Keyword<Triggers> = Keyword {
    entry: Entry {
        name: "schedule",
        shape: Shape::List(&Shape::Map(&MapShape {
            name: "schedule entry",
            entries: || entries(SCHEDULES),
            rest: None,
        })),
        doc: "Times by the clock.",
        example: "schedule: [{ cron: \"0 2 * * *\", timezone: Europe/Berlin }]",
        required: false,
        also: &["cron", "schedules"],
    },
    read: |d, at, on| {
        for item in d.list(at, "a list of `{ cron, timezone }`").unwrap_or_default() {
            let mut schedule = Schedule { cron: String::new(), timezone: "UTC".to_string() };
            d.table(item, "a `schedule` entry", SCHEDULES, &mut schedule);
            on.schedule.push(schedule);
        }
    },
};

const MANUAL: Keyword<Triggers> = Keyword {
    entry: Entry {
        name: "manual",
        shape: Shape::Nothing,
        doc: "A person starts it, with `params` as its form.",
        example: "manual: {}",
        required: false,
        also: &["workflow_dispatch"],
    },
    read: |d, at, on| {
        on.manual = true;
        if !d.is_null(at) {
            d.table(at, "`manual`", &[] as Table<()>, &mut ());
        }
    },
};

fn filter(d: &mut Decoder<'_>, at: At, what: &str) -> PushFilter {
    let mut filter = PushFilter::default();
    if !d.is_null(at) {
        d.table(at, what, FILTERS, &mut filter);
    }
    filter
}

const FILTERS: Table<PushFilter> = &[&BRANCHES, &TAGS, &PATHS];

const BRANCHES: Keyword<PushFilter> = Keyword {
    entry: Entry {
        name: "branches",
        shape: Shape::List(&Shape::Glob),
        doc: "Patterns of branch names; `!` takes out.",
        example: "branches: [main, \"release/**\"]",
        required: false,
        also: &["branch"],
    },
    read: |d, at, filter| filter.branches = d.globs(at),
};

const TAGS: Keyword<PushFilter> = Keyword {
    entry: Entry {
        name: "tags",
        shape: Shape::List(&Shape::Glob),
        doc: "Patterns of tag names. Without it, a tag starts a run only where `branches` is not written either.",
        example: "tags: [\"v*\"]",
        required: false,
        also: &["tag"],
    },
    read: |d, at, filter| filter.tags = d.globs(at),
};

const PATHS: Keyword<PushFilter> = Keyword {
    entry: Entry {
        name: "paths",
        shape: Shape::List(&Shape::Glob),
        doc: "Patterns of files of which at least one changed.",
        example: "paths: [\"svc/checkout/**\"]",
        required: false,
        also: &["path", "files"],
    },
    read: |d, at, filter| filter.paths = d.globs(at),
};

const SCHEDULES: Table<Schedule> = &[&CRON, &TIMEZONE];

const CRON: Keyword<Schedule> = Keyword {
    entry: Entry {
        name: "cron",
        shape: Shape::Text,
        doc: "Minute, hour, day of the month, month, day of the week.",
        example: "cron: \"0 2 * * *\"",
        required: true,
        also: &[],
    },
    read: |d, at, schedule| {
        let Some(text) = d.filled(at, "a cron expression like \"0 2 * * *\"") else { return };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        match parser.parse(&text.value) {
            Ok(_) => schedule.cron = text.value,
            Err(error) => {
                let message = format!("`{}` is not a cron expression", text.value.chars().take(60).collect::<String>());
                let why = error.to_string().trim_end_matches('.').to_lowercase();
                let found = Diagnostic::error(&codes::BAD_CRON, text.span, message, why);
                d.found(found.help("write five fields: minute, hour, day of the month, month, day of the week"));
            }
        }
    },
};

const TIMEZONE: Keyword<Schedule> = Keyword {
    entry: Entry {
        name: "timezone",
        shape: Shape::Text,
        doc: "The IANA name of the time zone; `UTC` when not written.",
        example: "timezone: Europe/Berlin",
        required: false,
        also: &["tz", "time_zone"],
    },
    read: |d, at, schedule| {
        let Some(text) = d.filled(at, "the name of a time zone") else { return };
        match jiff::tz::TimeZone::get(&text.value) {
            Ok(_) => schedule.timezone = text.value,
            Err(_) => {
                let message = format!("there is no time zone `{}`", text.value.chars().take(60).collect::<String>());
                let found = Diagnostic::error(&codes::BAD_TIMEZONE, text.span, message, "unknown time zone");
                d.found(found.help("write an IANA name such as `Europe/Berlin` or `UTC`"));
            }
        }
    },
};
