//! The shapes of the interface. They are not the core's types: a change there must break the compile here, and nobody's
//! program.

use std::collections::{BTreeMap, BTreeSet};

use access::{Role, Scope, SecretRecord, Token, User};
use model::{NodeIx, Outcome, RunSummary, StepKind, Timestamp};
use serde::{Deserialize, Serialize};
use store::{Audited, DeliveryRow, Kept, Sequenced};
use utoipa::{IntoParams, ToSchema};
use view::json::iso;
use view::{RunView, StepState};

use crate::hub::AgentLine;
use crate::records::{Project, RegisteredAgent};
use crate::verbs::{Artifact, Page};

/// Part of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Listed<T> {
    /// The part.
    pub items: Vec<T>,
    /// What to send as `after` for the next part; `null` at the end.
    pub next: Option<String>,
}

impl<T> Listed<T> {
    pub(super) fn of<U>(page: Page<U>, shape: impl Fn(U) -> T) -> Listed<T> {
        Listed { items: page.items.into_iter().map(shape).collect(), next: page.next }
    }
}

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    /// `next` of the part before.
    pub after: String,
    /// How many; 50 when not said, at most 200.
    pub limit: usize,
}

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunFilter {
    /// Of this project.
    pub project: String,
    /// Of this branch.
    pub branch: String,
    /// Of this commit.
    pub commit: String,
    /// Of this pipeline.
    pub pipeline: String,
    /// `active`, `success`, `failure`, `cancelled`, `infrastructure` or `refused`.
    pub state: String,
    /// `next` of the part before.
    pub after: String,
    /// How many; 50 when not said, at most 200.
    pub limit: usize,
}

/// Who asks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// As the audit has it: `user:anna`, `token:anna/3f…`, `anonymous`.
    pub name: String,
    /// The user, if there is one.
    pub user: Option<String>,
    /// How people call it.
    pub display: String,
    /// It may everything everywhere.
    pub admin: bool,
    /// Teams it is in.
    pub teams: BTreeSet<String>,
    /// For sessions: what to send as `x-csrf-token` with what changes something.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub csrf: Option<String>,
}

/// A project.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ProjectShape {
    /// Its name.
    pub name: String,
    /// What git fetches; empty for those who may not see settings.
    pub repository: String,
    /// `github`, `gitlab`, `gitea`, `bitbucket` or `generic`.
    pub forge: String,
    /// The forge's interface.
    pub forge_api: String,
    /// The repository's name at the forge.
    pub forge_name: String,
    /// There is a secret that webhooks are checked with.
    pub has_webhook_secret: bool,
    /// There is a credential for git.
    pub has_credential: bool,
    /// The branch that manual runs take.
    pub default_branch: String,
    /// Files of pipelines; empty: found.
    pub pipelines: Vec<String>,
    /// Who pays.
    pub tenant: String,
    /// Anybody may see it.
    pub public: bool,
    /// Runs of forks wait for a person.
    pub approve_forks: bool,
    /// Runs are kept so many days; 0: for ever.
    pub keep_days: u32,
    /// Rules of notifications.
    #[schema(value_type = Vec<Object>)]
    pub notify: Vec<serde_json::Value>,
    /// `values.NAME`.
    pub values: BTreeMap<String, String>,
}

impl ProjectShape {
    pub(super) fn of(project: Project, settings: bool) -> ProjectShape {
        let has_webhook_secret = !project.webhook_secret.is_empty();
        let has_credential = !project.credential.is_empty();
        let shown = if settings {
            project
        } else {
            Project {
                name: project.name,
                default_branch: project.default_branch,
                public: project.public,
                ..Project::default()
            }
        };
        ProjectShape {
            name: shown.name,
            repository: shown.repository,
            forge: shown.forge,
            forge_api: shown.forge_api,
            forge_name: shown.forge_name,
            has_webhook_secret,
            has_credential,
            default_branch: shown.default_branch,
            pipelines: shown.pipelines,
            tenant: shown.tenant,
            public: shown.public,
            approve_forks: shown.approve_forks,
            keep_days: shown.keep_days,
            notify: shown.notify,
            values: shown.values,
        }
    }
}

