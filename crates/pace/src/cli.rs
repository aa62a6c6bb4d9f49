//! The command line: one struct per command; its doc comment is the help text.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXIT_CODES: &str = "\
Exit codes: 0 green, 1 internal error, 2 usage, 3 the pipeline is invalid, 10 a step failed, 11 infrastructure, \
12 cancelled, 13 refused by policy.";

/// The heading of the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// CI/CD in one binary: the pipeline that runs on the server is the pipeline that runs on your desk.
#[derive(Debug, Parser)]
#[command(name = "pace", version, styles = STYLES, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    /// How to talk: for people on a terminal, plain lines when piped, or one JSON event a line
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, env = "PACE_OUTPUT")]
    pub output: Option<Output>,
    /// When to use colours (NO_COLOR and CLICOLOR_FORCE are obeyed)
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    // Without a short form: `-f` is what `pace logs` calls `--follow`.
    /// The pipeline file [default: the nearest paceline.yaml, or the only file in .paceline/]
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Do everything as if started in this folder
    #[arg(short = 'C', long, global = true, help_heading = EVERYWHERE, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A live tree on a terminal
    Human,
    /// One line an event
    Plain,
    /// One JSON object a line
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pipeline here
    Run(RunArgs),
    /// Show all diagnostics of pipeline files
    Check(CheckArgs),
    /// Show the graph after matrix, includes and conditions: what would run, what is cached, why
    Plan(PlanArgs),
    /// Show what changed since a step's last run
    Why(StepArgs),
    /// Open the sandbox of a step: its workspace, layers and environment
    Shell(ShellArgs),
    /// Explain a diagnostic at length, with an example before and after
    Explain(ExplainArgs),
    /// Write a first paceline.yaml for what this repository is
    Init(InitArgs),
    /// List the runs made here
    Runs(RunsArgs),
    /// Show the log of a run or of one of its steps
    Logs(LogsArgs),
    /// Fetch, lock, build and push images, without a daemon
    Image(ImageArgs),
    /// Look after the local cache
    Cache(CacheArgs),
    /// Serve a team: webhooks, runs, agents, pages and the shared cache on one port
    Server(Box<crate::command::server::ServerArgs>),
    /// Execute steps for a server: takes what it is given, until a signal comes
    Agent(Box<crate::command::agent::AgentArgs>),
    /// Make a server known, by password, token or a link that works once
    Login(crate::command::login::LoginArgs),
    /// Forget a server
    Logout(crate::team::TeamArgs),
    /// Start a run on the server
    Trigger(Box<crate::command::trigger::TriggerArgs>),
    /// Stop a run on the server
    Cancel(crate::command::steer::CancelArgs),
    /// Answer an approval that a run on the server waits for
    Approve(crate::command::steer::ApproveArgs),
    /// Do an ended run on the server again
    Rerun(crate::command::steer::RerunArgs),
    /// Let a held run on the server go
    Release(crate::command::steer::RunOfTeam),
    /// List or fetch the artifacts of a run on the server
    Artifacts(crate::command::artifacts::ArtifactsArgs),
    /// Write, list and remove secrets on the server
    Secrets(crate::command::secrets::SecretsArgs),
    /// List, register, pause and remove agents of the server
    Agents(crate::command::agents::AgentsArgs),
    /// List, add, test and remove projects of the server
    Projects(Box<crate::command::projects::ProjectsArgs>),
    /// List, invite, change and remove users of the server
    Users(crate::command::people::UsersArgs),
    /// Make, list and remove your tokens on the server
    Tokens(crate::command::people::TokensArgs),

    /// Export, import, rebuild, back up and restore the store of a server
    Store(crate::command::store::StoreArgs),
    /// Check that a server's log is what it was, and show who changed what
    Audit(crate::command::store::AuditArgs),
    /// Say what this host can enforce, and what to do about the rest
    Doctor(DoctorArgs),
    /// Print the JSON Schema of pipeline files, for editors
    Schema,
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
}

