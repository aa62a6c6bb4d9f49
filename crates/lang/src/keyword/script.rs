//! `cmd` and the keys that say where and how it runs.

use model::limits::NETWORK_HOSTS_MAX;
use model::{CacheMode, HostPort, Network, Shell};

use super::{Entry, Keyword, Shape};
use crate::decode::{At, Decoder};
use crate::raw::RawStep;
use crate::yaml::Kind;

pub(super) const CMD: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "cmd",
        shape: Shape::Template,
        doc: "The script. Values in `${{ }}` that a stranger can set, such as a branch name, are handed over in variables and \
              never become part of the script's text.",
        example: "cmd: go build -o bin/app .",
        required: false,
        also: &["run", "script", "command", "commands", "sh", "exec", "before_script"],
    },
    read: |d, at, step| {
        if matches!(d.kind(at.node), Kind::List(_)) {
            return d.wrong(at, "one text (several lines: a block with `|`)");
        }
        step.cmd = d.filled(at, "a script");
    },
};

pub(super) const SHELL: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "shell",
        shape: Shape::Either(&[Shape::Words(&["sh", "bash", "python"]), Shape::List(&Shape::Text)]),
        doc: "Who reads the script: `sh` (default, with `-eu`), `bash` (with `-euo pipefail`), `python`, or a command to which \
              the script's file is appended.",
        example: "shell: bash",
        required: false,
        also: &["interpreter"],
    },
    read: |d, at, step| step.shell = shell(d, at),
};

fn shell(d: &mut Decoder<'_>, at: At) -> Option<Shell> {
    if !matches!(d.kind(at.node), Kind::List(_)) {
        return d.word(at, &[("sh", Shell::Sh), ("bash", Shell::Bash), ("python", Shell::Python)]);
    }
    let words: Vec<String> = d.texts(at, "a list of words").into_iter().map(|text| text.value).collect();
    if words.is_empty() {
        d.bad(at, "the list has at least the name of a program");
        return None;
    }
    Some(Shell::Argv(words))
}

pub(super) const PASS_ENV: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "pass_env",
        shape: Shape::List(&Shape::Name),
        doc: "Names of variables to take from the environment of whoever runs the pipeline. Their values are part of the cache key.",
        example: "pass_env: [HTTPS_PROXY]",
        required: false,
        also: &["passenv", "env_passthrough"],
    },
    read: |d, at, step| step.pass_env = names(d, at),
};

pub(super) const SECRETS: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "secrets",
        shape: Shape::List(&Shape::Name),
        doc: "Names of secrets, which the script finds as variables. Their values are masked in the log and never in a cache key.",
        example: "secrets: [REGISTRY_TOKEN]",
        required: false,
        also: &["secret"],
    },
    read: |d, at, step| step.secrets = names(d, at),
};

fn names(d: &mut Decoder<'_>, at: At) -> Vec<String> {
    let mut names = Vec::new();
    for text in d.texts(at, "a list of names") {
        if d.name_fits(&text, "a variable's name", false) {
            names.push(text.value);
        }
    }
    names
}

pub(super) const IMAGE: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "image",
        shape: Shape::Template,
        doc: "The container image whose files the step sees; `host` (default): those of the machine.",
        example: "image: \"registry.example.com/golang:1.23\"",
        required: false,
        also: &["container", "docker"],
    },
    read: |d, at, step| step.image = d.filled(at, "the name of an image"),
};

pub(super) const INPUTS: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "inputs",
        shape: Shape::List(&Shape::Glob),
        doc: "The only files the step sees, and the only ones its cache key depends on. Without it: the whole workspace.",
        example: "inputs: [go.mod, go.sum, \"**/*.go\"]",
        required: false,
        also: &["sources", "srcs", "files"],
    },
    read: |d, at, step| step.inputs = d.globs(at),
};

pub(super) const OUTPUTS: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "outputs",
        shape: Shape::List(&Shape::Glob),
        doc: "The files that later steps see. Without it: everything the step wrote.",
        example: "outputs: [bin/app]",
        required: false,
        also: &["produces", "generates", "output"],
    },
    read: |d, at, step| step.outputs = d.globs(at),
};

pub(super) const NETWORK: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "network",
        shape: Shape::Either(&[Shape::Words(&["none", "full"]), Shape::List(&Shape::Text)]),
        doc: "What it may reach: nothing but itself (`none`, the default), everything (`full`), or a list of `host:port`. A host is a name, an address, or `*.example.com` for all \
              names below. The host's own loopback is never reached.",
        example: "network: [\"proxy.example.com:443\", \"*.example.org:443\"]",
        required: false,
        also: &["internet", "net"],
    },
    read: |d, at, step| step.network = network(d, at),
};

fn network(d: &mut Decoder<'_>, at: At) -> Option<Network> {
    if !matches!(d.kind(at.node), Kind::List(_)) {
        return d.word(at, &[("none", Network::None), ("full", Network::Full)]);
    }
    let mut hosts = Vec::new();
    let items = d.list(at, "a list of `host:port`").unwrap_or_default();
    if items.len() > NETWORK_HOSTS_MAX {
        d.bad(at, format_args!("{} hosts; a list has at most {NETWORK_HOSTS_MAX}", items.len()));
        return None;
    }
    for item in items {
        let Some(text) = d.filled(item, "`host:port` in each place") else { continue };
        match text.value.parse::<HostPort>() {
            Ok(_) => hosts.push(text.value),
            Err(error) => d.bad(item, error),
        }
    }
    Some(Network::Hosts(hosts))
}

pub(super) const CACHE: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "cache",
        shape: Shape::Words(&["auto", "never"]),
        doc: "Whether a result with the same inputs is taken instead of running again: yes (`auto`, the default) or `never`.",
        example: "cache: never",
        required: false,
        also: &["cacheable", "memoize"],
    },
    read: |d, at, step| step.cache = d.word(at, &[("auto", CacheMode::Auto), ("never", CacheMode::Never)]),
};
