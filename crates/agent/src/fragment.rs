//! Reading the pipeline fragment that a former step wrote, for `expand`.

use cas::TreeEntry;
use model::limits::FILE_BYTES_MAX;
use model::{AttemptEnd, AttemptResult, AttemptSpec, Cause};

use crate::Shared;
use crate::halt::Halt;
use crate::regular::read_regular;
use crate::run::Run;

/// The text of a file that the attempt sees.
///
/// # Errors
/// It is not there, not a regular UTF-8 file, or too long.
pub(crate) fn read_file(agent: &Shared, run: &Run, spec: &AttemptSpec, path: &str) -> Result<AttemptResult, Halt> {
    let inputs = run.inputs(spec)?;
    let path = path.trim_start_matches("./");
    let broken = |why: String| Halt::from(Cause::Broken(format!("cannot read `{path}`: {why}")));
    let digest = match inputs.full.get(path) {
        Some(TreeEntry::File { digest, .. }) => digest,
        Some(_) => return Err(broken("it is not a file".into())),
        None => {
            return Err(broken("it is not in the workspace; the step that writes it must be in `depends_on`".into()));
        }
    };
    let writer = inputs
        .stack
        .iter()
        .rev()
        .find(|done| done.layer.iter().any(|layer| layer.entries.iter().any(|entry| entry.path == path)));
    let bytes = match writer {
        Some(writer) if digest.size <= FILE_BYTES_MAX as u64 => {
            if let Some(far) = &run.far {
                // One file of a layer that may be large. Not to be had there: it is missing here, too.
                let _ = far.fetch(std::iter::once(crate::far::Wanted::plain(&digest)));
            }
            agent.store.get(&digest, FILE_BYTES_MAX).map_err(|_| Halt::Remake(writer.spec.node))?
        }
        Some(_) => return Err(broken(format!("it is longer than {FILE_BYTES_MAX} bytes"))),
        None => {
            read_regular(&run.project.root.join(path), FILE_BYTES_MAX).map_err(|error| broken(error.to_string()))?
        }
    };
    let text = String::from_utf8(bytes).map_err(|_| broken("it is not UTF-8".into()))?;
    Ok(AttemptResult { text: Some(text), ..AttemptResult::ended(AttemptEnd::Succeeded) })
}
