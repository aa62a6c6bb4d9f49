//! Files: reading what the step was not shown, writing what it was shown read-only, links and descriptors as ways out.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::Path;

use crate::kernel::{call, call_for_fd, memory, text};
use crate::{Attack, Bare, Outcome, Wall, attack};

pub const ATTACKS: &[Attack] = &[
    attack("read-shadow", "reads the host's password hashes", Wall::Hidden, "refused EACCES", |_| read("/etc/shadow")),
    attack("read-private-keys", "lists the host's private TLS keys", Wall::Hidden, NO_KEY, |_| {
        let keys = fs::read_dir("/etc/ssl/private").map(|all| all.flatten().filter(is_readable).count());
        keys.map_or_else(Outcome::from, |count| found(count, "private keys"))
    })
    .lacking("refused ENOENT")
    .bare(Bare::Depends),
    attack("read-outside", "reads a file of the host by its path", Wall::View, "refused ENOENT", |world| {
        read(world.outside.join("secret"))
    }),
    attack("read-root-home", "lists the home of the host's root", Wall::View, "refused ENOENT", |_| {
        let entries = fs::read_dir("/root").map(|all| all.flatten().filter(is_readable).count());
        entries.map_or_else(Outcome::from, |count| found(count, "files of root"))
    })
    .bare(Bare::Depends),
    attack("read-upwards", "goes up with `..` beyond its root", Wall::View, "refused ENOENT", |world| {
        let up = "../".repeat(64);
        read(
            Path::new("/workspace")
                .join(up)
                .join(world.outside.strip_prefix("/").unwrap_or(&world.outside))
                .join("secret"),
        )
    })
    .bare(Bare::Depends),
    attack(
        "read-through-root-of-1",
        "reads a host file through /proc/1/root",
        Wall::Undumpable,
        "refused EACCES",
        |world| {
            let outside = world.outside.display();
            read(format!("/proc/1/root{outside}/secret"))
        },
    )
    .bare(Bare::Depends),
    attack("read-through-cwd-of-1", "reads through /proc/1/cwd", Wall::Undumpable, "refused EACCES", |world| {
        let outside = world.outside.display();
        read(format!("/proc/1/cwd/../../../../..{outside}/secret"))
    })
    .bare(Bare::Depends),
    attack("read-through-link", "makes a link to a host file and reads it", Wall::View, "refused ENOENT", |world| {
        let _ = fs::remove_file("link-out");
        let made = symlink(world.outside.join("secret"), "link-out");
        let outcome = made.map_or_else(Outcome::from, |()| read("link-out"));
        let _ = fs::remove_file("link-out");
        outcome
    }),
    attack(
        "read-root-only",
        "reads any file of the host that others may not",
        Wall::Hidden,
        "harmless: found 0 files",
        |_| {
            let open =
                ["/etc", "/opt", "/usr/local", "/usr/lib", "/var"].iter().map(|top| unshared(Path::new(top), 0)).sum();
            found(open, "files")
        },
    ),
    attack(
        "socket-in-view",
        "connects to a daemon whose socket lies in a folder that is shown",
        Wall::Hidden,
        "refused EACCES",
        |_| {
            let home = std::env::var("HOME").unwrap_or_default();
            Outcome::of(
                std::os::unix::net::UnixStream::connect(format!("{home}/tools/bin/daemon.sock")),
                "the daemon answered",
            )
        },
    )
    .bare(Bare::Depends),
    attack(
        "pipe-in-view",
        "writes into a daemon's pipe in a folder that is shown",
        Wall::Hidden,
        "refused EACCES",
        |_| {
            let home = std::env::var("HOME").unwrap_or_default();
            open_to_write(format!("{home}/tools/bin/daemon.fifo"))
        },
    )
    .bare(Bare::Depends),
    attack("immutable-file", "makes a file that nobody can remove", Wall::Capabilities, "refused EPERM", |_| {
        const FS_IOC_SETFLAGS: usize = 0x4008_6602;
        const IMMUTABLE: u64 = 0x10;
        let outcome = File::create("forever").map_or_else(Outcome::from, |file| {
            let mut flags = IMMUTABLE;
            let made = call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, FS_IOC_SETFLAGS, memory(&mut flags)]);
            let mut none = 0u64;
            let _ = call(libc::SYS_ioctl, &[file.as_raw_fd() as usize, FS_IOC_SETFLAGS, memory(&mut none)]);
            Outcome::of(made, "it is there for ever")
        });
        let _ = fs::remove_file("forever");
        outcome
    })
    .bare(Bare::Depends),
    attack(
        "give-capabilities",
        "gives a file capabilities, for others to execute",
        Wall::Capabilities,
        "refused EPERM",
        |_| {
            let _ = fs::write("capable", "x");
            let mut capabilities = [0x0200_0001u32, 1, 0, 0, 0];
            let args = [text(c"capable"), text(c"security.capability"), memory(&mut capabilities), 20, 0];
            let outcome = Outcome::of(call(libc::SYS_setxattr, &args), "it has them");
            let _ = fs::remove_file("capable");
            outcome
        },
    ),
    attack("read-git", "reads the repository's .git, with its tokens", Wall::Hidden, "refused ENOENT", |_| {
        read(".git/config")
    })
    .bare(Bare::Depends),
    attack("read-ignored", "reads a file that Git ignores", Wall::Hidden, "refused ENOENT", |_| read("ignored.env")),
    attack("read-docker-socket", "opens the container daemon's socket", Wall::View, "refused ENOENT", |_| {
        Outcome::of(fs::metadata("/run/docker.sock"), "it is there")
    })
    .bare(Bare::Depends),
    attack("write-root", "writes a file into /", Wall::ReadOnly, "refused EROFS", |_| write_new("/attacked")),
    attack("write-usr", "writes a file into /usr/share", Wall::ReadOnly, "refused EROFS", |_| {
        write_new("/usr/share/attacked")
    }),
    attack("write-passwd", "adds a user to /etc/passwd", Wall::ReadOnly, "refused EROFS", |_| {
        open_to_write("/etc/passwd")
    })
    .as_user("refused EACCES"),
    attack("write-libc", "replaces the C library", Wall::ReadOnly, "refused EROFS", |_| {
        let library = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib64/libc.so.6"];
        let Some(path) = library.iter().find(|path| Path::new(path).exists()) else {
            return Outcome::Untried("no C library".into());
        };
        open_to_write(path)
    })
    .as_user("refused EACCES")
    .bare(Bare::Depends),
    attack(
        "write-through-descriptor",
        "opens a file to read and reopens it to write",
        Wall::ReadOnly,
        "refused EROFS",
        |_| {
            let file = match File::open("/etc/passwd") {
                Ok(file) => file,
                Err(error) => return error.into(),
            };
            open_to_write(format!("/proc/self/fd/{}", file.as_raw_fd()))
        },
    )
    .as_user("refused EACCES"),
    attack("chmod-usr", "makes /usr/share writable for all", Wall::ReadOnly, "refused EROFS", |_| {
        let mode = match fs::metadata("/usr/share") {
            Ok(meta) => meta.permissions(),
            Err(error) => return error.into(),
        };
        Outcome::of(fs::set_permissions("/usr/share", mode), "its mode was set")
    }),
    attack("touch-usr", "sets the times of a host file", Wall::ReadOnly, "refused EROFS", |_| {
        let path = c"/usr/share";
        let cwd = libc::AT_FDCWD as usize;
        // Both times `UTIME_OMIT`: where it is allowed nothing changes.
        let mut times = [0i64, libc::UTIME_OMIT, 0, libc::UTIME_NOW];
        if std::env::var_os("ATTACK_CAGED").is_none_or(|caged| caged != "yes") {
            times[3] = libc::UTIME_OMIT;
        }
        Outcome::of(call(libc::SYS_utimensat, &[cwd, text(path), memory(&mut times), 0]), "its times were set")
    }),
    attack("hard-link-out", "makes a hard link to a host file", Wall::ReadOnly, "refused EXDEV", |_| {
        let _ = fs::remove_file("hard");
        let outcome = Outcome::of(fs::hard_link("/etc/passwd", "hard"), "the link is there");
        let _ = fs::remove_file("hard");
        outcome
    })
    .bare(Bare::Depends),
    attack(
        "hard-link-descriptor",
        "makes a hard link from an open descriptor",
        Wall::ReadOnly,
        "refused EXDEV",
        |_| {
            let file = match File::open("/etc/passwd") {
                Ok(file) => file,
                Err(error) => return error.into(),
            };
            let cwd = libc::AT_FDCWD as usize;
            let from = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("no NUL");
            let follow = libc::AT_SYMLINK_FOLLOW as usize;
            let outcome = Outcome::of(
                call(libc::SYS_linkat, &[cwd, text(&from), cwd, text(c"hard2"), follow]),
                "the link is there",
            );
            let _ = fs::remove_file("hard2");
            outcome
        },
    )
    .bare(Bare::Depends),
    attack(
        "inherited-descriptors",
        "looks for descriptors that were left open",
        Wall::View,
        "harmless: found 0 descriptors",
        |_| {
            let open = fs::read_dir("/proc/self/fd").map(|all| {
                let names = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
                let numbers: Vec<i32> = names.filter(|fd| *fd > 2).collect();
                // The one that lists is open too.
                numbers.iter().filter(|fd| !is_proc(**fd)).count()
            });
            open.map_or_else(Outcome::from, |count| found(count, "descriptors"))
        },
    )
    .bare(Bare::Depends),
    attack(
        "open-by-handle",
        "opens a file by its inode number, beside all paths",
        Wall::Filter,
        "refused EPERM",
        |_| {
            #[repr(C)]
            struct Handle {
                bytes: u32,
                kind: i32,
                name: [u8; 128],
            }
            let mut handle = Handle { bytes: 128, kind: 0, name: [0; 128] };
            let mut mount = 0i32;
            let cwd = libc::AT_FDCWD as usize;
            let name = [cwd, text(c"/etc"), memory(&mut handle), memory(&mut mount), 0];
            if let Err(error) = call(libc::SYS_name_to_handle_at, &name) {
                return error.into();
            }
            let place = match File::open("/etc") {
                Ok(place) => place,
                Err(error) => return error.into(),
            };
            let args = [place.as_raw_fd() as usize, memory(&mut handle), libc::O_RDONLY as usize];
            Outcome::of(call_for_fd(libc::SYS_open_by_handle_at, &args), "the folder is open")
        },
    ),
    attack("watch-outside", "watches a folder of the host with inotify", Wall::View, "refused ENOENT", |world| {
        let watcher = match call_for_fd(libc::SYS_inotify_init1, &[0]) {
            Ok(watcher) => watcher,
            Err(error) => return error.into(),
        };
        let path = std::ffi::CString::new(world.outside.display().to_string()).expect("no NUL");
        let args = [watcher.as_raw_fd() as usize, text(&path), libc::IN_ALL_EVENTS as usize];
        Outcome::of(call(libc::SYS_inotify_add_watch, &args), "it is watched")
    }),
    attack("fanotify", "watches whole file systems with fanotify", Wall::Capabilities, "refused EPERM", |_| {
        const FAN_CLASS_CONTENT: usize = 4;
        Outcome::of(call_for_fd(libc::SYS_fanotify_init, &[FAN_CLASS_CONTENT, 0]), "a group was made")
    }),
    attack(
        "mount-table",
        "learns the host's paths from its mount table",
        Wall::View,
        "harmless: found the names of its own folders only",
        |world| {
            let name = world.outside.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name else { return Outcome::Untried("no folder outside".into()) };
            let table = fs::read_to_string("/proc/self/mountinfo");
            table.map_or_else(Outcome::from, |table| {
                // Where inside it is mounted (field 4) tells nothing: a step knows its home.
                let tells =
                    |line: &&str| line.split(' ').enumerate().any(|(at, field)| at != 4 && field.contains(&name));
                let mut places = table.lines().filter(tells).filter_map(|line| line.split(' ').nth(3));
                match places.find(|path| !path.contains("/scratch/") && !path.ends_with("/tools/bin")) {
                    None => Outcome::harmless("found the names of its own folders only"),
                    Some(path) => Outcome::escaped(format!("{path} is in the mount table")),
                }
            })
        },
    )
    .bare(Bare::Depends),
    attack(
        "socket-in-repository",
        "connects to a host daemon's socket in the repository",
        Wall::Hidden,
        "refused ENOENT",
        |_| Outcome::of(std::os::unix::net::UnixStream::connect("daemon.sock"), "the daemon answered"),
    ),
    attack(
        "overlay-attributes",
        "redirects a folder by the overlay's own attributes",
        Wall::View,
        "harmless: found 0 files of .git",
        |_| {
            let _ = fs::create_dir("redirected");
            for (name, value) in [(c"user.overlay.redirect", "/.git"), (c"trusted.overlay.redirect", "/.git")] {
                let mut value = value.as_bytes().to_vec();
                let args = [text(c"redirected"), text(name), memory(value.as_mut_slice()), value.len(), 0];
                let _ = call(libc::SYS_setxattr, &args);
            }
            let seen = fs::read_dir("redirected").map(|all| all.count());
            let _ = fs::remove_dir_all("redirected");
            seen.map_or_else(Outcome::from, |count| found(count, "files of .git"))
        },
    )
    .bare(Bare::Depends),
    attack(
        "overlay-whiteout",
        "makes the overlay's own device node for `deleted`",
        Wall::Capabilities,
        "refused EPERM",
        |_| {
            let cwd = libc::AT_FDCWD as usize;
            let outcome = Outcome::of(
                call(libc::SYS_mknodat, &[cwd, text(c"whiteout"), (libc::S_IFCHR | 0o600) as usize, 0]),
                "it was made",
            );
            let _ = fs::remove_file("whiteout");
            outcome
        },
    ),
];

