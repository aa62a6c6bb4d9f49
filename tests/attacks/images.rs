//! Images that strangers made.

use std::fs;

use attacks::archive::{Entry, layout};
use attacks::stage::{Ended, Stage};
use serde_json::{Value, json};

use crate::scene::{fingerprint, program, run, said, scene, seen};

/// Runs the words as attacks in an image of these entries besides the program.
fn on_image(stage: &Stage, entries: &[Entry], config: Value, words: &str) -> Ended {
    let own = fs::read(program()).expect("the program");
    let mut all = vec![Entry::file("attacks", &own)];
    all.extend(entries);
    layout(&stage.root().join("image"), &all, config).expect("a layout");
    run(
        stage,
        json!([{ "id": "s", "cmd": words, "image": "oci:image", "shell": ["/attacks", "script"], "cache": "never" }]),
    )
}

/// Nothing called `evil` may be anywhere but among the image's own files.
fn judged(stage: &Stage, ended: &Ended, code: i32, text: &str, harmless: &str) -> String {
    let all = fingerprint(stage.folder()).into_keys();
    let is_evil =
        |path: &std::path::PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("evil"));
    let evil: Vec<_> =
        all.filter(is_evil).filter(|path| !path.starts_with(stage.folder().join("cache/images"))).collect();
    if !evil.is_empty() || std::path::Path::new("/evil").exists() {
        return format!("ESCAPED: {evil:?}");
    }
    seen(stage, ended, code, text, harmless)
}

/// What the step printed, without what was said of its image.
fn told(ended: &Ended) -> Vec<&str> {
    said(ended, "s").into_iter().filter(|line| !line.starts_with("image ") && !line.starts_with("fetching ")).collect()
}

fn hostile(stage: &Stage, entries: &[Entry], code: i32, text: &str, harmless: &str) -> String {
    let ended = on_image(stage, entries, json!({}), "mount");
    judged(stage, &ended, code, text, harmless)
}

const REFUSED: &str = "the image is refused";

#[test]
fn a_layer_does_not_go_up() {
    scene("image-dotdot", |stage| hostile(stage, &[Entry::file("../../../../evil", b"x")], 13, "..", REFUSED));
}

#[test]
fn a_layer_does_not_start_at_the_root() {
    scene("image-absolute", |stage| {
        let path = format!("{}/evil", stage.folder().display());
        hostile(stage, &[Entry::file(&path, b"x")], 0, "mount: refused EPERM", "it lies in the image")
    });
}

#[test]
fn a_layer_does_not_write_through_a_link() {
    scene("image-link-write", |stage| {
        let outside = stage.world().outside.display().to_string();
        hostile(stage, &[Entry::link("out", &outside), Entry::file("out/evil", b"x")], 13, "out", REFUSED)
    });
}

#[test]
fn a_layer_does_not_link_to_the_host() {
    scene("image-hard-link", |stage| {
        let secret = stage.world().outside.join("secret").display().to_string();
        hostile(stage, &[Entry { kind: b'1', ..Entry::link("evil-link", &secret) }], 13, "link", REFUSED)
    });
}

#[test]
fn a_layer_brings_no_devices() {
    scene("image-device", |stage| {
        hostile(
            stage,
            &[Entry { kind: b'3', ..Entry::file("evil-device", b"") }],
            0,
            "left out: device",
            "it is left out",
        )
    });
}

#[test]
fn a_layer_brings_no_attributes_of_the_overlay() {
    scene("image-attributes", |stage| {
        let entry = Entry { attribute: Some(("user.overlay.redirect", "/.git")), ..Entry::folder("evil-folder") };
        hostile(stage, &[entry], 13, "overlay", REFUSED)
    });
}

#[test]
fn a_layer_does_not_claim_more_than_there_is() {
    scene("image-claims", |stage| {
        let entry = Entry { claims: Some(7 << 30), ..Entry::file("large", b"x") };
        hostile(stage, &[entry], 13, "image", REFUSED)
    });
}

#[test]
fn a_layer_whose_bytes_were_exchanged_is_refused() {
    scene("image-digest", |stage| {
        layout(&stage.root().join("image"), &[Entry::file("good", b"good-content")], json!({})).expect("a layout");
        for entry in fs::read_dir(stage.root().join("image/blobs/sha256")).expect("blobs").flatten() {
            let bytes = fs::read(entry.path()).expect("a blob");
            let text = String::from_utf8_lossy(&bytes).replace("good-content", "evil-content");
            fs::write(entry.path(), text).expect("a blob");
        }
        let ended = run(stage, json!([{ "id": "s", "cmd": "true", "image": "oci:image", "cache": "never" }]));
        judged(stage, &ended, 11, "sha256", REFUSED)
    });
}

#[test]
fn whiteouts_delete_nothing_outside_their_folder() {
    scene("image-whiteout", |stage| {
        let entries = [Entry::file(".wh...", b""), Entry::file(".wh..", b""), Entry::file("d/.wh./../../x", b"")];
        hostile(stage, &entries, 13, "image", REFUSED)
    });
}

#[test]
fn the_images_user_is_not_read_from_the_host() {
    scene("image-user-link", |stage| {
        let secret = stage.world().outside.join("secret").display().to_string();
        let entries = [
            Entry::folder("etc"),
            Entry::link("etc/passwd", &secret),
            Entry::link("etc/group", "../../../../../etc/group"),
        ];
        let ended = on_image(stage, &entries, json!({ "User": "daemon" }), "mount");
        judged(stage, &ended, 13, "its /etc/passwd does not have that name", REFUSED)
    });
}

