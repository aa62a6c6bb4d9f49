//! Ids: one type per thing that can be confused with another.

use alloc::sync::Arc;
use core::fmt;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text that was already checked where it came in.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl core::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
    };
}

name_type!(
    /// A step as it is written in the pipeline: `build`, `deploy.test` (a step of template use `deploy`).
    StepId
);
name_type!(
    /// One run. Chosen by whoever asks for the run; unique among all runs.
    RunId
);
name_type!(
    /// A process that executes attempts.
    AgentId
);
name_type!(
    /// A repository and its pipelines on a server: `web`, `team/web`. Chosen by people, never changed.
    ProjectId
);

/// The position of a step instance in [`crate::Plan::nodes`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct NodeIx(pub u32);

/// The position of a step in [`crate::Plan::groups`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct GroupIx(pub u32);

impl NodeIx {
    /// As an index.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}
impl GroupIx {
    /// As an index.
    pub fn at(self) -> usize {
        self.0 as usize
    }
}

/// The number of a run within its project, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct RunNumber(pub u64);

/// The try of a step instance, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
pub struct AttemptNo(pub u16);

/// The fencing number of a lease. Each lease of the world gets a higher one, so a late report shows itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Fence(pub u64);

impl fmt::Display for RunNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}
impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