const NO_KEY: &str = "harmless: found 0 private keys";

/// What a look-up for things that must not be there says.
pub fn found(count: usize, what: &str) -> Outcome {
    let text = format!("found {count} {what}");
    if count == 0 { Outcome::Harmless(text) } else { Outcome::Escaped(text) }
}

/// Reads a byte. A cover is empty, for those whom no mode stops from opening it.
pub fn read(path: impl AsRef<Path>) -> Outcome {
    let mut byte = [0];
    match File::open(path).and_then(|mut file| file.read(&mut byte)) {
        Ok(0) => Outcome::harmless("it is empty"),
        result => Outcome::of(result, "it was read"),
    }
}

/// Opens to write and writes nothing.
pub fn open_to_write(path: impl AsRef<Path>) -> Outcome {
    Outcome::of(OpenOptions::new().write(true).open(path), "it is open to write")
}

fn write_new(path: &str) -> Outcome {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    if made.is_ok() {
        let _ = fs::remove_file(path);
    }
    Outcome::of(made, "it was made")
}

fn is_readable(entry: &fs::DirEntry) -> bool {
    fs::symlink_metadata(entry.path()).is_ok_and(|meta| !meta.is_file() || File::open(entry.path()).is_ok())
}

/// Regular files below `folder` that others may not read, and this process can.
fn unshared(folder: &Path, depth: usize) -> usize {
    const DEPTH_MAX: usize = 12;
    let mut count = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() && depth < DEPTH_MAX {
            count += unshared(&entry.path(), depth + 1);
        } else if meta.is_file() && meta.mode() & 0o004 == 0 {
            let mut byte = [0];
            let held = File::open(entry.path()).and_then(|mut file| file.read(&mut byte));
            count += usize::from(held.is_ok_and(|length| length > 0));
        }
    }
    count
}

fn is_proc(fd: i32) -> bool {
    let target: io::Result<_> = fs::read_link(format!("/proc/self/fd/{fd}"));
    target.is_err() || target.is_ok_and(|path| path.starts_with("/proc"))
}
