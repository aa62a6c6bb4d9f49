//! Who speaks.

use std::fmt;

use http::HeaderMap;

/// A kind of forge, or of whatever else sends deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// github.com or GitHub Enterprise.
    GitHub,
    /// gitlab.com or one's own.
    GitLab,
    /// Gitea or Forgejo; Codeberg is one.
    Gitea,
    /// Bitbucket Cloud or Data Center.
    Bitbucket,
    /// Anything that posts our own small JSON.
    Generic,
    /// `post-receive` of a bare repository: lines `old new ref`.
    Git,
}

impl Kind {
    /// The word in configuration and in a delivery's id.
    pub fn word(self) -> &'static str {
        match self {
            Kind::GitHub => "github",
            Kind::GitLab => "gitlab",
            Kind::Gitea => "gitea",
            Kind::Bitbucket => "bitbucket",
            Kind::Generic => "generic",
            Kind::Git => "git",
        }
    }

    /// Reads [`Kind::word`]; `forgejo` and `codeberg` are Gitea.
    pub fn of_word(word: &str) -> Option<Kind> {
        Some(match word {
            "github" => Kind::GitHub,
            "gitlab" => Kind::GitLab,
            "gitea" | "forgejo" | "codeberg" => Kind::Gitea,
            "bitbucket" => Kind::Bitbucket,
            "generic" => Kind::Generic,
            "git" => Kind::Git,
            _ => return None,
        })
    }

    /// Who a delivery's headers say that they are. Gitea and Forgejo send GitHub's headers beside their own, so theirs
    /// are looked for first.
    pub fn of_headers(headers: &HeaderMap) -> Option<Kind> {
        const MARKS: [(&str, Kind); 5] = [
            ("x-forgejo-event", Kind::Gitea),
            ("x-gitea-event", Kind::Gitea),
            ("x-gitlab-event", Kind::GitLab),
            ("x-github-event", Kind::GitHub),
            ("x-event-key", Kind::Bitbucket),
        ];
        MARKS.into_iter().find(|(name, _)| headers.contains_key(*name)).map(|(_, kind)| kind)
    }

    /// Which forge a repository's address belongs to, as far as the host's name tells.
    pub fn of_repository(url: &str) -> Option<Kind> {
        let host = crate::git::Address::parse(url).ok()?.host()?.to_ascii_lowercase();
        let within = |name: &str| host == name || host.ends_with(&format!(".{name}"));
        const HOSTS: [(&str, Kind); 5] = [
            ("github.com", Kind::GitHub),
            ("gitlab.com", Kind::GitLab),
            ("codeberg.org", Kind::Gitea),
            ("gitea.com", Kind::Gitea),
            ("bitbucket.org", Kind::Bitbucket),
        ];
        HOSTS.into_iter().find(|(name, _)| within(name)).map(|(_, kind)| kind)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgejo_is_known_although_it_speaks_as_github_too() {
        let mut headers = HeaderMap::new();
        headers.insert("x-github-event", "push".parse().unwrap());
        assert_eq!(Kind::of_headers(&headers), Some(Kind::GitHub));
        headers.insert("x-forgejo-event", "push".parse().unwrap());
        assert_eq!(Kind::of_headers(&headers), Some(Kind::Gitea));
        assert_eq!(Kind::of_headers(&HeaderMap::new()), None);
    }

    #[test]
    fn a_repositorys_host_tells_the_forge() {
        for (url, kind) in [
            ("https://github.com/a/b.git", Some(Kind::GitHub)),
            ("git@gitlab.com:a/b.git", Some(Kind::GitLab)),
            ("ssh://git@codeberg.org/a/b", Some(Kind::Gitea)),
            ("https://bitbucket.org/a/b", Some(Kind::Bitbucket)),
            ("https://evilgithub.com/a/b", None),
            ("/srv/git/a.git", None),
        ] {
            assert_eq!(Kind::of_repository(url), kind, "{url}");
        }
    }

    #[test]
    fn every_word_reads_back() {
        for kind in [Kind::GitHub, Kind::GitLab, Kind::Gitea, Kind::Bitbucket, Kind::Generic, Kind::Git] {
            assert_eq!(Kind::of_word(kind.word()), Some(kind));
        }
    }
}
