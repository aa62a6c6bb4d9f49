//! What is built is what was asked for, and the same each time.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use image::{Credentials, Lock, Platform, Recipe};

use crate::world::{Ear, World, add, fetch, reference};

#[test]
fn the_same_input_makes_the_same_bytes() {
    let world = World::new();
    let one = world.images();
    let first = world.bundle(&one, "same");
    one.write(&first, &reference("oci-archive:one.tar")).expect("archive");
    // Another time and another mode that means the same.
    world.write("src/low/etc/low", "same");
    fs::set_permissions(world.path("src/low/etc/low"), PermissionsExt::from_mode(0o600)).expect("mode");
    fs::remove_dir_all(world.path("low")).expect("gone");
    let two = world.images_with("two", Credentials::none());
    fs::create_dir_all(world.path("src/low/etc")).expect("there");
    let second = world.bundle(&two, "same");
    two.write(&second, &reference("oci-archive:two.tar")).expect("archive");
    assert_eq!(first.digest(), second.digest());
    assert!(fs::read(world.path("one.tar")).expect("one") == fs::read(world.path("two.tar")).expect("two"));
}

#[test]
fn files_go_where_the_links_of_the_base_point() {
    let world = World::new();
    let images = world.images();
    world.write("src/base/usr/bin/sh", "shell");
    symlink("usr/bin", world.path("src/base/bin")).expect("link");
    world.write("src/tool", "tool");
    let base = Recipe { add: vec![add("src/base:/")], ..Recipe::default() };
    let base = images.build(&base, &Lock::empty(), &Ear::default()).expect("base");
    images.write(&base, &reference("oci:base")).expect("layout");
    let recipe =
        Recipe { base: Some(reference("oci:base")), add: vec![add("src/tool:/bin/:700")], ..Recipe::default() };
    let bundle = images.build(&recipe, &Lock::empty(), &Ear::default()).expect("built");
    images.write(&bundle, &reference("oci:built")).expect("layout");
    let image = fetch(&images, "oci:built", &Lock::empty(), &Ear::default()).expect("fetched");
    assert!(!image.layers[0].join("bin").exists(), "a folder here would hide the base's programs");
    let tool = fs::metadata(image.layers[0].join("usr/bin/tool")).expect("tool");
    assert_eq!((tool.mode() & 0o7777, tool.mtime()), (0o700, 0));
}

#[test]
fn folders_of_the_base_keep_their_modes() {
    let world = World::new();
    let images = world.images();
    world.write("src/x", "x");
    let tar = crate::archive::Tar::new().entry(b'5', "tmp", 0o1777, "", b"").entry(b'5', "root", 0o700, "", b"").end();
    layout(&world, &tar);
    let recipe = Recipe {
        base: Some(reference("oci:raw")),
        add: vec![add("src/x:/tmp/x"), add("src/x:/root/x")],
        ..Recipe::default()
    };
    let bundle = images.build(&recipe, &Lock::empty(), &Ear::default()).expect("built");
    images.write(&bundle, &reference("oci:built")).expect("layout");
    let image = fetch(&images, "oci:built", &Lock::empty(), &Ear::default()).expect("fetched");
    let mode = |name: &str| fs::metadata(image.layers[0].join(name)).expect("there").mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("root")), (0o1777, 0o700));
}

/// An OCI layout `raw` with this one layer.
fn layout(world: &World, tar: &[u8]) {
    let blob = |bytes: &[u8]| {
        let sum = image::Sum::of(bytes);
        world.write(&format!("raw/blobs/sha256/{}", sum.hex()), bytes);
        format!(r#"{{"mediaType":"","digest":"{sum}","size":{}}}"#, bytes.len())
    };
    let layer = blob(tar);
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","config":{{"Healthcheck":{{"Test":["NONE"]}},"Cmd":["old"],"Env":["A=1","B=2"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        image::Sum::of(tar)
    );
    let manifest = format!(r#"{{"schemaVersion":2,"config":{},"layers":[{layer}]}}"#, blob(config.as_bytes()));
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, blob(manifest.as_bytes()));
    world.write("raw/index.json", index);
}

#[test]
fn a_config_is_the_bases_with_what_was_said() {
    let world = World::new();
    let images = world.images();
    layout(&world, &crate::archive::Tar::new().file("x", "x").end());
    let recipe = Recipe {
        base: Some(reference("oci:raw")),
        env: vec![("B".into(), "3".into()), ("C".into(), "4".into())],
        entrypoint: Some(vec!["/init".into()]),
        user: Some("7".into()),
        working_dir: Some("/srv".into()),
        labels: [("team".to_string(), "a".to_string())].into(),
        ..Recipe::default()
    };
    let bundle = images.build(&recipe, &Lock::empty(), &Ear::default()).expect("built");
    images.write(&bundle, &reference("oci:built:v1")).expect("layout");
    let image = fetch(&images, "oci:built:v1", &Lock::empty(), &Ear::default()).expect("fetched");
    let env = [("A", "1"), ("B", "3"), ("C", "4")].map(|(name, value)| (name.to_string(), value.to_string()));
    assert_eq!(image.config.env, env);
    assert_eq!((image.config.entrypoint.as_slice(), image.config.cmd.len()), (&["/init".to_string()][..], 0));
    assert_eq!((image.config.user.as_str(), image.config.working_dir.as_deref()), ("7", Some("/srv")));
    let texts = fs::read_dir(world.path("built/blobs/sha256")).expect("blobs").flatten();
    let texts: Vec<String> = texts.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
    assert!(texts.iter().any(|text| text.contains("Healthcheck") && text.contains("\"team\":\"a\"")), "{texts:?}");
}

#[test]
fn a_layout_that_changed_is_not_what_was_locked() {
    let world = World::new();
    let images = world.images();
    let bundle = world.bundle(&images, "one");
    images.write(&bundle, &reference("oci:made:v1")).expect("layout");
    let mut lock = Lock::empty();
    lock.set(&reference("oci:made:v1"), bundle.digest().into());
    fetch(&images, "oci:made:v1", &lock, &Ear::default()).expect("as locked");
    images.write(&world.bundle(&images, "two"), &reference("oci:made:v1")).expect("layout");
    let error = fetch(&images, "oci:made:v1", &lock, &Ear::default()).expect_err("changed").to_string();
    assert!(error.contains("is locked to") && error.contains("pace image lock"), "{error}");
    images.write(&bundle, &reference("oci:made:v2")).expect("layout");
    let error = fetch(&images, "oci:made", &Lock::empty(), &Ear::default()).expect_err("which").to_string();
    assert!(error.contains("it has several images; name one of: v1, v2"), "{error}");
}

#[test]
fn an_image_for_other_machines_only_is_refused() {
    let world = World::new();
    let images = world.images();
    world.write("src/x", "x");
    let platforms = ["linux/s390x", "linux/riscv64"].map(|text| Platform::parse(text).expect("platform")).to_vec();
    let recipe = Recipe { add: vec![add("src/x:/x")], platforms, ..Recipe::default() };
    let bundle = images.build(&recipe, &Lock::empty(), &Ear::default()).expect("built");
    images.write(&bundle, &reference("oci:far")).expect("layout");
    let error = fetch(&images, "oci:far", &Lock::empty(), &Ear::default()).expect_err("far").to_string();
    assert!(error.ends_with("; it has linux/s390x, linux/riscv64"), "{error}");
}
