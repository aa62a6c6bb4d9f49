//! On what terms a run runs among others: what a server adds to it. On a desk there is one run, and all of this is empty.

use alloc::collections::BTreeMap;
use alloc::string::String;

use crate::{ProjectId, RunId, RunNumber};

/// The lowest priority of a run.
pub const PRIORITY_MIN: i32 = -100;
/// The highest priority of a run.
pub const PRIORITY_MAX: i32 = 100;

/// On what terms a run runs among others.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Terms {
    /// The project. `None`: a run on a desk, where nobody is there to approve anything.
    pub project: Option<ProjectId>,
    /// Who pays: tenants get equal shares of the agents. Empty: the project.
    pub tenant: String,
    /// Higher goes first among the runs of a tenant: [`PRIORITY_MIN`] to [`PRIORITY_MAX`], 0 is usual. What lies outside
    /// counts as the bound.
    pub priority: i32,
    /// It waits until somebody lets it go; the text says why: `a pull request of a fork`.
    pub held: Option<String>,
    /// It comes from a fork: no secrets, read-only cache.
    pub fork: bool,
    /// Who asked for it: `user:anna`, `delivery:…`, `schedule`.
    pub by: String,
    /// The project's values: `values.NAME` in expressions.
    pub values: BTreeMap<String, String>,
    /// The ended run that this one does again.
    pub again: Option<AgainOf>,
}

/// The ended run that another does again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct AgainOf {
    /// The run.
    pub run: RunId,
    /// Its number.
    pub number: RunNumber,
}

impl Terms {
    /// Who shares the agents with others: the tenant, else the project, else nobody in particular.
    pub fn payer(&self) -> &str {
        match (self.tenant.as_str(), &self.project) {
            ("", Some(project)) => project.as_str(),
            (tenant, _) => tenant,
        }
    }
    /// The priority within its bounds.
    pub fn priority(&self) -> i32 {
        self.priority.clamp(PRIORITY_MIN, PRIORITY_MAX)
    }
}
