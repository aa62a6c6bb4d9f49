//! What an attack has another copy of this program do.

use std::ffi::{CString, OsStr};
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::kernel::{call, memory, text};

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
        Some("linger") => linger(),
        Some("meet") => meet(),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
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
