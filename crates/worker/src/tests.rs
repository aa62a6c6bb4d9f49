//! Actions in real sandboxes.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use bazel_remote_apis::build::bazel::remote::execution::v2 as api;
use blobs::{Blobs, Function, Key};
use cache::execution::{Executor, Fault, Stop, Work};
use prost::Message;

use crate::collect::digest;
use crate::{Options, Worker};

/// A store, a worker, and the hands of a client.
struct World {
    _folder: tempfile::TempDir,
    blobs: Blobs,
    worker: Worker,
}

/// What a client wants, before it is messages.
#[derive(Clone, Default)]
struct Wanted {
    script: String,
    root: api::Directory,
    outputs: Vec<&'static str>,
    directories: Vec<&'static str>,
    folder: &'static str,
    timeout: Option<i64>,
    properties: Vec<(&'static str, &'static str)>,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let blobs = Blobs::open(&folder.path().join("store"), blobs::Options::default()).expect("a store");
        let worker = Worker::open(Options::new(folder.path().join("worker"))).expect("a worker");
        World { _folder: folder, blobs, worker }
    }

    fn put(&self, bytes: &[u8]) -> Key {
        let key = Function::Sha256.key_of(bytes);
        self.blobs.put_many(&[(key, bytes.to_vec().into())]).into_iter().for_each(|put| put.expect("stored"));
        key
    }

    fn message(&self, message: &impl Message) -> api::Digest {
        digest(&self.put(&message.encode_to_vec()))
    }

    fn file(&self, name: &str, text: &str) -> api::FileNode {
        let digest = Some(digest(&self.put(text.as_bytes())));
        api::FileNode { name: name.into(), digest, ..api::FileNode::default() }
    }

    #[allow(deprecated)]
    fn action(&self, wanted: &Wanted) -> Key {
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let properties = wanted
            .properties
            .iter()
            .map(|(name, value)| api::platform::Property { name: (*name).into(), value: (*value).into() });
        let legacy = !wanted.directories.is_empty();
        let command = api::Command {
            arguments: vec!["/bin/sh".into(), "-c".into(), wanted.script.clone()],
            output_paths: if legacy { Vec::new() } else { owned(&wanted.outputs) },
            output_files: if legacy { owned(&wanted.outputs) } else { Vec::new() },
            output_directories: owned(&wanted.directories),
            working_directory: wanted.folder.into(),
            ..api::Command::default()
        };
        let timeout = wanted.timeout.map(|seconds| bazel_remote_apis::google::protobuf::Duration { seconds, nanos: 0 });
        let action = api::Action {
            command_digest: Some(self.message(&command)),
            input_root_digest: Some(self.message(&wanted.root)),
            platform: Some(api::Platform { properties: properties.collect() }),
            timeout,
            ..api::Action::default()
        };
        self.put(&action.encode_to_vec())
    }

    fn execute(&self, wanted: &Wanted) -> Result<api::ActionResult, Fault> {
        let work = Work { action: self.action(wanted), queued: SystemTime::now(), stop: Stop::default() };
        self.worker.execute(&self.blobs, &work)
    }

    fn text(&self, digest: Option<&api::Digest>) -> String {
        let Some(digest) = digest else { return String::new() };
        let key = Key::from_hex(Function::Sha256, &digest.hash, digest.size_bytes as u64).expect("a digest");
        String::from_utf8(self.blobs.get(&key, 1 << 20).expect("it is there").to_vec()).expect("text")
    }

    fn rooms(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self._folder.path().join("worker")).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| !path.ends_with("files")).collect()
    }
}

fn script(script: &str) -> Wanted {
    Wanted { script: script.into(), ..Wanted::default() }
}