/// Settings of a project. What is missing stays, or is the default of a new one.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProjectInput {
    /// Its name; for a new project only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What git fetches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// `github`, `gitlab`, `gitea`, `bitbucket` or `generic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forge: Option<String>,
    /// The forge's interface; empty: worked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forge_api: Option<String>,
    /// The repository's name at the forge: `owner/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forge_name: Option<String>,
    /// What webhooks are checked with; empty removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// For git and the forge; empty removes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The branch that manual runs take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_branch: Option<String>,
    /// Files of pipelines; empty: found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipelines: Option<Vec<String>>,
    /// Who pays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Anybody may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Runs of forks wait for a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approve_forks: Option<bool>,
    /// Runs are kept so many days; 0: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_days: Option<u32>,
    /// Rules of notifications.
    #[schema(value_type = Option<Vec<Object>>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notify: Option<Vec<serde_json::Value>>,
    /// `values.NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values: Option<BTreeMap<String, String>>,
}

/// Whether a repository can be reached.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Reached {
    /// It can.
    pub reached: bool,
    /// The commit at the head of the default branch, or why it cannot.
    pub detail: String,
}

/// A run in one line.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RunLine {
    /// Its id.
    pub id: String,
    /// Its project.
    pub project: String,
    /// Its number in the project.
    pub number: u64,
    /// The pipeline.
    pub pipeline: String,
    /// `held`, `queued`, `running`, `asking`, or how it ended: `success`, `failure`, `cancelled`, `infrastructure`, `refused`.
    pub state: String,
    /// It ended.
    pub ended: bool,
    /// What `pace` ends with after such a run; absent while it runs.
    pub exit_code: Option<u8>,
    /// `push`, `pull_request`, `schedule` or `manual`.
    pub event: String,
    /// The commit.
    pub commit: String,
    /// The branch.
    pub branch: String,
    /// The tag.
    pub tag: String,
    /// What it is about.
    pub title: String,
    /// Whose work it is.
    pub author: String,
    /// Who asked for it.
    pub by: String,
    /// Its place in the queue.
    pub priority: i32,
    /// Why it is held.
    pub held: Option<String>,
    /// The number of the run that it does again.
    pub again: Option<u64>,
    /// When it was asked for, ISO 8601.
    pub requested_at: String,
    /// When it started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
}

impl RunLine {
    pub(super) fn of(run: RunSummary) -> RunLine {
        RunLine {
            state: run.word().to_owned(),
            ended: run.outcome.is_some(),
            exit_code: run.outcome.map(view::exit_code),
            id: run.run.to_string(),
            project: run.project.to_string(),
            number: run.number.0,
            pipeline: run.pipeline,
            event: run.event.word().to_owned(),
            commit: run.commit,
            branch: run.branch,
            tag: run.tag,
            title: run.title,
            author: run.author,
            by: run.by,
            priority: run.priority,
            held: run.held,
            again: run.again.map(|number| number.0),
            requested_at: iso(run.requested),
            started_at: run.started.map(iso),
            ended_at: run.ended.map(iso),
        }
    }
}

/// A run with its steps.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RunShape {
    /// The run.
    pub run: RunLine,
    /// Its step instances, in the order of the file.
    pub steps: Vec<StepShape>,
}

/// A step instance.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StepShape {
    /// Its number, from 0.
    pub node: u32,
    /// Its name: `test[go=1.23]`.
    pub name: String,
    /// Steps it depends on.
    pub depends_on: Vec<String>,
    /// `waiting`, `ready`, `running`, `asking`, `retrying`, or how it ended: `success`, `failure`, `skipped`, `cancelled`.
    pub state: String,
    /// Why it waits, why it failed, why it was skipped.
    pub reason: Option<String>,
    /// It was taken from the cache.
    pub cached: bool,
    /// It failed and nobody minds.
    pub allowed: bool,
    /// Tries so far.
    pub attempts: u16,
    /// When its first try started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// The question, for a step that asks.
    pub question: Option<Question>,
    /// The answer, for a step that asked.
    pub answer: Option<AnswerShape>,
    /// It runs nothing: it stands for the steps of a template.
    pub silent: bool,
}

/// What an approval asks.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Question {
    /// In words.
    pub message: String,
    /// Who may answer; empty: any developer.
    pub by: Vec<String>,
    /// When it fails without an answer.
    pub expires_at: String,
}

/// What an approval was answered.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AnswerShape {
    /// By whom.
    pub by: String,
    /// Yes or no.
    pub approved: bool,
    /// What they said to it.
    pub comment: String,
}

impl RunShape {
    pub(super) fn of(run: RunSummary, view: &RunView) -> RunShape {
        let steps = (0..).zip(view.steps()).map(|(node, _)| StepShape::of(view, NodeIx(node))).collect();
        RunShape { run: RunLine::of(run), steps }
    }
}

