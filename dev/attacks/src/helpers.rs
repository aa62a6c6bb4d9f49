//! What an attack has another copy of this program do.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::kernel::{call, memory, text};
use crate::privileges::run_as;

/// `helper WORD`: says something about the process that it became.
pub fn help(args: &[String]) -> ExitCode {
    match args.first().map(String::as_str) {
        Some("users") => {
            let (real, effective) = crate::kernel::users();
            println!("{}", if real == effective { "same".into() } else { format!("user {effective}") });
        }
        Some("groups") => println!("{}", groups()),
        Some("capabilities") => println!("{}", status("CapEff").unwrap_or_default()),
        Some("overlay") => overlay(&args[1..]),
        Some("deep") => deep(args.get(1).and_then(|count| count.parse().ok()).unwrap_or(0)),
        Some("names") => names(),
        Some("fork") => return fork_bomb(number(args)),
        Some("memory") => return memory_bomb(number(args)),
        Some("memory-file") => return memory_file(number(args)),
        Some("fill") => return fill(args.get(2).map_or("fill", String::as_str), number(args)),
        Some("files") => return files(number(args)),
        Some("descriptors") => return descriptors(),
        Some("fetch") => args[1..].iter().for_each(|address| fetch(address)),
        Some("proxy") => args[1..].iter().for_each(|address| proxy(address)),
        Some("name") => args[1..].iter().for_each(|name| ask(name)),
        Some("run-as") => println!("run-as: {}", run_as(args.get(1).map_or("", String::as_str))),
        Some("rights") => {
            println!("rights: {}", crate::privileges::status("CapEff", |value| value == "0000000000000000"))
        }
        Some("write-root") => write_root(),
        Some("linger") => linger(),
        Some("meet") => meet(),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

/// Leaves a file in the root's folder, and says whether it was there.
fn write_root() {
    let known = fs::metadata("/etc/written").is_ok();
    let written = fs::write("/etc/written", "x");
    println!(
        "it {}, {}",
        if known { "is there" } else { "was not there" },
        written.map_or_else(|e| e.to_string(), |()| "and is now".into())
    );
}

fn number(args: &[String]) -> usize {
    args.get(1).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Says what stopped it, and fails: a limit is named only where a step failed.
fn stopped(what: &str, error: std::io::Error) -> ExitCode {
    println!("{what}: {}", Outcome::from(error));
    ExitCode::FAILURE
}

fn fork_bomb(count: usize) -> ExitCode {
    for _ in 0..count {
        let started = crate::kernel::fork(|| {
            std::thread::sleep(Duration::from_secs(60));
            0
        });
        if let Err(error) = started {
            return stopped("fork", error);
        }
    }
    println!("ESCAPED: {count} processes run");
    ExitCode::SUCCESS
}

fn memory_bomb(mebibytes: usize) -> ExitCode {
    let mut all = Vec::new();
    for number in 0..mebibytes {
        all.push(vec![number as u8 | 1; 1 << 20]);
    }
    // Long enough to be seen by whoever only looks now and then.
    std::thread::sleep(Duration::from_secs(3));
    println!("ESCAPED: it took {} MiB", all.len());
    ExitCode::SUCCESS
}

fn memory_file(mebibytes: usize) -> ExitCode {
    let file = match crate::kernel::call_for_fd(libc::SYS_memfd_create, &[text(c"bomb"), 0]) {
        Ok(fd) => fs::File::from(fd),
        Err(error) => return stopped("memory file", error),
    };
    fill_file(file, mebibytes)
}

fn fill(path: &str, mebibytes: usize) -> ExitCode {
    match fs::File::create(path) {
        Ok(file) => fill_file(file, mebibytes),
        Err(error) => stopped("fill", error),
    }
}

fn fill_file(mut file: fs::File, mebibytes: usize) -> ExitCode {
    for number in 0..mebibytes {
        if let Err(error) = file.write_all(&vec![number as u8 | 1; 1 << 20]) {
            return stopped("fill", error);
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    println!("ESCAPED: it wrote {mebibytes} MiB");
    ExitCode::SUCCESS
}

fn files(count: usize) -> ExitCode {
    let _ = fs::create_dir("files");
    for number in 0..count {
        if let Err(error) = fs::write(format!("files/{number}"), "") {
            return stopped("files", error);
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    println!("ESCAPED: it made {count} files");
    ExitCode::SUCCESS
}

fn descriptors() -> ExitCode {
    let mut open = Vec::new();
    loop {
        match fs::File::open("/dev/null") {
            Ok(file) if open.len() < 100_000 => open.push(file),
            Ok(_) => break,
            Err(error) => return stopped("open", error),
        }
    }
    println!("ESCAPED: {} are open", open.len());
    ExitCode::SUCCESS
}

/// Whether a server says anything. To have connected is not enough: that may be a gate.
fn fetch(address: &str) {
    let answer = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n")?;
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    });
    match answer {
        Ok(text) if text.contains("attacked") => println!("{address}: ESCAPED: {text}"),
        _ => println!("{address}: no answer"),
    }
}

/// The same by the proxy that the step was told of.
fn proxy(address: &str) {
    let proxy = std::env::var("PACE_PROXY").unwrap_or_default();
    let proxy = proxy.trim_start_matches("http://").trim_end_matches('/').to_string();
    let answer = TcpStream::connect(&proxy).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    });
    let line = answer.unwrap_or_else(|error| error.to_string()).lines().next().unwrap_or_default().to_string();
    println!("{address} by proxy: {line}");
}

/// Asks the step's name server, with what a thief would put into the name.
fn ask(name: &str) {
    let config = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let server =
        config.lines().find_map(|line| line.strip_prefix("nameserver ")).unwrap_or("127.0.0.1").trim().to_string();
    let mut question = vec![0x13, 0x37, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 16, 0, 1]);
    let answer = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(&question, (server.as_str(), 53))?;
        let mut bytes = [0; 512];
        socket.recv(&mut bytes)?;
        Ok(bytes[3] & 0xf)
    });
    match answer {
        Ok(0) => println!("{name}: ESCAPED: answered"),
        Ok(code) => println!("{name}: refused with code {code}"),
        Err(_) => println!("{name}: no answer"),
    }
}