#[track_caller]
fn invalid(result: Result<api::ActionResult, Fault>, why: &str) {
    match result {
        Err(Fault::Invalid(told)) => assert!(told.contains(why), "{told}"),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn an_action_gets_its_inputs_and_hands_on_what_it_made_and_said() {
    let world = World::new();
    let below = world.message(&api::Directory { files: vec![world.file("in", "one")], ..Default::default() });
    let directories = vec![api::DirectoryNode { name: "sub".into(), digest: Some(below) }];
    let symlinks = vec![api::SymlinkNode { name: "link".into(), target: "sub/in".into(), node_properties: None }];
    let root = api::Directory { directories, symlinks, ..Default::default() };
    let text =
        "cat link > out/deep/file; chmod +x out/deep/file; ln -s file out/deep/to; echo said; echo cried >&2; exit 3";
    let wanted = Wanted { root, outputs: vec!["out/deep/file", "out/deep/missing", "out/deep/to"], ..script(text) };
    let result = world.execute(&wanted).expect("executed");
    assert_eq!(result.exit_code, 3);
    let [file] = &result.output_files[..] else { panic!("{result:?}") };
    assert_eq!((file.path.as_str(), file.is_executable), ("out/deep/file", true));
    assert_eq!(world.text(file.digest.as_ref()), "one");
    let links: Vec<_> = result.output_symlinks.iter().map(|link| (&*link.path, &*link.target)).collect();
    assert_eq!(links, [("out/deep/to", "file")]);
    assert_eq!(world.text(result.stdout_digest.as_ref()), "said\n");
    assert_eq!(world.text(result.stderr_digest.as_ref()), "cried\n");
    assert!(result.execution_metadata.is_some_and(|told| told.execution_completed_timestamp.is_some()));
    assert!(world.rooms().is_empty(), "{:?} were left", world.rooms());
}

#[test]
fn an_output_directory_is_a_tree_of_what_was_there_and_what_was_made() {
    let world = World::new();
    let inputs = vec![world.file("gone", ""), world.file("kept", "kept")];
    let below = world.message(&api::Directory { files: inputs, ..Default::default() });
    let directories = vec![api::DirectoryNode { name: "out".into(), digest: Some(below) }];
    let root = api::Directory { directories, ..Default::default() };
    let text =
        "rm out/gone; mkdir -p out/a/x out/b/x; echo new > out/a/x/f; cp -r out/a/x/f out/b/x/f; mkfifo out/pipe";
    let result = world.execute(&Wanted { root, outputs: vec!["out"], ..script(text) }).expect("executed");
    let [directory] = &result.output_directories[..] else { panic!("{result:?}") };
    let digest = directory.tree_digest.as_ref().expect("a tree");
    let key = Key::from_hex(Function::Sha256, &digest.hash, digest.size_bytes as u64).expect("a digest");
    let tree = api::Tree::decode(world.blobs.get(&key, 1 << 20).expect("it is there")).expect("a tree");
    let top = tree.root.expect("a root");
    assert_eq!(top.files.iter().map(|file| &*file.name).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(top.directories.iter().map(|dir| &*dir.name).collect::<Vec<_>>(), ["a", "b"]);
    // `a` and `b` are one directory, and so are what is in them.
    assert_eq!(top.directories[0].digest, top.directories[1].digest);
    assert_eq!(tree.children.len(), 2);
    assert_eq!(world.text(tree.children[1].files[0].digest.as_ref()), "new\n");
}

#[test]
fn no_action_changes_what_another_one_is_given() {
    let world = World::new();
    let root = api::Directory { files: vec![world.file("in", "right")], ..Default::default() };
    let spoil = "chmod u+w in; echo wrong > in; cat in; rm in; ls";
    let spoiled = world.execute(&Wanted { root: root.clone(), ..script(spoil) }).expect("executed");
    assert_eq!(world.text(spoiled.stdout_digest.as_ref()), "wrong\n");
    let next = world.execute(&Wanted { root, ..script("cat in; stat -c %y in") }).expect("executed");
    let said = world.text(next.stdout_digest.as_ref());
    assert!(said.starts_with("right2000-01-01"), "{said}");
}

#[test]
fn an_action_sees_neither_home_nor_network_nor_our_environment() {
    let world = World::new();
    let seen = "ls -A /root /home /work 2>/dev/null; env | grep -v '^PWD=\\|^SHLVL=\\|^_=\\|^OLDPWD='; ls /sys/class/net; \
                ls /proc | grep -c '^[0-9]'";
    let result = world.execute(&script(seen)).expect("executed");
    let said = world.text(result.stdout_digest.as_ref());
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.len() <= 2 && lines.iter().all(|line| *line == "lo" || line.parse::<u32>().is_ok_and(|n| n < 9)),
        "{said}"
    );
    let asks = Wanted { properties: vec![("network", "host")], ..script("true") };
    assert!(matches!(world.execute(&asks), Err(Fault::Unmet(why)) if why.contains("--execute-network")));
    let asks = Wanted { properties: vec![("container-image", "docker://x")], ..script("true") };
    assert!(matches!(world.execute(&asks), Err(Fault::Unmet(why)) if why.contains("container-image")));
    let asks = Wanted { properties: vec![("OSFamily", "Linux"), ("network", "none")], ..script("true") };
    assert_eq!(world.execute(&asks).expect("executed").exit_code, 0);
}

#[test]
fn a_link_that_an_action_leaves_leads_nobody_out_of_its_workspace() {
    let world = World::new();
    let secret = world._folder.path().join("secret");
    std::fs::write(&secret, "secret").expect("a file");
    let text = format!("ln -s {} file; ln -s {} dir", secret.display(), world._folder.path().display());
    let result = world.execute(&Wanted { outputs: vec!["dir/secret", "file"], ..script(&text) }).expect("executed");
    assert!(result.output_files.is_empty(), "{result:?}");
    assert_eq!(result.output_symlinks.len(), 1);
}

#[test]
fn input_trees_that_cannot_be_are_refused() {
    let world = World::new();
    let with = |root: api::Directory| world.execute(&Wanted { root, ..script("true") });
    for name in ["..", ".", "", "a/b", "/etc", "a\0b"] {
        let files = vec![world.file(name, "x")];
        invalid(with(api::Directory { files, ..Default::default() }), "the name");
    }
    let files = vec![world.file("a", "x"), world.file("a", "y")];
    invalid(with(api::Directory { files, ..Default::default() }), "twice");
    let symlinks = vec![api::SymlinkNode { name: "a".into(), target: "/".into(), node_properties: None }];
    let files = vec![world.file("a", "x")];
    invalid(with(api::Directory { files, symlinks, ..Default::default() }), "twice");
    let symlinks = vec![api::SymlinkNode { name: "a".into(), target: String::new(), node_properties: None }];
    invalid(with(api::Directory { symlinks, ..Default::default() }), "target");
    let bad = api::Digest { hash: "../../etc".into(), size_bytes: 1 };
    let files = vec![api::FileNode { name: "a".into(), digest: Some(bad), ..Default::default() }];
    invalid(with(api::Directory { files, ..Default::default() }), "64 hexadecimal digits");
}

#[test]
fn trees_of_ten_thousand_levels_or_a_trillion_directories_are_refused() {
    let world = World::new();
    let mut deep = api::Directory::default();
    for _ in 0..10_000 {
        let directories = vec![api::DirectoryNode { name: "d".into(), digest: Some(world.message(&deep)) }];
        deep = api::Directory { directories, ..Default::default() };
    }
    invalid(world.execute(&Wanted { root: deep, ..script("true") }), "bytes");
    let mut wide = api::Directory { files: vec![world.file("f", "x")], ..Default::default() };
    for _ in 0..40 {
        let digest = Some(world.message(&wide));
        let node = |name: &str| api::DirectoryNode { name: name.into(), digest: digest.clone() };
        wide = api::Directory { directories: vec![node("a"), node("b")], ..Default::default() };
    }
    invalid(world.execute(&Wanted { root: wide, ..script("true") }), "more than");
}

#[test]
fn outputs_and_folders_outside_of_the_workspace_are_refused() {
    let world = World::new();
    for path in ["../x", "/x", "a/../../x", "a//b"] {
        invalid(world.execute(&Wanted { outputs: vec![path], ..script("true") }), "no path below");
        invalid(world.execute(&Wanted { folder: path, ..script("true") }), "no path below");
    }
    invalid(world.execute(&Wanted { folder: "nowhere", ..script("true") }), "no directory of the input tree");
    let root = api::Directory { files: vec![world.file("f", "x")], ..Default::default() };
    invalid(world.execute(&Wanted { root, outputs: vec!["f/out"], ..script("true") }), "is a file");
}

#[test]
fn all_missing_blobs_are_named_at_once() {
    let world = World::new();
    let (one, other) = (Function::Sha256.key_of(b"one"), Function::Sha256.key_of(b"other"));
    let files = vec![api::FileNode { name: "f".into(), digest: Some(digest(&one)), ..Default::default() }];
    let directories = vec![api::DirectoryNode { name: "d".into(), digest: Some(digest(&other)) }];
    let root = api::Directory { files, directories, ..Default::default() };
    match world.execute(&Wanted { root, ..script("true") }) {
        Err(Fault::Missing(mut keys)) => {
            keys.sort();
            let mut wanted = vec![one, other];
            wanted.sort();
            assert_eq!(keys, wanted);
        }
        result => panic!("{result:?}"),
    }
}

#[test]
fn an_action_that_does_not_end_is_killed_at_its_timeout_and_when_nobody_waits() {
    let world = World::new();
    let began = Instant::now();
    let endless = Wanted { timeout: Some(1), ..script("echo so far; sleep 600 & sleep 600") };
    match world.execute(&endless) {
        Err(Fault::TimedOut { result, .. }) => assert_eq!(world.text(result.stdout_digest.as_ref()), "so far\n"),
        result => panic!("{result:?}"),
    }
    let work = Work { action: world.action(&script("sleep 600")), queued: SystemTime::now(), stop: Stop::default() };
    let stop = work.stop.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.want();
    });
    assert_eq!(world.worker.execute(&world.blobs, &work), Err(Fault::Stopped));
    assert!(began.elapsed() < Duration::from_secs(300));
    invalid(world.execute(&Wanted { timeout: Some(100_000), ..script("true") }), "timeout");
}

