//! Layers that try what no layer may. Each ends in a refusal that names the entry, or harmless; nothing is written
//! outside of the layer's folder either way.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use image::{Bounds, ImageError, Owners, Unpacked};

use crate::archive::{Tar, gzip};

/// A folder with something outside of the layer that must stay as it is.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("outside")).expect("outside");
        fs::write(folder.path().join("outside/secret"), "untouched").expect("secret");
        fs::write(folder.path().join("passwd"), "untouched").expect("passwd");
        Scene { folder }
    }
    fn layer(&self) -> PathBuf {
        self.folder.path().join("layer")
    }
    fn unpack_as(&self, tar: Vec<u8>, owners: Owners, bounds: &Bounds) -> Result<Unpacked, ImageError> {
        let result = image::unpack(tar.as_slice(), &self.layer(), owners, bounds, &|| false);
        let mut names: Vec<_> =
            fs::read_dir(self.folder.path()).expect("folder").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["layer", "outside", "passwd"], "something was written beside the layer");
        for path in ["outside/secret", "passwd"] {
            let path = self.folder.path().join(path);
            assert_eq!(fs::read_to_string(&path).expect("still there"), "untouched");
            assert_eq!(fs::metadata(&path).expect("still there").nlink(), 1, "linked into the layer");
        }
        assert_eq!(fs::read_dir(self.folder.path().join("outside")).expect("outside").count(), 1);
        result
    }
    fn unpack(&self, tar: Vec<u8>) -> Result<Unpacked, ImageError> {
        self.unpack_as(tar, Owners::Mine, &Bounds::default())
    }
}

#[track_caller]
fn refused(tar: Tar, says: &str) {
    let error = Scene::new().unpack(tar.end()).expect_err("refused").to_string();
    assert!(error.contains(says), "{error}");
}

/// Taken in, and harmless: what then stands in the layer.
#[track_caller]
fn harmless(tar: Tar) -> (Scene, Unpacked) {
    let scene = Scene::new();
    let unpacked = scene.unpack(tar.end()).expect("taken in");
    (scene, unpacked)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("there").mode() & 0o7777
}

#[test]
fn dot_dot_leaves_nothing() {
    refused(Tar::new().file("../outside/new", "x"), "entry `../outside/new`: it leaves its directory with `..`");
}

#[test]
fn dot_dot_in_the_middle_leaves_nothing() {
    refused(Tar::new().dir("a").file("a/../../outside/new", "x"), "it leaves its directory with `..`");
}

#[test]
fn an_absolute_path_is_one_of_the_image() {
    let (scene, _) = harmless(Tar::new().file("/etc/paceline-was-here", "x").file("//etc//y", "y"));
    assert!(scene.layer().join("etc/paceline-was-here").exists() && scene.layer().join("etc/y").exists());
    assert!(!Path::new("/etc/paceline-was-here").exists());
}

#[test]
fn a_link_out_is_not_written_through() {
    refused(Tar::new().symlink("out", "../outside").file("out/secret", "x"), "`out` is not a directory but a link");
}

#[test]
fn an_absolute_link_is_not_written_through() {
    refused(
        Tar::new().symlink("tmp", "/tmp").file("tmp/paceline-was-here", "x"),
        "`tmp` is not a directory but a link",
    );
}

#[test]
fn a_link_within_the_layer_is_not_written_through_either() {
    refused(
        Tar::new().dir("usr/lib").symlink("lib", "usr/lib").file("lib/x", "x"),
        "`lib` is not a directory but a link",
    );
}

#[test]
fn a_chain_of_links_is_not_written_through() {
    refused(Tar::new().symlink("a", "..").symlink("b", "a/outside").file("b/secret", "x"), "`b` is not a directory");
}

#[test]
fn a_link_is_replaced_and_not_written_through() {
    let (scene, _) = harmless(Tar::new().symlink("f", "../outside/secret").file("f", "mine"));
    assert_eq!(fs::read_to_string(scene.layer().join("f")).expect("file"), "mine");
    assert!(fs::symlink_metadata(scene.layer().join("f")).expect("file").is_file());
}

#[test]
fn a_directory_entry_over_a_link_does_not_change_what_it_points_to() {
    let (scene, _) = harmless(Tar::new().symlink("d", "../outside").entry(b'5', "d", 0o777, "", b"").file("d/x", "x"));
    assert!(fs::symlink_metadata(scene.layer().join("d")).expect("dir").is_dir());
    assert_ne!(mode(&scene.folder.path().join("outside")), 0o777);
}

#[test]
fn a_hard_link_out_is_refused() {
    refused(Tar::new().hard_link("x", "../passwd"), "it links to `../passwd`: it leaves its directory with `..`");
}