/// Sets the attributes by which an overlay redirects a folder, closes it to what is below, and takes content from elsewhere.
fn overlay(paths: &[String]) {
    for path in paths {
        let Ok(path) = CString::new(path.as_bytes()) else { continue };
        for (name, value) in [
            (c"user.overlay.redirect", "/.git"),
            (c"user.overlay.opaque", "x"),
            (c"user.overlay.metacopy", ""),
            (c"user.overlay.overlay.redirect", "/.git"),
        ] {
            let mut value = value.as_bytes().to_vec();
            let length = value.len();
            // Refused is as good as ignored: what counts is what the next step sees.
            let args = [text(&path), text(name), memory(value.as_mut_slice()), length, 0];
            let _ = call(libc::SYS_setxattr, &args);
        }
    }
}

fn deep(count: usize) {
    for _ in 0..count {
        let made = fs::create_dir("deep").and_then(|()| std::env::set_current_dir("deep"));
        if let Err(error) = made {
            println!("{error}");
            return;
        }
    }
}

fn names() {
    let _ = fs::create_dir("names");
    let long = "n".repeat(255);
    let names: [&[u8]; 6] = [b"line\nend", b"\x1b]0;title\x07", b"-rf", b"\xff\xfe", long.as_bytes(), b" "];
    for name in names {
        let path = Path::new("names").join(OsStr::from_bytes(name));
        if let Err(error) = fs::write(path, "x") {
            println!("{error}");
        }
    }
}

const ABSTRACT: &str = "attack-sibling";
const PORT: u16 = 47047;

/// Leaves traces of every kind, and says whether somebody followed one.
fn linger() {
    let address = SocketAddr::from_abstract_name(ABSTRACT).and_then(|address| UnixListener::bind_addr(&address));
    let server = TcpListener::bind(("127.0.0.1", PORT));
    let home = std::env::var("HOME").unwrap_or_default();
    let path = UnixListener::bind(format!("{home}/shared/socket"));
    for place in ["/tmp/sibling", "/dev/shm/sibling", "/run/sibling", "/var/tmp/sibling", "sibling"] {
        let _ = fs::write(place, "x");
    }
    let segment = call(libc::SYS_shmget, &[0x5151, 4096, libc::IPC_CREAT as usize | 0o666]);
    let (Ok(socket), Ok(server), Ok(path), Ok(_)) = (address, server, path, segment) else {
        println!("cannot linger");
        return;
    };
    let met = [socket.set_nonblocking(true), server.set_nonblocking(true), path.set_nonblocking(true)];
    std::thread::sleep(Duration::from_secs(2));
    let met =
        met.iter().any(Result::is_err) || socket.accept().is_ok() || server.accept().is_ok() || path.accept().is_ok();
    println!("met {}", if met { "somebody" } else { "nobody" });
}

/// Follows every trace that [`linger`] leaves, for as long as it lingers.
fn meet() {
    let home = std::env::var("HOME").unwrap_or_default();
    let until = Instant::now() + Duration::from_millis(1800);
    let mut met = Vec::new();
    while Instant::now() < until && met.is_empty() {
        let address = SocketAddr::from_abstract_name(ABSTRACT).and_then(|address| UnixStream::connect_addr(&address));
        met.extend(address.map(|_| "the abstract socket").ok());
        met.extend(TcpStream::connect(("127.0.0.1", PORT)).map(|_| "the server").ok());
        met.extend(UnixStream::connect(format!("{home}/shared/socket")).map(|_| "the socket in the cache").ok());
        met.extend(call(libc::SYS_shmget, &[0x5151, 0, 0]).map(|_| "the shared memory").ok());
        for place in ["/tmp/sibling", "/dev/shm/sibling", "/run/sibling", "/var/tmp/sibling", "sibling"] {
            met.extend(fs::metadata(place).map(|_| place).ok());
        }
        let lines = fs::read_dir("/proc").into_iter().flatten().flatten();
        let others = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        met.extend(others.filter(|line| line.windows(6).any(|part| part == b"linger")).map(|_| "its process"));
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("met {}", if met.is_empty() { "nothing".into() } else { met.join(", ") });
}

fn groups() -> String {
    let all = status("Gid").unwrap_or_default();
    let mut ids = all.split_whitespace();
    match (ids.next(), ids.next()) {
        (Some(real), Some(effective)) if real == effective => "same".into(),
        (_, effective) => format!("group {}", effective.unwrap_or("?")),
    }
}

fn status(name: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).map(ToOwned::to_owned)
}
