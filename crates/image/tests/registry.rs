//! Against Debian's registry, with the other tools as witnesses.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use image::{Credentials, ImageError, Images, Keep, Lock, Options, Platform, Recipe, Refusal, Sum};

use crate::world::{Ear, Registry, World, add, fetch, has, reference, succeeds};

fn lock_of(name: &str, sum: Sum) -> Lock {
    let mut lock = Lock::empty();
    lock.set(&reference(name), sum);
    lock
}

fn push(images: &Images, bundle: &image::Bundle, name: &str) {
    images.push(bundle, reference(name).name().expect("name"), &Ear::default()).expect("pushed");
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    let name = registry.name("team/app:1");
    push(&images, &bundle, &name);
    let other = world.images_with("other", Credentials::none());
    let ear = Ear::default();
    let image = fetch(&other, &name, &Lock::empty(), &ear).expect("fetched");
    assert_eq!(image.digest, bundle.digest());
    assert_eq!((image.layers.len(), ear.unpacked.load(Ordering::SeqCst)), (2, 2));
    assert_eq!(fs::read_to_string(image.layers[1].join("etc/low")).expect("low"), "one");
    assert_eq!(fs::metadata(image.layers[0].join("opt/file")).expect("top").len(), 300_000);
    assert_eq!((image.config.user.as_str(), image.config.variable("MARK")), ("app", Some("one")));
    let user = image.config.user_in(&image.layers).expect("user");
    assert_eq!((user.uid, user.home.as_str()), (1000, "/home/app"));
}

#[test]
fn a_locked_image_that_was_fetched_needs_no_registry() {
    let Some(mut registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    let name = registry.name("app:1");
    push(&images, &world.bundle(&images, "one"), &name);
    let other = world.images_with("other", Credentials::none());
    let sum = other.resolve_anew(&reference(&name), &Ear::default()).expect("resolved").sum;
    let lock = lock_of(&name, sum);
    assert!(other.here(&reference(&name), &lock).is_none());
    fetch(&other, &name, &lock, &Ear::default()).expect("fetched");
    registry.stop();
    let ear = Ear::default();
    let image = fetch(&other, &name, &lock, &ear).expect("from here");
    assert_eq!((ear.unpacked.load(Ordering::SeqCst), image.layers.len()), (0, 2));
    assert_eq!(other.here(&reference(&name), &lock).expect("here").layers, image.layers);
    let error = fetch(&other, &name, &Lock::empty(), &Ear::default()).expect_err("nobody to ask");
    assert!(matches!(error, ImageError::Registry { refusal: Refusal::Unreachable, .. }), "{error}");
    assert!(error.to_string().contains("nobody answers there, 5 times; an image that is locked"), "{error}");
}

#[test]
fn a_tag_that_moved_does_not_move_what_is_locked() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    let name = registry.name("app:1");
    let first = world.bundle(&images, "one");
    push(&images, &first, &name);
    let lock = lock_of(&name, first.digest().into());
    push(&images, &world.bundle(&images, "two"), &name);
    let other = world.images_with("other", Credentials::none());
    let image = fetch(&other, &name, &lock, &Ear::default()).expect("the locked one");
    assert_eq!(image.config.variable("MARK"), Some("one"));
    let image = fetch(&other, &name, &Lock::empty(), &Ear::default()).expect("the newest");
    assert_eq!(image.config.variable("MARK"), Some("two"));
    let pinned = format!("{}@{}", registry.name("app"), Sum::of(b"another"));
    let error = fetch(&other, &pinned, &lock_of(&pinned, first.digest().into()), &Ear::default()).expect_err("refused");
    assert!(
        matches!(&error, ImageError::Lock { .. }) && error.to_string().contains("run `pace image lock`"),
        "{error}"
    );
}

#[test]
fn what_is_not_there_is_said_so() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let error = fetch(&world.images(), &registry.name("none:1"), &Lock::empty(), &Ear::default()).expect_err("absent");
    assert!(matches!(error, ImageError::Registry { refusal: Refusal::Absent, .. }));
    let expected = format!(
        "cannot fetch the manifest of {} 1: the registry answers 404 (MANIFEST_UNKNOWN: manifest unknown)",
        registry.name("none")
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_damaged_blob_is_never_unpacked() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    let name = registry.name("app:1");
    push(&images, &bundle, &name);
    let other = world.images_with("other", Credentials::none());
    let big = largest(&registry);
    let mut bytes = fs::read(&big).expect("blob");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&big, &bytes).expect("damaged");
    let error = fetch(&other, &name, &Lock::empty(), &Ear::default()).expect_err("damaged");
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    assert!(error.to_string().ends_with("nothing of it was kept"), "{error}");
    bytes[at] ^= 1;
    fs::write(&big, &bytes).expect("repaired");
    fetch(&other, &name, &Lock::empty(), &Ear::default()).expect("whole again");
}

fn largest(registry: &Registry) -> std::path::PathBuf {
    let text = succeeds("find", &["data", "-name", "data", "-size", "+100k"], registry.folder.path());
    registry.folder.path().join(text.lines().next().expect("a large blob"))
}

