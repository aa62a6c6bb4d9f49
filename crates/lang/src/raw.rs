//! What a file says after decoding and before resolving: types are right, names are not yet looked up and expressions
//! not yet read.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use model::expr::Value;
use model::{
    Backoff, Bytes, CacheMode, ConcurrencyPolicy, GlobList, Matrix, Network, Param, ReportKind, RetryOn, Shell, Sla,
    Span, Timeout, Triggers, When,
};

use crate::decode::Text;

/// A pipeline file, an included one, or an expanded one: which keys it may have is the table's affair.
#[derive(Default)]
pub(crate) struct RawFile {
    pub name: Option<Text>,
    pub on: Triggers,
    pub params: BTreeMap<String, Param>,
    pub env: Vec<(Text, Text)>,
    pub defaults: RawStep,
    pub concurrency: Option<RawConcurrency>,
    pub sla: Option<Sla>,
    pub include: Vec<Text>,
    pub steps: Vec<Rc<RawStep>>,
    pub templates: Vec<Rc<RawTemplate>>,
}

#[derive(Default)]
pub(crate) struct RawConcurrency {
    pub group: Option<Text>,
    pub policy: Option<ConcurrencyPolicy>,
}

pub(crate) struct RawTemplate {
    pub name: Text,
    pub params: BTreeMap<String, Param>,
    pub steps: Vec<Rc<RawStep>>,
}

/// A step, or `defaults`.
#[derive(Clone, Default)]
pub(crate) struct RawStep {
    /// All of it.
    pub span: Span,
    /// Where to point when the step as a whole is meant.
    pub head: Span,
    /// Bytes of its texts: what a copy of it costs.
    pub bytes: usize,
    /// The keys that are written, with their places.
    pub keys: Vec<(&'static str, Span)>,
    pub id: Option<Text>,
    pub cmd: Option<Text>,
    pub uses: Option<Text>,
    pub with: Vec<(Text, With)>,
    pub approve: Option<RawApprove>,
    pub expand: Option<Text>,
    pub depends_on: Vec<Text>,
    pub when: Option<When>,
    pub condition: Option<Text>,
    pub allow_failure: Option<bool>,
    pub matrix: Option<Rc<RawMatrix>>,
    pub shards: Option<u32>,
    pub retry: Option<RawRetry>,
    pub timeout: Timeout,
    pub resources: RawResources,
    pub runs_on: Option<Vec<Text>>,
    pub shell: Option<Shell>,
    pub env: Vec<(Text, Text)>,
    pub pass_env: Vec<String>,
    pub secrets: Vec<String>,
    pub image: Option<Text>,
    pub inputs: Option<GlobList>,
    pub outputs: Option<GlobList>,
    pub network: Option<Network>,
    pub caches: Vec<RawCache>,
    pub services: Vec<RawService>,
    pub reports: BTreeMap<ReportKind, String>,
    pub artifacts: Vec<RawArtifact>,
    pub cache: Option<CacheMode>,
}

impl RawStep {
    /// Where a key is written.
    pub(crate) fn key(&self, name: &str) -> Option<Span> {
        self.keys.iter().find(|(key, _)| *key == name).map(|(_, span)| *span)
    }
}

/// A matrix with the number of its cells.
pub(crate) struct RawMatrix {
    pub matrix: Matrix,
    pub cells: usize,
    pub span: Span,
}

/// A value of `with`: as a text with expressions, and as the scalar it is.
#[derive(Clone, Debug)]
pub(crate) struct With {
    pub text: Text,
    pub value: Value,
}

#[derive(Clone, Default)]
pub(crate) struct RawApprove {
    pub by: Vec<String>,
    pub message: Option<Text>,
    pub expires: Option<Duration>,
}

#[derive(Clone, Default)]
pub(crate) struct RawRetry {
    pub attempts: Option<u16>,
    pub on: Vec<RetryOn>,
    pub backoff: Option<Backoff>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct RawResources {
    pub cpu_milli: Option<u32>,
    pub memory: Option<Bytes>,
    pub pids: Option<u32>,
    pub io_weight: Option<u16>,
    pub open_files: Option<u32>,
    pub file_size: Option<Bytes>,
    pub disk: Option<Bytes>,
    pub output: Option<Bytes>,
    pub best_effort: Option<bool>,
}

#[derive(Clone, Default)]
pub(crate) struct RawCache {
    pub path: Option<String>,
    pub key: Option<Text>,
    pub fallback: Vec<Text>,
}

#[derive(Clone, Default)]
pub(crate) struct RawService {
    pub id: Option<Text>,
    pub image: Option<Text>,
    pub cmd: Option<Text>,
    pub env: Vec<(Text, Text)>,
    pub ready: Option<model::Ready>,
}

#[derive(Clone, Default)]
pub(crate) struct RawArtifact {
    pub name: Option<Text>,
    pub path: Option<String>,
    pub version: Option<Text>,
}