impl StepShape {
    fn of(view: &RunView, node: NodeIx) -> StepShape {
        let step = &view.steps()[node.at()];
        let group = step.group.and_then(|group| view.groups().get(group.at()));
        let (mut cached, mut allowed, mut ended_at, mut question) = (false, false, None, None);
        let mut reason = step.reason.clone();
        let state = match &step.state {
            StepState::Waiting => "waiting",
            StepState::Ready { .. } => "ready",
            StepState::Running { .. } => "running",
            StepState::Asking { message, by, expires, .. } => {
                question = Some(Question { message: message.clone(), by: by.clone(), expires_at: iso(*expires) });
                "asking"
            }
            StepState::Retrying { cause, .. } => {
                reason = Some(cause.to_string());
                "retrying"
            }
            StepState::Done { at, outcome } => {
                ended_at = Some(iso(*at));
                match outcome {
                    Outcome::Succeeded { cached: from_cache } => cached = *from_cache,
                    Outcome::Failed { cause, allowed: nobody_minds } => {
                        (reason, allowed) = (Some(cause.to_string()), *nobody_minds);
                    }
                    Outcome::Skipped(why) => reason = Some(why.to_string()),
                    Outcome::Cancelled => {}
                }
                outcome.word()
            }
        };
        StepShape {
            node: node.0,
            name: step.name.to_string(),
            depends_on: group
                .map(|group| group.step.depends_on.iter().map(|need| need.to_string()).collect())
                .unwrap_or_default(),
            state: state.to_owned(),
            reason,
            cached,
            allowed,
            attempts: step.attempts,
            started_at: step.started_at.map(iso),
            ended_at,
            question,
            answer: step.answer.as_ref().map(|answer| AnswerShape {
                by: answer.by.clone(),
                approved: answer.approved,
                comment: answer.comment.clone(),
            }),
            silent: group.is_some_and(|group| matches!(group.step.kind, StepKind::Group)),
        }
    }
}

/// A run that is asked for.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RunInput {
    /// File of the pipeline; empty: the only one.
    pub pipeline: String,
    /// The branch; empty: the default one.
    pub branch: String,
    /// The tag.
    pub tag: String,
    /// The commit; empty: the head of the branch.
    pub commit: String,
    /// Parameters, as text; checked against their types.
    pub params: BTreeMap<String, String>,
    /// Only these steps and what they need; empty: all.
    pub only: Vec<String>,
    /// Steps that are executed even if the cache knows them, with all that depends on them.
    pub from: Vec<String>,
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// From -100 to 100; other than 0 needs a maintainer.
    pub priority: i32,
}

/// A run that was made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RunMade {
    /// Its id.
    pub id: String,
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
}

/// How a run is stopped.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CancelInput {
    /// At once and without clean-up.
    pub force: bool,
}

/// What of a run is done again.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgainInput {
    /// `all`, `failed` or `from`.
    pub what: String,
    /// For `from`: the step.
    pub step: String,
}

/// The answer to an approval.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerInput {
    /// The step that asks.
    pub step: String,
    /// Yes or no.
    pub approved: bool,
    /// What to say to it.
    #[serde(default)]
    pub comment: String,
}

/// The place of a run in the queue.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PriorityInput {
    /// From -100 to 100; higher goes first.
    pub priority: i32,
}

/// Which part of a log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LogPartAsked {
    /// The try; 0: the last one.
    pub attempt: u16,
    /// From which byte on.
    pub offset: u64,
    /// Bytes at most; all of it when not said.
    pub max: u64,
    /// Before each line the time it was written, ISO 8601.
    pub timestamps: bool,
    /// As a file, not as a page.
    pub download: bool,
}

/// From where a stream goes on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamAsked {
    /// Like the header `last-event-id`, which counts more.
    pub after: Option<u64>,
    /// For logs: the try; 0: the last one.
    pub attempt: u16,
}

/// An event of a log's stream.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LogEvent {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// Where the next one begins; also the event's id.
    pub next: u64,
    /// Lines `<unix milliseconds> <text>`, each with its line end.
    pub text: String,
}

/// An artifact.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ArtifactShape {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Option<String>,
    /// The step that made it.
    pub step: String,
    /// Where it was in the workspace.
    pub path: String,
    /// Its files.
    pub files: Vec<ArtifactFile>,
}

/// A file of an artifact.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ArtifactFile {
    /// Its path below the artifact's; empty for the artifact itself.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// It can be executed.
    pub executable: bool,
}

