//! Specs for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{CacheMode, CommandSpec, Glob, GlobList, Network, Shell};

/// A command with nothing but a script.
pub(crate) fn command(script: &str) -> CommandSpec {
    CommandSpec {
        script: script.into(),
        shell: Shell::Sh,
        step: "step".into(),
        shard: None,
        env: Arc::default(),
        run_env: Arc::default(),
        pass_env: Vec::new(),
        secrets: Vec::new(),
        image: None,
        inputs: None,
        outputs: None,
        network: Network::None,
        caches: Vec::new(),
        services: Vec::new(),
        reports: BTreeMap::new(),
        artifacts: Vec::new(),
        cache: CacheMode::Auto,
        fresh: false,
        verify: false,
        has_dependants: true,
    }
}

pub(crate) fn globs(patterns: &[&str]) -> GlobList {
    GlobList(patterns.iter().map(|pattern| Glob::parse(pattern).expect(pattern)).collect())
}
