//! Why an attempt does not go on.

use std::path::Path;

use model::{AttemptEnd, Cause, NodeIx};

/// Why an attempt does not go on.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It ends like this.
    Ends(AttemptEnd),
    /// The stored layer of this instance cannot be restored: it must be made again first.
    Remake(NodeIx),
}

impl From<Cause> for Halt {
    fn from(cause: Cause) -> Halt {
        Halt::Ends(AttemptEnd::Failed(cause))
    }
}
impl From<cas::StoreError> for Halt {
    fn from(error: cas::StoreError) -> Halt {
        trouble(&error)
    }
}

/// Something around the step failed.
pub(crate) fn trouble(error: &impl std::fmt::Display) -> Halt {
    let why = error.to_string();
    // The one trouble whose remedy is the same wherever it shows up.
    let advice = if why.contains("No space left on device") || why.contains("os error 28") {
        "; the disk is full: free some space, or run `pace cache gc`"
    } else {
        ""
    };
    Cause::Infrastructure(format!("{why}{advice}")).into()
}

/// The file system refused.
pub(crate) fn io(act: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Halt {
    move |error| trouble(&format!("cannot {act} {}: {error}", path.display()))
}
