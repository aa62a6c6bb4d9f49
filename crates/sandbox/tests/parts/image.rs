//! An unpacked image as `/`.

use std::os::unix::fs::{PermissionsExt, symlink};

use sandbox::{Bind, Exit, ImageRoot, Root, Spec};

use crate::scene::{Scene, image, image_step, run};
use crate::{can_sandbox, fs, needs_sandbox};

#[test]
fn an_image_is_the_root_and_what_is_written_goes_to_its_upper() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("layer/etc/release", "the image's");
    let ended = run(image_step(&scene, "cat /etc/release; echo x > /made; echo x > /etc/made; rm /etc/release; ls /"));
    assert_eq!(ended.output, "the image'sbin\ndev\netc\nlib\nlib64\nmade\nproc\nsys\ntmp\nusr\n");
    assert_eq!((scene.read("root-upper/made"), scene.read("layer/etc/release")), ("x\n".into(), "the image's".into()));
}

#[test]
fn the_topmost_layer_wins_and_all_are_there() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("top/which", "top");
    scene.file("layer/which", "bottom");
    scene.file("layer/below", "below");
    let mut step = image_step(&scene, "cat /which /below");
    image(&mut step).lower.insert(0, scene.path("top"));
    assert_eq!(run(step).output, "topbelow");
}

#[test]
fn an_image_of_five_hundred_layers_works() {
    needs_sandbox!();
    let scene = Scene::new();
    let mut step = image_step(&scene, "ls /numbers | wc -l");
    for number in 1..500 {
        let name = format!("layers/{number}");
        scene.file(&format!("{name}/numbers/{number}"), "");
        image(&mut step).lower.push(scene.path(&name));
    }
    assert_eq!(run(step).output, "499\n");
}

#[test]
fn links_of_an_image_stay_inside_it() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("outside/secret", "of the host");
    let outside = scene.path("outside");
    let layer = scene.folder("layer");
    symlink(&outside, layer.join("absolute")).expect("made");
    symlink("../../../../../../../..", layer.join("up")).expect("made");
    let (target, script) = (scene.folder("bound"), "ls -A /absolute/ /up/ 2>&1; cat /absolute/at/mark");
    scene.file("bound/mark", "bound");
    let mut step = image_step(&scene, script);
    step.binds.push(Bind { from: target, to: "/absolute/at".into(), writable: false });
    let error = crate::start(step).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.starts_with("cannot make the mount point /absolute/at in the sandbox"), "{error}");
    assert!(!outside.join("at").exists(), "nothing was made outside");
    let scene_of_second = Scene::new();
    symlink("/real", scene_of_second.folder("layer").join("link")).expect("made");
    scene_of_second.folder("layer/real");
    let mut step = image_step(&scene_of_second, "cat /real/at/mark; test -L /link && echo is a link");
    step.binds.push(Bind { from: scene.path("bound"), to: "/link/at".into(), writable: false });
    assert_eq!(run(step).output, "boundis a link\n");
}

#[test]
fn devices_processes_and_tmp_are_never_the_images() {
    needs_sandbox!();
    let scene = Scene::new();
    for file in ["dev/evil", "tmp/evil", "proc/evil", "dev/null"] {
        scene.file(&format!("layer/{file}"), "of the image");
    }
    let script =
        "echo /dev/* /tmp/*; ls -A /proc/evil 2>&1; echo x > /dev/null; cat /dev/null; stat -c %a /tmp /dev/shm
                  echo x > /dev/evil; mkdir /dev/x; echo x > /dev/shm/x && cat /dev/shm/x; echo /proc/[0-9]*";
    let output = run(image_step(&scene, script)).output;
    let devices = "/dev/fd /dev/full /dev/null /dev/ptmx /dev/pts /dev/random /dev/shm /dev/stderr /dev/stdin \
                   /dev/stdout /dev/tty /dev/urandom /dev/zero /tmp/*\n";
    assert!(output.starts_with(devices), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    assert!(output.contains("No such file") && output.contains("1777\n1777\n"), "{output}");
    assert!(output.contains("\nx\n/proc/1 /proc/2"), "{output}");
}

#[test]
fn the_workspace_and_binds_lie_in_an_image_too() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("lower/there", "workspace");
    let mut step = image_step(&scene, "cat there; echo x > made; echo x > /opt/tool/x 2>&1; echo x > /etc/resolv.conf");
    step.overlays = vec![scene.workspace(&["lower"])];
    step.cwd = "/workspace".into();
    step.binds.push(Bind { from: scene.folder("tool"), to: "/opt/tool".into(), writable: false });
    step.binds.push(Bind { from: scene.file("resolv", ""), to: "/etc/resolv.conf".into(), writable: true });
    let output = run(step).output;
    assert!(output.starts_with("workspace") && output.contains("Read-only"), "{output}");
    assert_eq!((scene.read("upper/made"), scene.read("resolv")), ("x\n".into(), "x\n".into()));
    assert!(!scene.path("root-upper/workspace/made").exists());
}

#[test]
fn a_program_is_looked_up_in_the_image() {
    needs_sandbox!();
    let scene = Scene::new();
    let tool = scene.file("layer/opt/bin/only-here", "#!/bin/sh\necho from the image");
    fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).expect("ours");
    let mut step = image_step(&scene, "");
    step.argv = vec!["only-here".into()];
    step.env = vec![("PATH".into(), "/opt/bin".into())];
    assert_eq!(run(step).output, "from the image\n");
}

#[test]
fn the_host_is_gone_from_an_image() {
    needs_sandbox!();
    let scene = Scene::new();
    let script = "cat /proc/self/mountinfo | cut -d' ' -f5 | sort; ls -d /root /home /sys/kernel 2>/dev/null";
    let output = run(image_step(&scene, script)).output;
    for place in ["/", "/usr", "/dev", "/proc", "/tmp"] {
        assert_eq!(output.lines().filter(|line| *line == place).count(), 1, "{place}: {output}");
    }
    assert!(!output.contains("/root") && !output.contains("/home") && !output.contains("/sys/kernel"), "{output}");
}

#[test]
fn what_an_image_leaves_can_be_removed_and_its_layers_are_as_before() {
    needs_sandbox!();
    let scene = Scene::new();
    scene.file("layer/dir/a/file", "x");
    let ended = run(image_step(&scene, "rm -r /dir; mkdir -p /dir/b; chmod 0 /dir/b"));
    assert_eq!(ended.exit, Exit::Code(0), "{}", ended.output);
    assert_eq!(scene.read("layer/dir/a/file"), "x");
    sandbox::remove_tree(&scene.path("root-upper")).expect("it is ours");
    sandbox::remove_tree(&scene.path("root-work")).expect("it is ours");
}

#[test]
fn a_layer_that_is_missing_is_named() {
    needs_sandbox!();
    let scene = Scene::new();
    let root = ImageRoot { lower: vec!["/no/such/layer".into()], upper: scene.folder("u"), work: scene.folder("w") };
    let error = Spec::new(vec!["true".into()], Root::Image(root)).spawn().err().map(|error| error.to_string());
    let expected = "cannot open /no/such/layer, a lower directory of the overlay at /: No such file or directory";
    assert!(error.as_deref().is_some_and(|error| error.starts_with(expected)), "{error:?}");
}
