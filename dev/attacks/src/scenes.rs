//! Scenes: attacks that take several steps, runs or projects, or whose harm is seen outside. Played by `tests/attacks.rs`.

use crate::{Attack, Wall, scene};

const FAILS: &str = "harmless: the step fails and says why";

pub const ATTACKS: &[Attack] = &[
    scene(
        "write-repository",
        "deletes and overwrites the repository",
        Wall::View,
        "harmless: the repository is as it was",
    ),
    scene("git-hooks", "leaves hooks and a configuration for Git", Wall::View, "harmless: the repository is as it was"),
    scene("write-home", "leaves keys and start-up files in the home", Wall::View, "harmless: the home is as it was"),
    scene(
        "write-other-layer",
        "writes into what another step made",
        Wall::Capture,
        "harmless: the other sees what it saw",
    ),
    scene(
        "overlay-redirect-layer",
        "leaves a layer that redirects the next step to hidden files",
        Wall::Capture,
        "harmless: hidden files stay hidden",
    ),
    scene("values-link", "hands on a link as its values", Wall::Capture, FAILS),
    scene("values-fifo", "hands on a pipe that nobody writes to as its values", Wall::Capture, FAILS),
    scene("values-flood", "hands on 50 MB as its values", Wall::Limit, FAILS),
    scene("values-folder-link", "replaces its script and values by links", Wall::Capture, FAILS),
    scene("artifact-link", "hands out a link to a host file as an artifact", Wall::Capture, FAILS),
    scene("artifact-folder-link", "hands out an artifact through a folder that is a link", Wall::Capture, FAILS),
    scene("report-link", "reports a host file as its test results", Wall::Capture, FAILS),
    scene("report-bomb", "reports test results that unfold a billionfold", Wall::Limit, "harmless: the run ends"),
    scene("expand-link", "brings more steps from a host file", Wall::Capture, FAILS),
    scene(
        "output-race",
        "exchanges its outputs for links while they are taken",
        Wall::Reaper,
        "harmless: never anything of the host",
    ),
    scene("sparse-file", "hands on a file of 1 TiB that takes no disk", Wall::Limit, FAILS),
    scene("deep-folders", "makes folders deeper than a path is long", Wall::Limit, FAILS),
    scene("hostile-names", "names files with escapes, line ends and bytes that are no text", Wall::Limit, FAILS),
    scene("unremovable", "leaves what nobody may read or remove", Wall::Capture, "harmless: nothing is left"),
    scene("secret-in-files", "prints its secret in every form", Wall::Masking, "harmless: it is masked everywhere"),
    scene("secret-of-another-step", "looks for the secret of a step beside it", Wall::Pids, "harmless: it is nowhere"),
    scene(
        "terminal-escapes",
        "prints escapes that write the clipboard, the title and answers",
        Wall::Screen,
        "harmless: the terminal sees none of them",
    ),
    scene(
        "cache-of-another-project",
        "poisons a named cache that another project uses",
        Wall::View,
        "harmless: the other project's is empty",
    ),
    scene("cache-link", "leaves links to the host in a named cache", Wall::View, "harmless: it leads into the sandbox"),
    scene("poisoned-layer", "finds its stored layer exchanged", Wall::Digests, "harmless: it is made again"),
    scene(
        "poisoned-layer-path",
        "finds paths that lead upwards in its stored layer",
        Wall::Digests,
        "harmless: it is made again",
    ),
    scene("daemon", "leaves processes that ignore every signal", Wall::Reaper, "harmless: none is left"),
    scene("daemon-holds-output", "leaves one that keeps the output open", Wall::Reaper, "harmless: the run ends"),
    scene("stopped-step", "stops itself for ever", Wall::Limit, "harmless: it ends at its timeout"),
    scene("kill-everything", "kills every process that it can name", Wall::Pids, "harmless: the run goes on"),
    scene("sibling-step", "looks for a step that runs at the same time", Wall::View, "harmless: they do not meet"),
    scene("output-flood", "prints 60 MB as fast as it can", Wall::Limit, "harmless: pace stays below 64 MiB"),
    scene(
        "preload",
        "names a library that other programs load first",
        Wall::View,
        "harmless: no other program loads it",
    ),
];