impl ArtifactShape {
    pub(super) fn of(made: Artifact) -> ArtifactShape {
        let file = |(path, digest, executable): (String, model::Digest, bool)| ArtifactFile {
            path,
            sha256: digest.hex(),
            bytes: digest.size,
            executable,
        };
        let files = made.artifact.files.into_iter().map(file).collect();
        ArtifactShape {
            name: made.artifact.name,
            version: made.artifact.version,
            step: made.step,
            path: made.artifact.path,
            files,
        }
    }
}

/// Which artifact's content.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ArtifactAsked {
    /// One file of it; without it a single file as it is, several as a tar archive.
    pub path: String,
    /// The step that made it, when several made one of this name.
    pub step: String,
}

/// A secret without its value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretShape {
    /// Its name.
    pub name: String,
    /// The environment it is for; empty: any.
    pub environment: String,
    /// Branches it is for; empty: any.
    pub branches: String,
    /// Number of its newest version.
    pub version: u32,
    /// When that was written.
    pub written_at: String,
    /// By whom.
    pub by: String,
}

impl SecretShape {
    pub(super) fn of(secret: SecretRecord) -> SecretShape {
        let newest = secret.versions.last().cloned().unwrap_or_default();
        SecretShape {
            name: secret.name,
            environment: secret.environment,
            branches: secret.branches,
            version: newest.number,
            written_at: iso(Timestamp(newest.at_us)),
            by: newest.by,
        }
    }
}

/// Scope of a secret.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SecretScope {
    /// The environment it is for; empty: any.
    pub environment: String,
    /// A glob of branches it is for; empty: any.
    pub branches: String,
}

/// The value of a secret.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretInput {
    /// The value.
    pub value: String,
}

/// The version that was written.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretWritten {
    /// Its number.
    pub version: u32,
}

/// What a new master key changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Rekeyed {
    /// Records that were wrapped anew.
    pub records: u64,
}

/// A user.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserShape {
    /// Its name.
    pub name: String,
    /// How people call it.
    pub display: String,
    /// Where mail reaches it.
    pub email: String,
    /// It may everything everywhere.
    pub admin: bool,
    /// It may nothing any more.
    pub disabled: bool,
    /// Roles by project: `web`, `team/*`, `*`.
    #[schema(value_type = BTreeMap<String, String>)]
    pub roles: BTreeMap<String, Role>,
    /// Teams it is in.
    pub teams: BTreeSet<String>,
    /// It signs in with a password.
    pub has_password: bool,
    /// It signs in with OIDC.
    pub has_oidc: bool,
}

impl UserShape {
    pub(super) fn of(user: User) -> UserShape {
        UserShape {
            name: user.name,
            display: user.display,
            email: user.email,
            admin: user.admin || user.oidc_admin,
            disabled: user.disabled,
            roles: user.grants,
            teams: user.teams,
            has_password: !user.password.is_empty(),
            has_oidc: !user.oidc.is_empty(),
        }
    }
}

/// A user that is made or changed. What is missing stays.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserInput {
    /// Its name; for a new user only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its password; for a new user only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// How people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// Where mail reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// It may everything everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<bool>,
    /// It may nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Roles by project.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeMap<String, Role>>,
    /// Teams it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub teams: Option<BTreeSet<String>>,
}

/// An invitation.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InviteInput {
    /// To be an administrator of the whole server.
    pub admin: bool,
    /// Roles by project.
    #[schema(value_type = BTreeMap<String, String>)]
    pub roles: BTreeMap<String, Role>,
}

/// A link that works once.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LinkMade {
    /// Where it leads.
    pub url: String,
}

/// A token without what its holder shows.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenShape {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub label: String,
    /// Whose it is.
    pub owner: String,
    /// What it may.
    #[schema(value_type = Vec<String>)]
    pub scopes: BTreeSet<Scope>,
    /// Projects it is for; empty: all of its owner's.
    pub projects: Vec<String>,
    /// When it was made.
    pub created_at: String,
    /// When it ends; `null`: never.
    pub expires_at: Option<String>,
}

impl TokenShape {
    pub(super) fn of(token: Token) -> TokenShape {
        TokenShape {
            id: token.id,
            label: token.label,
            owner: token.owner,
            scopes: token.scopes,
            projects: token.projects,
            created_at: iso(Timestamp(token.created_us)),
            expires_at: (token.expires_us != 0).then(|| iso(Timestamp(token.expires_us))),
        }
    }
}

/// A token that is wanted.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TokenInput {
    /// What it is for, in words.
    pub label: String,
    /// `read`, `run`, `secrets`, `manage`, `admin`.
    #[schema(value_type = Vec<String>)]
    pub scopes: BTreeSet<Scope>,
    /// Projects it is for; empty: all of its owner's.
    pub projects: Vec<String>,
    /// Its life in days; 0: for ever.
    pub days: u64,
}

