//! `retry`.

use std::time::Duration;

use model::limits::ATTEMPTS_MAX;
use model::{Backoff, RetryOn};

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::decode::{At, Decoder};
use crate::raw::{RawRetry, RawStep};
use crate::yaml::Kind;

pub(super) const RETRY: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "retry",
        shape: Shape::Map(&MapShape { name: "retry", entries: || entries(TABLE), rest: None }),
        doc: "Further attempts when the step fails.",
        example: "retry: { attempts: 3, on: [lost, timeout, exit: 75] }",
        required: false,
        also: &["retries"],
    },
    read: |d, at, step| {
        if let Kind::Scalar(scalar) = d.kind(at.node)
            && let Some(number) = scalar.as_int()
        {
            return d.wrong(at, &format!("a map like `{{ attempts: {} }}`", number.clamp(1, 100)));
        }
        d.table(at, "`retry`", TABLE, step.retry.get_or_insert_default());
    },
};

const TABLE: Table<RawRetry> = &[&ATTEMPTS, &ON, &BACKOFF];

const ATTEMPTS: Keyword<RawRetry> = Keyword {
    entry: Entry {
        name: "attempts",
        shape: Shape::Whole(1, ATTEMPTS_MAX as i64),
        doc: "Attempts in all, the first one counted.",
        example: "attempts: 3",
        required: true,
        also: &["max", "limit", "max_attempts", "count"],
    },
    read: |d, at, retry| {
        retry.attempts = d.whole(at, 1, i64::from(ATTEMPTS_MAX)).and_then(|attempts| u16::try_from(attempts).ok());
    },
};

const ON: Keyword<RawRetry> = Keyword {
    entry: Entry {
        name: "on",
        shape: Shape::List(&Shape::Either(&[
            Shape::Words(&["lost", "timeout", "any"]),
            Shape::Map(&MapShape { name: "cause", entries: || entries(CAUSES), rest: None }),
        ])),
        doc: "Which failures: the agent was `lost`, a `timeout`, an exit code (`exit: 75`), a signal (`signal: 9`), or `any`. \
              Without it: any.",
        example: "on: [lost, timeout, exit: 75]",
        required: false,
        also: &["when", "if"],
    },
    read: |d, at, retry| {
        for item in d.list(at, "a list of causes").unwrap_or_default() {
            retry.on.extend(cause(d, item));
        }
    },
};

fn cause(d: &mut Decoder<'_>, at: At) -> Vec<RetryOn> {
    if let Kind::Map(_) = d.kind(at.node) {
        let mut causes = Vec::new();
        d.table(at, "a cause", CAUSES, &mut causes);
        return causes;
    }
    let words = [("lost", RetryOn::Lost), ("timeout", RetryOn::Timeout), ("any", RetryOn::Any)];
    d.word(at, &words).into_iter().collect()
}

const CAUSES: Table<Vec<RetryOn>> = &[&EXIT, &SIGNAL];

const EXIT: Keyword<Vec<RetryOn>> = Keyword {
    entry: Entry {
        name: "exit",
        shape: Shape::Whole(1, 255),
        doc: "This exit code.",
        example: "exit: 75",
        required: false,
        also: &["exit_code", "exit_status", "code"],
    },
    read: |d, at, causes| causes.extend(d.whole(at, 1, 255).map(|code| RetryOn::Exit(code as i32))),
};

const SIGNAL: Keyword<Vec<RetryOn>> = Keyword {
    entry: Entry {
        name: "signal",
        shape: Shape::Whole(1, 64),
        doc: "Ended by this signal.",
        example: "signal: 9",
        required: false,
        also: &[],
    },
    read: |d, at, causes| causes.extend(d.whole(at, 1, 64).map(|signal| RetryOn::Signal(signal as i32))),
};

const BACKOFF: Keyword<RawRetry> = Keyword {
    entry: Entry {
        name: "backoff",
        shape: Shape::Map(&MapShape { name: "backoff", entries: || entries(WAITS), rest: None }),
        doc: "How long to wait before the next attempt. Without it: 1s, doubled each time, at most 30s, a tenth of it random.",
        example: "backoff: { initial: 1s, factor: 2, max: 30s, jitter: 0.1 }",
        required: false,
        also: &["wait", "delay"],
    },
    read: |d, at, retry| {
        let backoff = retry.backoff.get_or_insert_default();
        d.table(at, "`backoff`", WAITS, backoff);
        // A longer first wait without a written bound is the bound.
        backoff.max = backoff.max.max(backoff.initial);
    },
};

const WAITS: Table<Backoff> = &[&INITIAL, &FACTOR, &MAX, &JITTER];

const INITIAL: Keyword<Backoff> = Keyword {
    entry: Entry {
        name: "initial",
        shape: Shape::Duration,
        doc: "Before the second attempt.",
        example: "initial: 1s",
        required: false,
        also: &["delay", "base"],
    },
    read: |d, at, backoff| backoff.initial = d.duration(at).unwrap_or(Duration::from_secs(1)),
};

const FACTOR: Keyword<Backoff> = Keyword {
    entry: Entry {
        name: "factor",
        shape: Shape::Number(1.0, 100.0),
        doc: "By how much each wait is longer than the one before.",
        example: "factor: 2",
        required: false,
        also: &["multiplier"],
    },
    read: |d, at, backoff| backoff.factor = d.number(at, 1.0, 100.0).unwrap_or(2.0),
};

const MAX: Keyword<Backoff> = Keyword {
    entry: Entry {
        name: "max",
        shape: Shape::Duration,
        doc: "The longest wait.",
        example: "max: 30s",
        required: false,
        also: &["cap", "limit"],
    },
    read: |d, at, backoff| backoff.max = d.duration(at).unwrap_or(Duration::from_secs(30)),
};

const JITTER: Keyword<Backoff> = Keyword {
    entry: Entry {
        name: "jitter",
        shape: Shape::Number(0.0, 1.0),
        doc: "The share of a wait that is random, so that many steps do not come back at one moment.",
        example: "jitter: 0.1",
        required: false,
        also: &["random"],
    },
    read: |d, at, backoff| backoff.jitter = d.number(at, 0.0, 1.0).unwrap_or(0.1),
};