#[test]
fn many_who_want_one_image_fetch_it_once() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    let name = registry.name("app:1");
    push(&images, &bundle, &name);
    let ear = Ear::default();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let own = world.images_with("other", Credentials::none());
                assert_eq!(fetch(&own, &name, &Lock::empty(), &ear).expect("fetched").layers.len(), 2);
            });
        }
    });
    let layers: u64 = ear.fetched.load(Ordering::SeqCst);
    assert!(layers < bundle.bytes(), "{layers} of {} bytes: each layer travels once", bundle.bytes());
}

#[test]
fn a_stopped_download_goes_on_where_it_was() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    world.write("src/big/noise", crate::world::noise("big", 8 << 20));
    let recipe = Recipe { add: vec![add("src/big:/")], ..Recipe::default() };
    let bundle = images.build(&recipe, &Lock::empty(), &Ear::default()).expect("built");
    let name = registry.name("big:1");
    push(&images, &bundle, &name);
    let other = world.images_with("other", Credentials::none());
    let ear = Ear { stop_at: Some(1 << 20), ..Ear::default() };
    assert!(matches!(fetch(&other, &name, &Lock::empty(), &ear), Err(ImageError::Stopped)));
    let kept = other.usage().partial_bytes;
    assert!((1 << 20..8 << 20).contains(&kept), "{kept} bytes are kept");
    let image = fetch(&other, &name, &Lock::empty(), &Ear::default()).expect("the rest");
    assert_eq!(fs::metadata(image.layers[0].join("noise")).expect("noise").len(), 8 << 20);
    assert_eq!((other.usage().partial_bytes, other.usage().layers), (0, 1));
}

#[test]
fn a_spoilt_beginning_is_fetched_again() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    let name = registry.name("app:1");
    push(&images, &bundle, &name);
    let other = world.images_with("other", Credentials::none());
    let ear = Ear { stop_at: Some(1), ..Ear::default() };
    assert!(fetch(&other, &name, &Lock::empty(), &ear).is_err());
    for entry in fs::read_dir(world.path("other/images/partial")).expect("partial").flatten() {
        fs::write(entry.path(), "spoilt").expect("spoilt");
    }
    fetch(&other, &name, &Lock::empty(), &Ear::default()).expect("fetched all the same");
}

#[test]
fn layers_in_use_stay_and_others_go() {
    let world = World::new();
    let images = world.images();
    world.bundle(&images, "one");
    let used = fetch(&images, "oci:low", &Lock::empty(), &Ear::default()).expect("low");
    let all = Keep { bytes_max: Some(0), age_max: None };
    let report = images.gc(all, SystemTime::now(), false).expect("gc");
    assert_eq!((report.layers, report.pinned), (0, 1));
    assert!(used.layers[0].join("etc/low").exists());
    drop(used);
    let dry = images.gc(all, SystemTime::now(), true).expect("gc");
    assert_eq!((dry.layers, images.usage().layers), (1, 1));
    let young = Keep { bytes_max: None, age_max: Some(Duration::from_secs(3600)) };
    assert_eq!(images.gc(young, SystemTime::now(), false).expect("gc").layers, 0);
    assert_eq!(images.gc(young, SystemTime::now() + Duration::from_secs(7200), false).expect("gc").layers, 1);
    assert_eq!(images.usage().layers, 0);
    fetch(&images, "oci:low", &Lock::empty(), &Ear::default()).expect("again");
}

#[test]
fn what_a_crash_left_of_a_layer_is_made_anew() {
    let world = World::new();
    let images = world.images();
    world.bundle(&images, "one");
    let image = fetch(&images, "oci:low", &Lock::empty(), &Ear::default()).expect("low");
    let layer = image.layers[0].clone();
    drop(image);
    fs::remove_file(layer.with_file_name("pin")).expect("lost");
    fs::remove_file(layer.join("etc/low")).expect("lost");
    let image = fetch(&images, "oci:low", &Lock::empty(), &Ear::default()).expect("again");
    assert!(image.layers[0].join("etc/low").exists());
}