/// Signing in by name and password for a token: what `pace login` does.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInInput {
    /// The user's name.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The token that is wanted.
    pub token: TokenInput,
}

/// Becoming a user by a link.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpInput {
    /// The last part of the link.
    pub link: String,
    /// The name that is wanted; of no meaning for a new password.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A token that was made. It is not shown again.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// What its holder sends as `authorization: Bearer …`.
    pub token: String,
    /// The rest.
    pub made: TokenShape,
}

/// An agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentShape {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeSet<String>,
    /// It is connected.
    pub connected: bool,
    /// It gets no new work.
    pub paused: bool,
    /// It takes nothing more and goes when it is done.
    pub draining: bool,
    /// Version of its program.
    pub version: String,
    /// Steps at once.
    pub slots: u32,
    /// Steps that it executes now.
    pub busy: usize,
    /// What its host can enforce.
    pub host: String,
    /// When it was heard last.
    pub heard_at: Option<String>,
    /// It is registered; otherwise it is the one in the server's process.
    pub registered: bool,
}

impl AgentShape {
    pub(super) fn of(record: Option<RegisteredAgent>, line: Option<&AgentLine>) -> AgentShape {
        let registered = record.is_some();
        let record = record.unwrap_or_default();
        let labels = line.iter().flat_map(|line| line.labels.iter().cloned()).chain(record.labels.iter().cloned());
        AgentShape {
            name: line.map_or(record.name, |line| line.agent.to_string()),
            labels: labels.collect(),
            connected: line.is_some(),
            paused: record.paused,
            draining: line.is_some_and(|line| line.draining),
            version: line.map(|line| line.version.clone()).unwrap_or_default(),
            slots: line.map_or(0, |line| line.capacity.slots),
            busy: line.map_or(0, |line| line.busy),
            host: line.map(|line| line.host.clone()).unwrap_or_default(),
            heard_at: line.map(|line| iso(line.heard)),
            registered,
        }
    }
}

/// A change of an agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentInput {
    /// It gets no new work.
    pub paused: bool,
}

/// A token by which one agent registers.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentTokenInput {
    /// The name the agent gets; empty: the one it asks for.
    pub name: String,
    /// Labels it gets beside its own.
    pub labels: BTreeSet<String>,
    /// Its life in minutes; 60 when not said.
    pub minutes: Option<u64>,
}

/// A registration token that was made. It is not shown again.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct AgentTokenMade {
    /// Its id.
    pub id: String,
    /// What the agent shows.
    pub token: String,
    /// When it ends.
    pub expires_at: String,
}

/// A registration token that was not used.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AgentTokenShape {
    /// Its id.
    pub id: String,
    /// The name the agent gets.
    pub name: String,
    /// Labels it gets.
    pub labels: BTreeSet<String>,
    /// Who made it.
    pub by: String,
    /// When it ends.
    pub expires_at: String,
}

/// What a forge sent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryShape {
    /// Its id.
    pub id: String,
    /// When it came.
    pub at: String,
    /// Who speaks.
    pub source: String,
    /// What became of it; `null`: not looked at yet.
    pub outcome: Option<String>,
}

impl DeliveryShape {
    pub(super) fn of(row: Sequenced<DeliveryRow>) -> DeliveryShape {
        let DeliveryRow { id, at, source, settled, .. } = row.value;
        DeliveryShape { id, at: iso(at), source, outcome: settled.map(|(_, outcome)| outcome) }
    }
}

/// A delivery that is looked at again.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverInput {
    /// Its id.
    pub id: String,
}

/// Something that somebody did.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditShape {
    /// Its place in the log.
    pub sequence: u64,
    /// When.
    pub at: String,
    /// Who.
    pub by: String,
    /// What, in the past: `token.created`.
    pub act: String,
    /// Kind of what was changed.
    pub kind: String,
    /// Which.
    pub key: String,
}

impl AuditShape {
    pub(super) fn of(row: Sequenced<Audited>) -> AuditShape {
        let Audited { at, by, act, kind, key } = row.value;
        AuditShape { sequence: row.sequence, at: iso(at), by, act, kind, key }
    }
}

/// A record's value and its version.
pub(super) fn versioned<T, U>(kept: Kept<T>, shape: impl Fn(T) -> U) -> (u64, U) {
    (kept.version, shape(kept.value))
}
