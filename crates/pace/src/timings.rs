//! How long instances took before: for the order of the queue and for estimates, never for results.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const FILE: &str = "timings.json";
/// More instances than any pipeline has are somebody's mistake.
const ENTRIES_MAX: usize = 50_000;
/// Weight of the newest run in the moving average.
const NEWEST: f64 = 0.4;

/// Milliseconds by instance name. A file that cannot be read is no timings: they only make things nicer.
pub fn load(folder: &Path) -> BTreeMap<String, Duration> {
    let Ok(text) = std::fs::read(folder.join(FILE)) else { return BTreeMap::new() };
    let millis: BTreeMap<String, u64> = serde_json::from_slice(&text).unwrap_or_default();
    millis.into_iter().map(|(name, ms)| (name, Duration::from_millis(ms))).collect()
}

/// Folds the executions of a run into the averages and writes them back in one piece.
pub fn save(
    folder: &Path,
    mut known: BTreeMap<String, Duration>,
    executed: impl Iterator<Item = (String, Duration)>,
) -> std::io::Result<()> {
    for (name, took) in executed {
        let averaged = known.get(&name).map_or(took, |before| before.mul_f64(1.0 - NEWEST) + took.mul_f64(NEWEST));
        known.insert(name, averaged);
    }
    let millis: BTreeMap<&String, u64> =
        known.iter().take(ENTRIES_MAX).map(|(name, took)| (name, took.as_millis() as u64)).collect();
    let text = serde_json::to_vec(&millis).map_err(std::io::Error::other)?;
    let fresh = folder.join(format!("{FILE}.{}", std::process::id()));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, folder.join(FILE))
}
