//! What a delivery says that happened.

use model::{Event, EventKind, Git, Trigger};

use crate::Kind;

/// What a delivery says that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A branch moved.
    Push(Push),
    /// A tag was made or moved.
    Tag(Tag),
    /// A pull request (merge request) was opened or got new commits.
    PullRequest(PullRequest),
    /// The forge tries whether somebody is there.
    Ping,
    /// Nothing that starts a run, and why; a sentence.
    Nothing(String),
}

/// A branch that moved.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Push {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// Its commit before; `None` for a new branch, or when the delivery does not say.
    pub before: Option<String>,
    /// Its commit now; empty when the delivery does not say: whatever the branch is at.
    pub after: String,
    /// Paths that the commits changed, if the delivery surely lists all of them. What git finds between `before` and
    /// `after` is the better answer.
    pub changed: Option<Vec<String>>,
    /// The last commit's message, or empty.
    pub message: String,
    /// Who pushed, as the forge calls them; or empty.
    pub author: String,
}

/// A tag that was made or moved.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tag {
    /// The tag, without `refs/tags/`.
    pub tag: String,
    /// What it names now: a commit or a tag object, which git resolves; or empty.
    pub target: String,
    /// Message of the commit, or empty.
    pub message: String,
    /// Who pushed, or empty.
    pub author: String,
}

/// A pull request at one commit.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PullRequest {
    /// Its number in the forge's counting.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Who opened it.
    pub author: String,
    /// Its newest commit.
    pub head: String,
    /// The branch that it comes from.
    pub head_branch: String,
    /// The repository that it comes from: `owner/name`; empty when it is gone.
    pub head_repository: String,
    /// The branch that it goes to.
    pub base_branch: String,
    /// The commit that the branch it goes to was at, or empty.
    pub base: String,
    /// It comes from another repository: somebody who may not push here wrote it. True when in doubt.
    pub is_fork: bool,
    /// What was done, in the forge's word: `opened`, `synchronize`, `open`, `update`.
    pub action: String,
}

impl PullRequest {
    /// Where git finds its newest commit in the repository that it goes to, forks' too. Bitbucket Cloud keeps no such
    /// name; there the branch is all there is.
    pub fn head_ref(&self, kind: Kind) -> String {
        match kind {
            Kind::GitLab => format!("refs/merge-requests/{}/head", self.number),
            Kind::Bitbucket => format!("refs/heads/{}", self.head_branch),
            _ => format!("refs/pull/{}/head", self.number),
        }
    }
}

impl Happening {
    /// The refs that git must fetch to have its commit: the branch, the tag, the head of the pull request and the branch
    /// that it goes to.
    pub fn refs(&self, kind: Kind) -> Vec<String> {
        match self {
            Happening::Push(push) => vec![format!("refs/heads/{}", push.branch)],
            Happening::Tag(tag) => vec![format!("refs/tags/{}", tag.tag)],
            Happening::PullRequest(request) => {
                vec![request.head_ref(kind), format!("refs/heads/{}", request.base_branch)]
            }
            Happening::Ping | Happening::Nothing(_) => Vec::new(),
        }
    }

    /// What git resolves to the commit to run: the commit where the delivery says it, else the ref.
    pub fn revision(&self) -> Option<String> {
        let or_ref = |commit: &str, name: String| if commit.is_empty() { name } else { commit.to_owned() };
        match self {
            Happening::Push(push) => Some(or_ref(&push.after, format!("refs/heads/{}", push.branch))),
            Happening::Tag(tag) => Some(or_ref(&tag.target, format!("refs/tags/{}", tag.tag))),
            Happening::PullRequest(request) => Some(request.head.clone()),
            Happening::Ping | Happening::Nothing(_) => None,
        }
    }

    /// Why a run starts; `None` for what starts none. `commit` is what [`Happening::revision`] was resolved to, `changed`
    /// what git found; without it what the delivery lists is taken.
    pub fn trigger(&self, commit: &str, changed: Option<Vec<String>>) -> Option<Trigger> {
        let git = Git { commit: commit.into(), ..Git::default() };
        Some(match self {
            Happening::Push(push) => Trigger {
                event: Event { kind: EventKind::Push, changed: changed.or(push.changed.clone()), ..Event::default() },
                git: Git {
                    branch: push.branch.clone(),
                    message: first_line(&push.message),
                    author: push.author.clone(),
                    ..git
                },
            },
            Happening::Tag(tag) => Trigger {
                event: Event { kind: EventKind::Push, changed, ..Event::default() },
                git: Git { tag: tag.tag.clone(), message: first_line(&tag.message), author: tag.author.clone(), ..git },
            },
            Happening::PullRequest(request) => Trigger {
                event: Event {
                    kind: EventKind::PullRequest,
                    title: request.title.clone(),
                    number: request.number,
                    fork: request.is_fork,
                    author: request.author.clone(),
                    changed,
                },
                git: Git { branch: request.head_branch.clone(), target: request.base_branch.clone(), ..git },
            },
            Happening::Ping | Happening::Nothing(_) => return None,
        })
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_request_becomes_a_trigger_with_both_branches() {
        let request = PullRequest {
            number: 7,
            title: "Faster".into(),
            author: "eve".into(),
            head: "a".repeat(40),
            head_branch: "topic".into(),
            base_branch: "main".into(),
            ..PullRequest::default()
        };
        let happening = Happening::PullRequest(request);
        let trigger = happening.trigger("c", Some(vec!["x".into()])).unwrap();
        assert_eq!((trigger.event.kind, trigger.event.number), (EventKind::PullRequest, 7));
        assert_eq!((trigger.git.branch.as_str(), trigger.git.target.as_str()), ("topic", "main"));
        assert_eq!(happening.refs(Kind::GitLab), ["refs/merge-requests/7/head", "refs/heads/main"]);
        assert_eq!(happening.refs(Kind::GitHub)[0], "refs/pull/7/head");
    }

    #[test]
    fn a_push_that_names_no_commit_is_what_the_branch_is_at() {
        let push = Happening::Push(Push { branch: "main".into(), message: "one\ntwo".into(), ..Push::default() });
        assert_eq!(push.revision().as_deref(), Some("refs/heads/main"));
        assert_eq!(push.trigger("c", None).unwrap().git.message, "one");
        assert_eq!(Happening::Ping.trigger("c", None), None);
    }
}
