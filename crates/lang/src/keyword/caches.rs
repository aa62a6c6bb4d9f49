//! `caches`.

use super::{Entry, Keyword, MapShape, Shape, Table, entries};
use crate::raw::{RawCache, RawStep};

pub(super) const CACHES: Keyword<RawStep> = Keyword {
    entry: Entry {
        name: "caches",
        shape: Shape::List(&Shape::Map(&MapShape { name: "cache", entries: || entries(TABLE), rest: None })),
        doc: "Folders that tools keep between runs: a module cache, `target/`. They make a step faster and are never part of its result.",
        example: "caches: [{ path: ~/go/pkg/mod, key: \"go-${{ hash('go.sum') }}\", fallback: [\"go-\"] }]",
        required: false,
        also: &["volumes", "cache_dirs"],
    },
    read: |d, at, step| {
        for item in d.list(at, "a list of `{ path, key }`").unwrap_or_default() {
            let mut cache = RawCache::default();
            d.table(item, "a cache", TABLE, &mut cache);
            step.caches.push(cache);
        }
    },
};

const TABLE: Table<RawCache> = &[&PATH, &KEY, &FALLBACK];

const PATH: Keyword<RawCache> = Keyword {
    entry: Entry {
        name: "path",
        shape: Shape::Text,
        doc: "Where the step sees it: `~/…` in its home, absolute, or in the workspace.",
        example: "path: ~/go/pkg/mod",
        required: true,
        also: &["dir", "folder", "paths"],
    },
    read: |d, at, cache| {
        let Some(text) = d.filled(at, "a path") else { return };
        let path = text.value.trim_end_matches('/');
        let body = path.strip_prefix("~/").unwrap_or(path);
        if body.is_empty() || body == "~" || body.starts_with('~') {
            d.bad(at, "a cache is a folder below `~/`, `/` or the workspace, not one of these itself");
        } else if body.split('/').any(|part| part == "..") || body.chars().any(char::is_control) {
            d.bad(at, "the path of a cache has no `..` and no control characters");
        } else {
            cache.path = Some(path.to_string());
        }
    },
};

const KEY: Keyword<RawCache> = Keyword {
    entry: Entry {
        name: "key",
        shape: Shape::Template,
        doc: "Its name. Steps with the same key share it.",
        example: "key: \"go-${{ hash('go.sum') }}\"",
        required: true,
        also: &["name", "id"],
    },
    read: |d, at, cache| cache.key = d.filled(at, "a text, which may hold `${{ }}`"),
};

const FALLBACK: Keyword<RawCache> = Keyword {
    entry: Entry {
        name: "fallback",
        shape: Shape::List(&Shape::Template),
        doc: "Beginnings of other keys whose newest cache is copied where `key` is new.",
        example: "fallback: [\"go-\"]",
        required: false,
        also: &["restore-keys", "restore_keys", "fallback_keys"],
    },
    read: |d, at, cache| cache.fallback = d.texts(at, "a list of texts"),
};
