//! Every bound on what comes from outside, in one place. An error that refuses something names its bound.

use core::time::Duration;

/// A pipeline or included file. GitHub's bound for a workflow file is half of it.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Nodes of one YAML document after aliases are followed: 10,000 steps with some 20 values each.
pub const YAML_NODES_MAX: usize = 400_000;
/// Nesting of one YAML document.
pub const YAML_DEPTH_MAX: usize = 64;
/// Aliases followed in one document.
pub const YAML_ALIASES_MAX: usize = 10_000;
/// Step instances of a run after matrix, templates and expansion.
pub const STEPS_MAX: usize = 10_000;
/// Cells of one step's matrix.
pub const MATRIX_CELLS_MAX: usize = 1_000;
/// Shards of one step.
pub const SHARDS_MAX: u32 = 1_000;
/// Files that include files.
pub const INCLUDE_DEPTH_MAX: usize = 8;
/// Included files in all.
pub const INCLUDES_MAX: usize = 100;
/// Templates that use templates, and expanded pipelines that expand.
pub const EXPANSION_DEPTH_MAX: usize = 4;
/// Length of one expression's source.
pub const EXPR_BYTES_MAX: usize = 4 << 10;
/// Nesting of one expression.
pub const EXPR_DEPTH_MAX: usize = 32;
/// Depth of an expression's tree: operators in a row and what templates put in place of their parameters count here
/// and not as nesting. The evaluator recurses so deep; a thread's smallest stack carries ten times that.
pub const EXPR_TREE_DEPTH_MAX: usize = 200;
/// Nodes of one expression after templates put their parameters in.
pub const EXPR_NODES_MAX: usize = 10_000;
/// Evaluation steps of one expression.
pub const EXPR_COST_MAX: u32 = 100_000;
/// Length of a text that an expression makes.
pub const EXPR_TEXT_BYTES_MAX: usize = 1 << 20;
/// Length of a step id.
pub const STEP_ID_BYTES_MAX: usize = 100;
/// Diagnostics that are printed for one file before the rest is only counted.
pub const DIAGNOSTICS_MAX: usize = 100;
/// Attempts of one step.
pub const ATTEMPTS_MAX: u16 = 100;
/// Any duration in a pipeline.
pub const DURATION_MAX: Duration = Duration::from_secs(365 * 86_400);
/// One log line; what is longer is cut into several lines, so that no step can make us hold its output in memory.
pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;
/// One attempt's log. What comes after is counted and dropped, and the log says so.
pub const LOG_BYTES_MAX: u64 = 256 << 20;
/// Different refusals of its network that one attempt's result lists.
pub const REFUSALS_MAX: usize = 100;
/// Services of one step.
pub const SERVICES_MAX: usize = 32;
/// Hosts in one `network` list.
pub const NETWORK_HOSTS_MAX: usize = 100;
/// Bytes of the file that `$PACE_VALUES` names.
pub const VALUES_BYTES_MAX: usize = 64 << 10;
/// Labels that one step asks for.
pub const LABELS_MAX: usize = 16;
/// Length of one label.
pub const LABEL_BYTES_MAX: usize = 100;
/// Values a step may hand on.
pub const VALUES_MAX: usize = 256;
/// How long a step may take to end after SIGTERM before it gets SIGKILL.
pub const CANCEL_GRACE: Duration = Duration::from_secs(10);
/// What a step without `timeout` gets: long enough for any real step, short enough that every run ends.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(6 * 3600);
/// What an `approve` step without `expires` gets: long enough for holidays, short enough that every run ends.
pub const APPROVAL_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
/// How long after its total timeout an attempt's lease runs out: time for SIGTERM, SIGKILL and the upload.
pub const LEASE_GRACE: Duration = Duration::from_secs(300);
