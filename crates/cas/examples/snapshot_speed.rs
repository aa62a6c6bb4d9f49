//! How long a snapshot of 10,000 files takes, cold and warm, beside `git status`; and what trees and small blobs cost.
//!
//! `cargo run --release -p paceline-cas --example snapshot_speed`

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cas::{Layer, LayerEntry, LayerKind, Snapshot, Store, Tree};

const FILES: usize = 10_000;
const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let (repo, index) = (dir.path().join("repo"), dir.path().join("cache/index"));
    make_repository(&repo)?;
    // Files as young as the index are read again, by Git too; a real repository is older than that.
    std::thread::sleep(Duration::from_millis(2100));
    let cold = timed(|| Snapshot::take(&repo, &index))?;
    let snapshot = Snapshot::take(&repo, &index)?;
    let status = || Command::new("git").arg("-C").arg(&repo).args(["status", "--porcelain"]).output();
    status()?;
    let (mut warm, mut git) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        git.push(timed(status)?);
        warm.push(timed(|| Snapshot::take(&repo, &index))?);
    }
    let (warm, git) = (median(warm), median(git));
    println!("snapshot of {} files, cold      {:8.2} ms", snapshot.files, ms(cold));
    println!("snapshot, warm (median of {ROUNDS})     {:8.2} ms", ms(warm));
    println!("git status (median of {ROUNDS})         {:8.2} ms", ms(git));
    println!("ratio                           {:8.2}", warm.as_secs_f64() / git.as_secs_f64());
    let since = timed(|| Ok::<_, Box<dyn Error>>(snapshot.changed_since()))?;
    println!("changed since                   {:8.2} ms", ms(since));
    trees(&snapshot)?;
    small_blobs(&dir.path().join("cache"))
}

fn trees(snapshot: &Snapshot) -> Result<(), Box<dyn Error>> {
    let entries = snapshot.tree.entries();
    let build = median(
        (0..ROUNDS)
            .map(|_| {
                timed(|| {
                    Tree::from_entries(entries.iter().map(|(path, entry)| (path.as_str(), entry.clone())))
                        .map(|t| t.digest())
                })
            })
            .collect::<Result<_, _>>()?,
    );
    println!("tree of {FILES} files, with digest {:8.2} ms", ms(build));
    let kind = LayerKind::File { digest: Store::digest_of(b"new"), executable: false, mtime_ns: 0 };
    let layer = Layer { entries: vec![LayerEntry { path: "d7/s3/new".into(), kind }] };
    snapshot.tree.digest();
    let overlay = median(
        (0..ROUNDS)
            .map(|_| timed(|| Ok::<_, Box<dyn Error>>(snapshot.tree.overlay(&layer).digest())))
            .collect::<Result<_, _>>()?,
    );
    println!("small layer over it, with digest {:7.3} ms", ms(overlay));
    Ok(())
}

fn small_blobs(root: &Path) -> Result<(), Box<dyn Error>> {
    let store = Store::open(root)?;
    let started = Instant::now();
    for n in 0..2000u32 {
        store.put(&[&n.to_le_bytes()[..], &[7; 1000]].concat())?;
    }
    let took = started.elapsed();
    println!("put of 1 KiB                    {:8.3} ms", ms(took) / 2000.0);
    Ok(())
}

fn make_repository(repo: &Path) -> Result<(), Box<dyn Error>> {
    for n in 0..FILES {
        let folder = repo.join(format!("d{}/s{}", n % 40, n / 40 % 10));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(format!("file{n}.txt")), format!("content of file {n}\n").repeat(40))?;
    }
    for arguments in [
        &["init", "-q"][..],
        &["add", "."],
        &["-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "-q", "-m", "x"],
    ] {
        Command::new("git").arg("-C").arg(repo).args(arguments).status()?;
    }
    Ok(())
}

fn timed<T, E: Into<Box<dyn Error>>>(act: impl FnOnce() -> Result<T, E>) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    act().map_err(Into::into)?;
    Ok(started.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