#[test]
fn an_index_gives_each_machine_its_own_and_travels_as_a_whole() {
    let Some(registry) = Registry::open() else { return };
    let world = World::new();
    let images = world.images();
    for arch in ["amd64", "arm64"] {
        world.write(&format!("src/bin-{arch}"), arch);
    }
    let platforms = ["linux/amd64", "linux/arm64"].map(|text| Platform::parse(text).expect("platform")).to_vec();
    let recipe = Recipe { add: vec![add("src/bin-{arch}:/bin/app:755")], platforms, ..Recipe::default() };
    let bundle = images.build(&recipe, &Lock::empty(), &Ear::default()).expect("built");
    push(&images, &bundle, &registry.name("multi:1"));
    for arch in ["amd64", "arm64"] {
        let platform = Platform::parse(&format!("linux/{arch}")).expect("platform");
        let options = Options { platform, ..Options::new(world.folder.path()) };
        let other = Images::open(&world.path(arch), options).expect("images");
        let image = fetch(&other, &registry.name("multi:1"), &Lock::empty(), &Ear::default()).expect("fetched");
        assert_eq!(fs::read_to_string(image.layers[0].join("bin/app")).expect("app"), arch);
    }
    let carrier = world.images_with("carrier", Credentials::none());
    let gathered = carrier.gather(&reference(&registry.name("multi:1")), &Lock::empty(), &Ear::default()).expect("all");
    assert_eq!(gathered.digest(), bundle.digest());
    push(&carrier, &gathered, &registry.name("elsewhere/multi:2"));
    if has("skopeo") {
        let raw =
            ["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", registry.name("elsewhere/multi:2"))];
        let text = succeeds("skopeo", &raw, world.folder.path());
        assert_eq!(Sum::of(text.as_bytes()), bundle.digest().into());
        assert!(text.contains("arm64") && text.contains("amd64"));
    }
}

#[test]
fn a_password_is_asked_for_and_found_in_the_usual_file() {
    let auth = "auth:\n  htpasswd: {realm: x, path: FOLDER/htpasswd}\n";
    let Some(registry) = Registry::start(auth) else { return };
    let world = World::new();
    let file = world.path("config.json");
    // base64 of `me:secret`.
    let text = format!(r#"{{"auths":{{"127.0.0.1:{}":{{"auth":"bWU6c2VjcmV0"}}}}}}"#, registry.port);
    fs::write(&file, text).expect("credentials");
    let images = world.images_with("cache", Credentials::in_files(vec![file]));
    let bundle = world.bundle(&images, "one");
    let name = registry.name("app:1");
    push(&images, &bundle, &name);
    fetch(&images, &name, &Lock::empty(), &Ear::default()).expect("with the password");
    let nobody = world.images_with("nobody", Credentials::none());
    let error = fetch(&nobody, &name, &Lock::empty(), &Ear::default()).expect_err("without it");
    assert!(matches!(error, ImageError::Registry { refusal: Refusal::Denied, .. }));
    assert!(error.to_string().contains("log in with a tool that writes ~/.docker/config.json"), "{error}");
}

#[test]
fn what_others_write_is_read() {
    let Some(registry) = Registry::open() else { return };
    if !has("skopeo") {
        return;
    }
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    images.write(&bundle, &reference("oci:made:v1")).expect("layout");
    let docker = format!("docker://{}", registry.name("docker:1"));
    for (args, name) in [
        (vec!["--format", "v2s2", "--dest-tls-verify=false", "oci:made:v1", &docker], registry.name("docker:1")),
        (vec!["oci:made:v1", "oci-archive:made.tar:v1"], "oci-archive:made.tar".into()),
        (vec!["oci:made:v1", "docker-archive:docker.tar:app:1"], "docker-archive:docker.tar:app:1".into()),
        (vec!["oci:made:v1", "oci:copy:v1"], "oci:copy:v1".into()),
        (vec!["--dest-compress-format", "zstd", "oci:made:v1", "oci:zstd:v1"], "oci:zstd:v1".into()),
    ] {
        let args: Vec<&str> = ["copy", "--quiet"].into_iter().chain(args).collect();
        succeeds("skopeo", &args, world.folder.path());
        let fresh = world.images_with(&format!("cache-{}", name.len()), Credentials::none());
        let image =
            fetch(&fresh, &name, &Lock::empty(), &Ear::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(fs::read_to_string(image.layers[1].join("etc/low")).expect("low"), "one", "{name}");
        assert_eq!(image.config.user, "app", "{name}");
        fs::remove_dir_all(world.path(&format!("cache-{}", name.len()))).expect("cleaned");
    }
}

#[test]
fn what_we_write_is_read_by_others() {
    let Some(registry) = Registry::open() else { return };
    if !has("skopeo") || !has("umoci") {
        return;
    }
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    let name = registry.name("app:1");
    push(&images, &bundle, &name);
    let inspect = ["inspect", "--tls-verify=false", &format!("docker://{name}")];
    let text = succeeds("skopeo", &inspect, world.folder.path());
    assert!(text.contains(&Sum::from(bundle.digest()).to_string()) && text.contains("MARK=one"), "{text}");
    images.write(&bundle, &reference("oci-archive:ours.tar:v1")).expect("archive");
    succeeds("skopeo", &["copy", "--quiet", "oci-archive:ours.tar:v1", "oci:theirs:v1"], world.folder.path());
    let mut unpack = vec!["unpack", "--image", "theirs:v1", "bundle"];
    if !rustix::process::geteuid().is_root() {
        unpack.insert(1, "--rootless");
    }
    succeeds("umoci", &unpack, world.folder.path());
    let theirs = world.path("bundle/rootfs");
    assert_eq!(fs::read_to_string(theirs.join("etc/low")).expect("low"), "one");
    assert_eq!(fs::read(theirs.join("opt/file")).expect("top"), crate::world::noise("one", 300_000));
}