#[test]
fn mount_points_that_are_links_stay_inside() {
    scene("image-mount-links", |stage| {
        let outside = stage.world().outside.display().to_string();
        let entries = [
            Entry::link("workspace", &outside),
            Entry::link("tmp", &outside),
            Entry::link("run", "../../../../.."),
            Entry::link("proc", "/dev"),
        ];
        let ended = on_image(stage, &entries, json!({}), "read-outside mount");
        let left = fs::read_dir(&stage.world().outside).expect("the folder outside").count();
        if left != 2 {
            return format!("ESCAPED: {left} entries are outside");
        }
        if ended.code == Some(0) && told(&ended) != ["read-outside: refused ENOENT", "mount: refused EPERM"] {
            return format!("ESCAPED: {}{}", ended.out, ended.err);
        }
        judged(stage, &ended, ended.code.unwrap_or(-1), "", "nothing is mounted outside")
    });
}

#[test]
fn a_setuid_program_of_an_image_gives_nothing() {
    scene("image-setuid", |stage| {
        let own = fs::read(program()).expect("the program");
        let entry = Entry { mode: 0o6755, ..Entry::file("setuid-program", &own) };
        let capable = Entry { attribute: Some(("security.capability", "x")), ..Entry::file("capable-program", &own) };
        let config = json!({ "User": "1234:1234", "WorkingDir": "/" });
        let ended = on_image(stage, &[entry, capable], config, "helper run-as /setuid-program\nhelper rights");
        match told(&ended)[..] {
            ["run-as: harmless: it runs as the same user", "rights: harmless: CapEff is 0000000000000000"] => {
                judged(stage, &ended, 0, "", "it runs as the same user")
            }
            _ => format!("ESCAPED: {}{}", ended.out, ended.err),
        }
    });
}

/// Those whose outcome does not depend on what files there are, nor on the user being one only.
const IN_AN_IMAGE: &[&str] = &[
    "read-outside",
    "read-through-root-of-1",
    "inherited-descriptors",
    "watch-outside",
    "fanotify",
    "overlay-whiteout",
    "make-memory-device",
    "make-disk-device",
    "open-memory",
    "device-list",
    "type-into-terminal",
    "mount",
    "bind-mount",
    "mount-proc",
    "mount-cgroup",
    "change-propagation",
    "pivot-root",
    "chroot",
    "mount-by-descriptor",
    "core-pattern",
    "sysctl",
    "kernel-keys",
    "unshare-user",
    "unshare-each",
    "clone-user",
    "clone3-user",
    "join-namespaces-of-1",
    "setns",
    "map-more-users",
    "leave-cgroup",
    "cgroup-names",
    "gain-capabilities",
    "ambient-capability",
    "secure-bits",
    "undo-no-new-privileges",
    "undo-filter",
    "widen-filter",
    "x32",
    "unknown-call",
    "kill-outside",
    "pidfd-outside",
    "ptrace-outside",
    "ptrace-1",
    "memory-file-of-1",
    "environment-of-1",
    "descriptors-of-1",
    "overwrite-pace",
    "take-descriptor-of-1",
    "shared-memory-outside",
    "run-in-real-time",
    "read-keyring",
    "bpf",
    "perf",
    "io-uring",
    "userfaultfd",
    "load-module",
    "kexec",
    "reboot",
    "set-time",
    "swap-on",
    "set-host-name",
    "host-loopback",
    "abstract-socket",
    "path-socket",
    "raw-socket",
    "packet-socket",
    "change-interface",
    "callers-environment",
    "core-size",
    "core-dump",
    "limit-1",
];

#[test]
fn root_of_an_image_is_held_like_everybody() {
    scene("image-root", |stage| {
        let ended = on_image(stage, &[], json!({}), &IN_AN_IMAGE.join(" "));
        let said = told(&ended);
        let index = usize::from(stage.who() == attacks::stage::Who::User);
        let mut wrong = Vec::new();
        for name in IN_AN_IMAGE {
            let attack = attacks::find(name).expect("it is in the table");
            let line = said.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("no line");
            let usual = [Some(attack.sees[0]), Some(attack.sees[index]), attack.lacking].contains(&Some(line));
            // Files of the kernel belong to root, whom the image's root is not where there are more users; and no mode
            // stops it from opening a cover, which is empty.
            let first = attack.sees[0];
            let of_root = first.contains("EROFS") && line == "refused EACCES";
            let cover = first.contains("EACCES") && line == "harmless: it is empty";
            if !(usual || of_root || cover) {
                wrong.push(format!("{name}: {line}, not {}", attack.sees[index]));
            }
        }
        if wrong.is_empty() {
            return judged(stage, &ended, 0, "", "all is refused as on the host's files");
        }
        format!("{}\n{}", wrong.join("\n"), ended.err)
    });
}

#[test]
fn what_root_writes_into_an_image_is_gone_afterwards() {
    scene("image-write", |stage| {
        let first = on_image(stage, &[Entry::folder("etc")], json!({}), "helper write-root\nhelper write-root");
        let second = on_image(stage, &[Entry::folder("etc")], json!({}), "helper write-root");
        match (&told(&first)[..], &told(&second)[..]) {
            ([one, two], [again])
                if one == again && one.contains("it was not there") && two.contains("it is there") =>
            {
                judged(stage, &second, 0, "", "the next step does not see it")
            }
            _ => format!("ESCAPED: {}{}{}{}", first.out, first.err, second.out, second.err),
        }
    });
}
