//! The floor under every server: hashing, the loopback network, the disk.

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::Digest;

use crate::content::random;
use crate::drive::{Failed, Sample};

/// Measures everything; a line of JSON each.
pub(crate) fn measure(dir: &Path, limit: Duration) -> Result<(), Failed> {
    let (small, large) = (random(1 << 10), random(16 << 20));
    repeated("sha256_1KiB", 1 << 10, limit, || {
        black_box(sha2::Sha256::digest(&small));
        Ok(())
    })?
    .print();
    repeated("sha256_16MiB", 16 << 20, limit, || {
        black_box(sha2::Sha256::digest(&large));
        Ok(())
    })?
    .print();
    repeated("blake3_16MiB", 16 << 20, limit, || {
        black_box(blake3::hash(&large));
        Ok(())
    })?
    .print();
    loopback_stream(&large, limit)?.print();
    loopback_calls(limit)?.print();
    disk("append_64x1KiB_fdatasync", dir, &random(64 << 10), 64, limit)?.print();
    disk("append_1000x1KiB_fdatasync", dir, &random(1000 << 10), 1000, limit)?.print();
    disk("append_16MiB_fdatasync", dir, &large, 1, limit)?.print();
    Ok(())
}

type Work<'a> = dyn FnMut() -> std::io::Result<()> + 'a;

fn repeated(
    name: &str,
    bytes: usize,
    limit: Duration,
    mut work: impl FnMut() -> std::io::Result<()>,
) -> std::io::Result<Sample> {
    timed(name, 1, bytes, limit, &mut work)
}

fn timed(name: &str, items: usize, bytes: usize, limit: Duration, work: &mut Work<'_>) -> std::io::Result<Sample> {
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < limit {
        let call = Instant::now();
        work()?;
        took.push(call.elapsed().as_micros() as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    took.sort_unstable();
    Ok(Sample {
        measure: name.to_owned(),
        clients: 1,
        calls: took.len(),
        items: took.len() * items,
        bytes: (took.len() * bytes) as u64,
        seconds,
        p50_us: took.get(took.len() / 2).copied().unwrap_or_default(),
        p99_us: took.get(took.len() * 99 / 100).copied().unwrap_or_default(),
        ..Sample::default()
    })
}

/// One connection, all in one direction.
fn loopback_stream(content: &[u8], limit: Duration) -> std::io::Result<Sample> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let reader = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 256 << 10];
        while stream.read(&mut buffer)? > 0 {}
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    let sample = repeated("loopback_stream", content.len(), limit, || stream.write_all(content));
    drop(stream);
    let _ = reader.join();
    sample
}

/// One connection, 1 KiB there and a byte back.
fn loopback_calls(limit: Duration) -> std::io::Result<Sample> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let answerer = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; 1 << 10];
        while stream.read_exact(&mut buffer).is_ok() {
            stream.write_all(&[1])?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = random(1 << 10);
    let mut answer = [0];
    let sample = repeated("loopback_call_1KiB", 1 << 10, limit, || {
        stream.write_all(&request)?;
        stream.read_exact(&mut answer)
    });
    drop(stream);
    let _ = answerer.join();
    sample
}

/// Appends to a file and has the disk take it.
fn disk(name: &str, dir: &Path, content: &[u8], items: usize, limit: Duration) -> std::io::Result<Sample> {
    let mut file: File = tempfile::tempfile_in(dir)?;
    timed(name, items, content.len(), limit, &mut || {
        file.write_all(content)?;
        file.sync_data()
    })
}
