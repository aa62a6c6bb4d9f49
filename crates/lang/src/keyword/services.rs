//! `services`.

use std::time::Duration;

use model::limits::SERVICES_MAX;
use model::{Probe, Ready};

use super::{Entry, Keyword, MapShape, Shape, Table, codes, entries};
use crate::diagnostic::Diagnostic;
use crate::raw::{RawService, RawStep};

/// A database on a busy machine is up in half of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

pub(super) const SERVICES: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "services",
        shape: Shape::List(&Shape::Map(&MapShape { name: "service", entries: || entries(TABLE), rest: None })),
        doc: "Processes that run beside the step, such as a database. They share its network and end with it.",
        example: "services: [{ id: db, image: \"registry.example.com/postgres:16\", ready: { tcp: 5432, within: 30s } }]",
        required: false,
        also: &["service", "sidecars"],
    },
    read: |d, at, step| {
        let items = d.list(at, "a list of `{ id, image }`").unwrap_or_default();
        if items.len() > SERVICES_MAX {
            return d.bad(at, format_args!("{} services; a step has at most {SERVICES_MAX}", items.len()));
        }
        for item in items {
            let mut service = RawService::default();
            d.table(item, "a service", TABLE, &mut service);
            let Some(id) = service.id.clone() else { continue };
            if service.image.is_none() && service.cmd.is_none() {
                d.bad(item, format_args!("service `{}` has neither `image` nor `cmd`", id.value));
            }
            let earlier =
                step.services.iter().filter_map(|other| other.id.as_ref()).find(|other| other.value == id.value);
            if let Some(earlier) = earlier {
                let message = format!("two services are called `{}`", id.value);
                let found = Diagnostic::error(&codes::DUPLICATE_NAME, id.span, message, "again");
                d.found(found.also(earlier.span, "first here").help("give one of them another id"));
            }
            step.services.push(service);
        }
    },
};

const TABLE: Table<RawService> = &[&ID, &IMAGE, &CMD, &ENV, &READY];

const ID: Keyword<RawService> = Keyword {
    entry: Entry {
        name: "id",
        shape: Shape::Name,
        doc: "Its name, which is also its host name.",
        example: "id: db",
        required: true,
        also: &["name"],
    },
    read: |d, at, service| {
        if let Some(id) = d.filled(at, "a name")
            && d.name_fits(&id, "a service's id", true)
        {
            service.id = Some(id);
        }
    },
};

const IMAGE: Keyword<RawService> = Keyword {
    entry: Entry {
        name: "image",
        shape: Shape::Template,
        doc: "Its container image.",
        example: "image: \"registry.example.com/postgres:16\"",
        required: false,
        also: &["container"],
    },
    read: |d, at, service| service.image = d.filled(at, "the name of an image"),
};

const CMD: Keyword<RawService> = Keyword {
    entry: Entry {
        name: "cmd",
        shape: Shape::Template,
        doc: "Its command, instead of the image's own, or where there is no image.",
        example: "cmd: redis-server --save ''",
        required: false,
        also: &["command", "run"],
    },
    read: |d, at, service| service.cmd = d.filled(at, "a command"),
};

const ENV: Keyword<RawService> = Keyword {
    entry: Entry {
        name: "env",
        shape: Shape::Named(&Shape::Template),
        doc: "Its environment.",
        example: "env: { POSTGRES_PASSWORD: x }",
        required: false,
        also: &["environment"],
    },
    read: |d, at, service| service.env = d.env(at),
};

const READY: Keyword<RawService> = Keyword {
    entry: Entry {
        name: "ready",
        shape: Shape::Map(&MapShape { name: "ready", entries: || entries(READIES), rest: None }),
        doc: "How to know that it is up: one of `tcp`, `http`, `cmd`. The step starts after it.",
        example: "ready: { tcp: 5432, within: 30s }",
        required: false,
        also: &["healthcheck", "health", "wait"],
    },
    read: |d, at, service| {
        let mut raw = RawReady::default();
        d.table(at, "`ready`", READIES, &mut raw);
        if raw.probes.len() == 1 {
            let probe = raw.probes.remove(0);
            service.ready = Some(Ready { probe, within: raw.within.unwrap_or(READY_WITHIN) });
        } else {
            d.bad(at, "exactly one of `tcp`, `http` and `cmd` says when it is ready");
        }
    },
};

#[derive(Default)]
struct RawReady {
    probes: Vec<Probe>,
    within: Option<Duration>,
}

const READIES: Table<RawReady> = &[&TCP, &HTTP, &PROBE, &WITHIN];

const TCP: Keyword<RawReady> = Keyword {
    entry: Entry {
        name: "tcp",
        shape: Shape::Whole(1, 65535),
        doc: "This port accepts connections.",
        example: "tcp: 5432",
        required: false,
        also: &["port"],
    },
    read: |d, at, ready| ready.probes.extend(d.whole(at, 1, 65535).map(|port| Probe::Tcp(port as u16))),
};

const HTTP: Keyword<RawReady> = Keyword {
    entry: Entry {
        name: "http",
        shape: Shape::Text,
        doc: "`:port/path` answers with a 2xx status.",
        example: "http: \":8080/health\"",
        required: false,
        also: &["url"],
    },
    read: |d, at, ready| {
        let Some(text) = d.filled(at, "`:port/path`") else { return };
        let port = text.value.strip_prefix(':').map(|rest| rest.split('/').next().unwrap_or(""));
        if port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            ready.probes.push(Probe::Http(text.value));
        } else {
            d.bad(at, "write it like `:8080/health`");
        }
    },
};

const PROBE: Keyword<RawReady> = Keyword {
    entry: Entry {
        name: "cmd",
        shape: Shape::Text,
        doc: "This command exits 0.",
        example: "cmd: pg_isready",
        required: false,
        also: &["exec", "command"],
    },
    read: |d, at, ready| ready.probes.extend(d.filled(at, "a command").map(|text| Probe::Cmd(text.value))),
};

const WITHIN: Keyword<RawReady> = Keyword {
    entry: Entry {
        name: "within",
        shape: Shape::Duration,
        doc: "After how long the step fails; 60s when not written.",
        example: "within: 30s",
        required: false,
        also: &["timeout"],
    },
    read: |d, at, ready| ready.within = d.duration(at),
};