/// What a run is for, and with which values.
#[derive(Debug, Args, Default, Clone)]
pub struct TriggerArgs {
    /// A parameter's value; may be given several times
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub params: Vec<String>,
    /// The event to run for; filters under `on` are then obeyed
    #[arg(long, value_enum, default_value_t = EventName::Manual)]
    pub event: EventName,
    /// The revision to compare with for path filters [default: the parent of HEAD]
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum EventName {
    #[default]
    Manual,
    Push,
    #[value(name = "pull_request")]
    PullRequest,
    Schedule,
}

/// Where steps run and what they may use.
#[derive(Debug, Args, Default, Clone)]
pub struct ExecuteArgs {
    /// Steps at once [default: one a CPU]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub jobs: Option<u32>,
    /// How to isolate: `sandbox`, or `process` for none at all
    #[arg(long, value_enum, default_value_t = ExecutorName::Sandbox, env = "PACE_EXECUTOR")]
    pub executor: ExecutorName,
    /// A file of NAME=VALUE lines with secrets; a secret named X is else taken from the variable PACE_SECRET_X
    #[arg(long, value_name = "FILE")]
    pub secrets: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExecutorName {
    /// Namespaces, overlay, seccomp
    #[default]
    Sandbox,
    /// No isolation: a step can read and write all that you can
    Process,
}

/// A cache that is shared with other machines.
#[derive(Debug, Args, Default, Clone)]
pub struct SharedArgs {
    /// Take results from this shared cache and bring it ours: grpc://HOST:PORT/INSTANCE, grpcs:// with TLS, `none` for none
    #[arg(long = "cache", value_name = "URL", env = "PACE_CACHE_URL")]
    pub url: Option<String>,
    /// The variable with the token for the shared cache [default: PACE_CACHE_TOKEN]
    #[arg(long = "cache-token-env", value_name = "NAME")]
    pub token_env: Option<String>,
    /// What to do with the shared cache; pull requests from forks only read [default: read-write]
    #[arg(long = "cache-mode", value_enum, env = "PACE_CACHE_MODE")]
    pub mode: Option<SharedMode>,
    /// The authorities that may vouch for the shared cache, as PEM, instead of those of the system
    #[arg(long = "cache-ca", value_name = "FILE", env = "PACE_CACHE_CA")]
    pub ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SharedMode {
    Read,
    Write,
    ReadWrite,
}

#[derive(Debug, Args, Default)]
pub struct RunArgs {
    /// Run these steps and what they need [default: all]
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    #[command(flatten)]
    pub trigger: TriggerArgs,
    #[command(flatten)]
    pub execute: ExecuteArgs,
    /// After a failure, go on with all that does not depend on the failed step
    #[arg(long, conflicts_with = "fail_fast")]
    pub keep_going: bool,
    /// After a failure, cancel the steps that are running
    #[arg(long)]
    pub fail_fast: bool,
    #[command(flatten)]
    pub shared: SharedArgs,
    /// Execute every step, whatever the cache knows
    #[arg(long)]
    pub no_cache: bool,
    /// Execute cached steps too and compare what they write: are they reproducible?
    #[arg(long, conflicts_with = "no_cache")]
    pub verify: bool,
    /// Run what failed, or was not reached, in the last run
    #[arg(long, conflicts_with_all = ["steps", "from"])]
    pub rerun_failed: bool,
    /// Execute this step and all that depends on it, whatever the cache knows
    #[arg(long, value_name = "STEP")]
    pub from: Vec<String>,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Put artifacts in this folder too
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Files to check [default: the pipeline file, or all in .paceline/]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print SARIF 2.1.0 instead
    #[arg(long)]
    pub sarif: bool,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Plan these steps and what they need [default: all]
    #[arg(value_name = "STEP")]
    pub steps: Vec<String>,
    #[command(flatten)]
    pub trigger: TriggerArgs,
    #[command(flatten)]
    pub execute: ExecuteArgs,
}

#[derive(Debug, Args)]
pub struct StepArgs {
    /// A step, or one instance of it: `test[go=1.23]`
    pub step: String,
    #[command(flatten)]
    pub trigger: TriggerArgs,
    #[command(flatten)]
    pub execute: ExecuteArgs,
}

#[derive(Debug, Args)]
pub struct ShellArgs {
    /// The run's number [default: the last run], then the step
    #[arg(value_name = "[RUN] STEP", num_args = 1..=2, required = true)]
    pub target: Vec<String>,
    /// Run this instead of a shell
    #[arg(short, long, value_name = "SCRIPT")]
    pub command: Option<String>,
    #[command(flatten)]
    pub execute: ExecuteArgs,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// A code like P0104 [default: list all]
    pub code: Option<String>,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Print the file instead of writing it
    #[arg(long)]
    pub print: bool,
    /// Replace an existing file
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct RunsArgs {
    /// How many
    #[arg(short = 'n', long, default_value_t = 20)]
    pub limit: usize,
    /// Those of this project on the server instead of those made here
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    #[command(flatten)]
    pub team: crate::team::TeamArgs,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The run's number [default: the last run] and the step [default: all]
    #[arg(value_name = "[RUN] [STEP]", num_args = 0..=2)]
    pub target: Vec<String>,
    /// Print the log of this service of the step instead of the step's own
    #[arg(long, value_name = "ID")]
    pub service: Option<String>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
    /// Wait for more while the run goes on
    #[arg(short, long)]
    pub follow: bool,
    /// The project of a run on the server; a run is on the server, too, when it is named by its id or as PROJECT#NUMBER
    #[arg(long, value_name = "NAME")]
    pub project: Option<String>,
    #[command(flatten)]
    pub team: crate::team::TeamArgs,
}

#[derive(Debug, Args)]
pub struct ImageArgs {
    #[command(subcommand)]
    pub what: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Fetch images and unpack them, so that steps find them ready
    Pull {
        /// Like `debian:12`, `registry.example.com/app@sha256:…`, `oci:FOLDER`, `oci-archive:FILE`
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<String>,
    },
    /// Write down in paceline.lock which digest each image name stands for now
    Lock {
        /// Lock these again [default: all that the pipeline names, and nothing else]
        #[arg(value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Build an image: a base, files, and what its config shall say; the same input makes the same bytes
    Build(Box<BuildArgs>),
    /// Send an image to a registry
    Push {
        /// Where it is: `oci:FOLDER`, `oci-archive:FILE`, `docker-archive:FILE`, or a name in a registry
        #[arg(value_name = "IMAGE")]
        image: String,
        /// Its name in the registry
        #[arg(value_name = "NAME")]
        to: String,
    },
    /// List the images of paceline.lock and whether they are ready here
    Ls,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    /// The image to build on, or `scratch` for nothing
    #[arg(long, value_name = "IMAGE")]
    pub base: String,
    /// Add a file or a folder; `{os}`, `{arch}` and `{variant}` in SRC are those of the platform; may be given several times
    #[arg(long, value_name = "SRC:DEST[:MODE]")]
    pub add: Vec<String>,
    /// Set a variable; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// The command, as a JSON list or one word
    #[arg(long, value_name = "WORDS")]
    pub cmd: Option<String>,
    /// What is put before the command, as a JSON list or one word
    #[arg(long, value_name = "WORDS")]
    pub entrypoint: Option<String>,
    /// Who its programs run as: a name or a number, perhaps with `:GROUP`
    #[arg(long, value_name = "USER")]
    pub user: Option<String>,
    /// Where its programs start
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Set a label; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub label: Vec<String>,
    /// For which machines, by commas; more than one makes an index [default: this one]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    pub platform: Vec<String>,
    /// Write it here: `oci:FOLDER[:TAG]` or `oci-archive:FILE[:TAG]`
    #[arg(long, value_name = "PLACE", required_unless_present = "push")]
    pub to: Option<String>,
    /// Send it to a registry under this name
    #[arg(long, value_name = "NAME")]
    pub push: Option<String>,
}

#[derive(Debug, Args)]
pub struct CacheArgs {
    #[command(subcommand)]
    pub what: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Sizes and counts
    Stats(StoreArgs),
    /// Drop what was not used for long
    Gc {
        /// Keep at most this much [default: 20GiB; of a served cache its own limit]
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Keep nothing that was not used for this long [default: 30d; of a served cache its own limit]
        #[arg(long, value_name = "TIME")]
        max_age: Option<String>,
        /// Only say what would go
        #[arg(long, conflicts_with_all = ["data", "served", "url"])]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Read every blob and drop what is damaged
    Verify(StoreArgs),
    /// Drop what somebody wrote, or certain content, from a served cache
    Purge {
        /// Every entry that this token wrote; `NAME run RUN` for one run of it
        #[arg(long, value_name = "NAME", required_unless_present = "digest", conflicts_with = "digest")]
        writer: Option<String>,
        /// This content and every entry that needs it, or the entries of this action
        #[arg(long, value_name = "HASH[/SIZE]")]
        digest: Option<String>,
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Say which token and run wrote the result of an action to a served cache, and when
    Who {
        /// The digest of the action: 64 hexadecimal digits, perhaps with /SIZE
        #[arg(value_name = "DIGEST")]
        digest: String,
        #[command(flatten)]
        store: StoreArgs,
    },
    /// Make, list and revoke the tokens of a served cache
    Token {
        #[command(subcommand)]
        what: TokenCommand,
    },
    /// Print the cache's folder
    Path,
    /// Share a cache: for `pace` on every desk, and for all that speak the Remote Execution API or plain HTTP
    Serve(Box<ServeArgs>),
}

/// Which cache: without any of these, that of this user.
#[derive(Debug, Args, Default)]
pub struct StoreArgs {
    /// Of a cache that is served from this folder, while nobody serves it
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["served", "url"])]
    pub data: Option<PathBuf>,
    /// Of the cache that `pace cache serve` serves by default, while nobody serves it
    #[arg(long, conflicts_with = "url")]
    pub served: bool,
    /// Of a running cache, for instance http://cache.example.com:8980
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The variable of the environment with the token for --url [default: PACE_CACHE_TOKEN]
    #[arg(long, value_name = "NAME", requires = "url")]
    pub token_env: Option<String>,
    /// The authorities that may vouch for --url, as PEM, instead of those of the system
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token: prints its secret, which is kept nowhere
    New {
        /// Its name: stands with everything it writes
        #[arg(long)]
        name: String,
        /// The instance it is for; `*` is any
        #[arg(long, default_value = "*")]
        instance: String,
        /// read, content (also upload content), or write (also write results)
        #[arg(long, default_value = "read")]
        rights: String,
        /// main: the instance and its overlays; pr/*: any overlay, and reading the rest; pr/17: this overlay
        #[arg(long, default_value = "main")]
        domain: String,
        /// How long it is good for, like 90d [default: until it is revoked]
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Print it as the JSON web token that GitHub's cache client wants
        #[arg(long)]
        jwt: bool,
        #[command(flatten)]
        file: TokensFile,
    },
    /// List the tokens; their secrets are not kept
    Ls {
        #[command(flatten)]
        file: TokensFile,
    },
    /// Revoke a token; a running cache stops knowing it within a second
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        file: TokensFile,
    },
}

/// Where tokens are.
#[derive(Debug, Args)]
pub struct TokensFile {
    /// The file of the tokens
    #[arg(long, value_name = "FILE", env = "PACE_CACHE_TOKENS", conflicts_with = "config")]
    pub tokens: Option<PathBuf>,
    /// The configuration of the cache, which names the file of the tokens
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

const SERVE_HELP: &str = "\
A cache on 127.0.0.1 without tokens is open to everybody on this machine. One that others can reach needs tokens, or \
--anonymous. Ctrl-C or SIGTERM lets running requests finish; a second one ends it at once.

Every flag is also a key of the configuration file, which has [tls], [s3] and [upstream] besides. Flags go before the file.";

#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub struct ServeArgs {
    /// A configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print the effective configuration, and end
    #[arg(long)]
    pub check: bool,
    /// Where to listen, as often as needed: an address and port, or unix:/path [default: 127.0.0.1:8980]
    #[arg(long, value_name = "PLACE")]
    pub listen: Vec<String>,
    /// Its folder [default: `served` in the cache's folder]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Keep at most this much [default: 50GiB]
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<String>,
    /// Keep nothing that nobody used for this long, even if there is room
    #[arg(long, value_name = "TIME")]
    pub max_age: Option<String>,
    /// How long content stays at least after a client was told that it is there [default: 2h]
    #[arg(long, value_name = "TIME")]
    pub lease: Option<String>,
    /// When a write counts as done: `group` when the disk has it, `process` when the kernel has it [default: group]
    #[arg(long, value_name = "HOW")]
    pub durable: Option<String>,
    /// Memory for often read content [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Serve this instance only, as often as needed; '' is one, too [default: any]
    #[arg(long = "instance", value_name = "NAME")]
    pub instances: Vec<String>,
    /// The file of the tokens; `pace cache token new` writes it
    #[arg(long, value_name = "FILE", env = "PACE_CACHE_TOKENS")]
    pub tokens: Option<PathBuf>,
    /// What callers without a token may do: none, read, content or write
    #[arg(long, value_name = "RIGHTS")]
    pub anonymous: Option<String>,
    /// What happens to writes that a caller may not do: `refuse`, or `drop` for clients that stop otherwise [default: refuse]
    #[arg(long, value_name = "HOW")]
    pub denied_writes: Option<String>,
    /// Connections at a time; further ones wait [default: 1024]
    #[arg(long, value_name = "NUMBER")]
    pub connections: Option<usize>,
    /// Encrypt with this certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Take only clients with a certificate that this authority signed, PEM
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// Write a line of JSON for each request to this file; `-` is standard output
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Execute actions for clients, in sandboxes of this machine: what Bazel calls --remote_executor
    #[arg(long)]
    pub execute: bool,
    /// Actions at a time; the others wait [default: one per processor]
    #[arg(long, value_name = "NUMBER", requires = "execute")]
    pub jobs: Option<NonZeroUsize>,
    /// Let actions have the network of this machine when they ask for it by the platform property network=host
    #[arg(long, requires = "execute")]
    pub execute_network: bool,
    /// Look in this cache for what is missing here: grpc://HOST:PORT, grpcs:// with TLS
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// The variable of the environment with the token for the upstream cache
    #[arg(long, value_name = "NAME", requires = "upstream")]
    pub upstream_token_env: Option<String>,
    /// Also send what is written here to the upstream cache: `content`, or `write` for results, too [default: read]
    #[arg(long, value_name = "RIGHTS", requires = "upstream")]
    pub upstream_rights: Option<String>,
    /// The authorities that may vouch for the upstream cache, as PEM, instead of those of the system
    #[arg(long, value_name = "FILE", requires = "upstream")]
    pub upstream_ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}