#[test]
fn a_program_that_is_not_there_is_told_as_shells_tell_it() {
    let world = World::new();
    let command = api::Command { arguments: vec!["no-such-program".into()], ..Default::default() };
    let action = api::Action {
        command_digest: Some(world.message(&command)),
        input_root_digest: Some(world.message(&api::Directory::default())),
        ..Default::default()
    };
    let action = world.put(&action.encode_to_vec());
    let work = Work { action, queued: SystemTime::now(), stop: Stop::default() };
    let result = world.worker.execute(&world.blobs, &work).expect("executed");
    assert_eq!(result.exit_code, 127);
    assert!(world.text(result.stderr_digest.as_ref()).contains("no-such-program"));
}

#[test]
fn the_two_older_fields_for_outputs_are_understood() {
    let world = World::new();
    let text = "echo f > f; mkdir d; echo g > d/g; ln -s f l; ln -s d m";
    let wanted = Wanted { outputs: vec!["f", "l"], directories: vec!["d", "m"], ..script(text) };
    let result = world.execute(&wanted).expect("executed");
    assert_eq!((result.output_files.len(), result.output_directories.len()), (1, 1));
    #[allow(deprecated)]
    let links = (result.output_file_symlinks.len(), result.output_directory_symlinks.len());
    assert_eq!(links, (1, 1));
}