#[test]
fn an_absolute_hard_link_means_the_image() {
    refused(Tar::new().hard_link("x", "/etc/passwd"), "a hard link to `/etc/passwd`, which this layer does not have");
}

#[test]
fn a_hard_link_through_a_link_is_refused() {
    refused(Tar::new().symlink("out", "..").hard_link("x", "out/passwd"), "which this layer does not have");
}

#[test]
fn a_hard_link_to_a_link_is_the_link_and_not_its_target() {
    let (scene, _) = harmless(Tar::new().symlink("l", "../passwd").hard_link("x", "l").file("x", "mine"));
    assert!(fs::symlink_metadata(scene.layer().join("l")).expect("link").is_symlink());
}

#[test]
fn a_hard_link_to_a_directory_or_a_device_is_refused() {
    refused(Tar::new().dir("d").hard_link("x", "d"), "which is no file");
    refused(Tar::new().file(".wh.w", "").hard_link("x", "w"), "which is no file");
    refused(Tar::new().hard_link("x", "/"), "it is a hard link to the root");
}

#[test]
fn writing_to_a_hard_link_does_not_write_to_the_first_name() {
    let (scene, _) =
        harmless(Tar::new().file("a", "first").hard_link("b", "a").hard_link("b", "a").file("b", "second"));
    assert_eq!(fs::read_to_string(scene.layer().join("a")).expect("a"), "first");
}

#[test]
fn devices_and_pipes_are_left_out_and_said() {
    let tar = Tar::new().entry(b'3', "dev/mem", 0o666, "", b"").entry(b'4', "dev/sda", 0o666, "", b"");
    let (scene, unpacked) = harmless(tar.entry(b'6', "pipe", 0o666, "", b"").file("x", "x"));
    assert_eq!(unpacked.notes, ["left out: 3 times device or pipe (the first is `dev/mem`)"]);
    assert!(!scene.layer().join("dev/mem").exists() && scene.layer().join("x").exists());
}

#[test]
fn setuid_bits_and_capabilities_are_dropped() {
    let tar = Tar::new().entry(b'0', "su", 0o6755, "", b"x").entry(b'5', "d", 0o3777, "", b"");
    let (scene, unpacked) = harmless(tar.xattr("security.capability", "\u{1}\u{2}").file("ping", "x"));
    assert_eq!((mode(&scene.layer().join("su")), mode(&scene.layer().join("d"))), (0o755, 0o1777));
    let expected = ["left out: file capability (`ping`)", "left out: setuid bit (`su`)"];
    assert_eq!(unpacked.notes, expected);
}

#[test]
fn attributes_of_the_overlay_are_refused() {
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "user.overlay.redirect", "user.overlay.metacopy"]
    {
        refused(
            Tar::new().xattr(name, "/etc").dir("d"),
            "an extended attribute that would change what the overlay shows",
        );
    }
    let (scene, _) = harmless(Tar::new().xattr("user.mine", "1").xattr("security.selinux", "s").file("f", ""));
    let mut names = [0u8; 256];
    let length = rustix::fs::listxattr(scene.layer().join("f"), &mut names).expect("names");
    assert!(!String::from_utf8_lossy(&names[..length]).contains("selinux"));
}

#[test]
fn attributes_without_bound_are_refused() {
    let many = (0..65).fold(String::new(), |all, n| {
        let record = format!("SCHILY.xattr.user.n{n:02}=v\n");
        all + &format!("{} {record}", record.len() + 3)
    });
    refused(
        Tar::new().entry(b'x', "pax", 0o644, "", many.as_bytes()).file("f", ""),
        "more than 64 extended attributes",
    );
    refused(Tar::new().xattr("user.big", &"x".repeat(70_000)).file("f", ""), "too long or malformed");
}

#[test]
fn a_whiteout_of_the_directory_above_is_refused() {
    for name in ["d/.wh...", "d/.wh..", "d/.wh."] {
        refused(Tar::new().file(name, ""), "it deletes a directory from within");
    }
}

#[test]
fn whiteouts_become_what_an_overlay_understands() {
    let tar = Tar::new().file("etc/.wh.gone", "").file("var/.wh..wh..opq", "").file(".wh..wh.plnk", "");
    let (scene, unpacked) = harmless(tar);
    let gone = fs::symlink_metadata(scene.layer().join("etc/gone")).expect("whiteout");
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(opaque(&scene.layer().join("var")), b"y");
    assert_eq!(unpacked.notes, ["left out: AUFS leftover (`.wh..wh.plnk`)"]);
}

#[test]
fn what_a_layer_deletes_and_makes_anew_hides_the_old() {
    let (scene, _) = harmless(Tar::new().file(".wh.d", "").file("d/new", "x").file(".wh.f", "").file("f", "x"));
    assert_eq!(opaque(&scene.layer().join("d")), b"y");
    assert!(fs::symlink_metadata(scene.layer().join("f")).expect("file").is_file());
    let (scene, _) = harmless(Tar::new().file("d/new", "x").file(".wh.d", ""));
    assert_eq!(opaque(&scene.layer().join("d")), b"y");
    assert!(scene.layer().join("d/new").exists());
}

fn opaque(dir: &Path) -> Vec<u8> {
    let mut value = [0u8; 8];
    let length = rustix::fs::getxattr(dir, "user.overlay.opaque", &mut value).expect("opaque");
    value[..length].to_vec()
}

#[test]
fn a_file_in_the_place_of_a_full_directory_is_refused() {
    refused(Tar::new().file("d/x", "x").file("d", "y"), "it takes the place of a directory with something in it");
    let (scene, _) = harmless(Tar::new().dir("d").file("d", "y"));
    assert!(scene.layer().join("d").is_file());
}

#[test]
fn a_bomb_is_stopped_by_size_and_by_ratio() {
    let bounds = Bounds { bytes_max: 1 << 20, ratio_from: 1 << 16, ..Bounds::default() };
    let zeros = Tar::new().entry(b'0', "big", 0o644, "", &vec![0; 4 << 20]).end();
    let error = Scene::new().unpack_as(zeros.clone(), Owners::Mine, &bounds).expect_err("size").to_string();
    assert!(error.starts_with("the unpacked layer is larger than the 1048576 bytes"), "{error}");
    let bounds = Bounds { bytes_max: 1 << 30, ..bounds };
    let error = Scene::new().unpack_as(gzip(&zeros), Owners::Mine, &bounds).expect_err("ratio").to_string();
    assert!(error.contains("or 200 times what is stored"), "{error}");
}

#[test]
fn a_bomb_behind_the_end_of_the_archive_is_stopped_too() {
    let bounds = Bounds { ratio_from: 1 << 16, ..Bounds::default() };
    let tar = [Tar::new().file("x", "x").end(), vec![0; 4 << 20]].concat();
    let error = Scene::new().unpack_as(gzip(&tar), Owners::Mine, &bounds).expect_err("ratio");
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
}

#[test]
fn entries_without_end_are_stopped() {
    let bounds = Bounds { entries_max: 100, ..Bounds::default() };
    let tar = (0..101).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), ""));
    let error = Scene::new().unpack_as(tar.end(), Owners::Mine, &bounds).expect_err("entries").to_string();
    assert_eq!(error, "the layer is larger than the 100 entries that are allowed");
}

#[test]
fn depth_without_end_is_stopped() {
    let deep = "d/".repeat(200) + "f";
    refused(Tar::new().pax("path", &deep).file("x", ""), "it lies in more directories within directories");
    refused(Tar::new().pax("path", &"x/".repeat(3000)).file("x", ""), "a path is longer than 4096 bytes");
    refused(Tar::new().pax("path", &"x".repeat(300)).file("x", ""), "a part of its name is longer than 255 bytes");
}

#[test]
fn headers_without_end_are_stopped() {
    let tar = Tar::new().owned(b'L', "long", 0o644, (0, 0), "", 1 << 32, b"");
    refused(tar, "an extended header is larger than 1 MiB");
    let many = (0..20).fold(Tar::new(), |tar, _| tar.pax("path", "x"));
    refused(many.file("x", ""), "an entry has more than eight headers");
}

#[test]
fn a_nul_in_a_name_is_refused() {
    refused(Tar::new().pax("path", "a\0b").file("x", ""), "a path has a NUL in it");
    refused(Tar::new().pax("linkpath", "a\0b").symlink("x", "y"), "a path has a NUL in it");
}

#[test]
fn an_archive_that_ends_early_is_refused() {
    for (tar, says) in [
        (Tar::new().owned(b'0', "f", 0o644, (0, 0), "", 5000, b"short"), "ends within an entry"),
        (Tar::new().file("f", "x").raw(&[7; 100]), "it ends within a header"),
        (Tar::new().raw(&[7; 512]), "is malformed"),
        (Tar::new().owned(b'x', "p", 0o644, (0, 0), "", 5000, b"short"), "it ends within a header"),
    ] {
        let bytes = tar.raw(&[]);
        let error = Scene::new().unpack(bytes_of(bytes)).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

/// Without the end mark, so that the archive really stops there.
fn bytes_of(tar: Tar) -> Vec<u8> {
    let mut bytes = tar.end();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

#[test]
fn a_lie_in_a_header_is_refused() {
    let mut bytes = Tar::new().file("f", "x").end();
    bytes[0] ^= 1;
    let error = Scene::new().unpack(bytes).expect_err("sum").to_string();
    assert!(error.contains("the check sum of a header is wrong"), "{error}");
    refused(Tar::new().pax("size", "-1").file("f", "x"), "a number in an extended header is none");
    refused(Tar::new().pax("size", "99999999999999999999").file("f", "x"), "a number in an extended header is none");
    refused(Tar::new().pax("mtime", "soon").file("f", "x"), "a number in an extended header is none");
    refused(Tar::new().entry(b'S', "f", 0o644, "", b""), "sparse files are not read");
    refused(Tar::new().pax("GNU.sparse.major", "1").file("f", ""), "sparse files are not read");
    refused(Tar::new().entry(b'Z', "f", 0o644, "", b""), "of a kind that tar does not know");
}

#[test]
fn a_link_with_content_does_not_smuggle_an_entry() {
    let inner = Tar::new().file("smuggled", "x").end();
    let (scene, _) =
        harmless(Tar::new().owned(b'2', "l", 0o777, (0, 0), "t", inner.len() as u64, b"").file("after", "x"));
    assert!(scene.layer().join("after").exists() && !scene.layer().join("smuggled").exists());
}

#[test]
fn times_beyond_all_bounds_hurt_nobody() {
    for time in ["9223372036854775807", "-9223372036854775808", "-1.5", "1.999999999999"] {
        let _ = Scene::new().unpack(Tar::new().pax("mtime", time).file("f", "x").end());
    }
}

#[test]
fn a_directory_closed_to_its_owner_is_filled_all_the_same() {
    let tar = Tar::new().entry(b'5', "d", 0, "", b"").file("d/e/f", "x").entry(b'5', "d/e", 0o500, "", b"");
    let (scene, _) = harmless(tar);
    assert_eq!(mode(&scene.layer().join("d")), 0);
    fs::set_permissions(scene.layer().join("d"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    assert_eq!(mode(&scene.layer().join("d/e")), 0o500);
    assert_eq!(fs::read_to_string(scene.layer().join("d/e/f")).expect("file"), "x");
    fs::set_permissions(scene.layer().join("d/e"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
}

#[test]
fn modes_times_and_owners_are_kept() {
    let scene = Scene::new();
    let tar = Tar::new().owned(b'0', "f", 0o640, (33, 0), "", 1, b"x").owned(b'5', "d", 0o750, (0, 7), "", 0, b"");
    let tar = tar.owned(b'2', "l", 0o777, (5, 5), "f", 0, b"").pax("uid", "4000000000").file("n", "");
    let is_root = rustix::process::geteuid().is_root();
    let owners = if is_root { Owners::Above(2_000_000_000) } else { Owners::Mine };
    scene.unpack_as(tar.end(), owners, &Bounds::default()).expect("taken in");
    let of = |name: &str| fs::symlink_metadata(scene.layer().join(name)).expect("there");
    assert_eq!((mode(&scene.layer().join("f")), mode(&scene.layer().join("d"))), (0o640, 0o750));
    assert_eq!((of("f").mtime(), of("d").mtime(), of("l").mtime()), (1_500_000_000, 1_500_000_000, 1_500_000_000));
    if is_root {
        let owner = |name: &str| (of(name).uid(), of(name).gid());
        assert_eq!(owner("f"), (2_000_000_033, 0));
        assert_eq!(owner("d"), (0, 2_000_000_007));
        assert_eq!(owner("l"), (2_000_000_005, 2_000_000_005));
        assert_eq!(owner("n"), (2_000_065_534, 0), "too high a number is nobody");
    }
}

#[test]
fn names_that_are_not_utf8_are_names() {
    let mut bytes = Tar::new().file("xx", "x").end();
    (bytes[0], bytes[1]) = (0xff, 0xfe);
    let sum: u32 = (0..512).map(|at| if (148..156).contains(&at) { 32 } else { u32::from(bytes[at]) }).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let scene = Scene::new();
    scene.unpack(bytes).expect("taken in");
    assert_eq!(fs::read_dir(scene.layer()).expect("layer").count(), 1);
}

#[test]
fn a_stopped_unpacking_stops() {
    let scene = Scene::new();
    let tar = Tar::new().file("f", "x").end();
    let result = image::unpack(tar.as_slice(), &scene.layer(), Owners::Mine, &Bounds::default(), &|| true);
    assert!(matches!(result, Err(ImageError::Stopped)));
}
