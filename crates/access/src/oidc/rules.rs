//! Who may sign in with an issuer, and what its groups are allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::{Role, USER_NAME_BYTES_MAX, User, user_name_problem};

/// Groups of one person that are looked at.
const GROUPS_MAX: usize = 1000;
/// The standard bounds a subject by this.
const SUBJECT_BYTES_MAX: usize = 255;
/// Characters of a name or an address.
const TEXT_CHARS_MAX: usize = 256;

/// How to sign in with an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OidcConfig {
    /// The issuer, exactly as it calls itself: `https://login.example.com`.
    pub issuer: String,
    /// Our name there.
    pub client_id: String,
    /// Our secret there; empty for a public client.
    pub client_secret: ClientSecret,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// The claim with a person's groups: `groups`.
    pub groups_claim: String,
    /// Whose verified mail address is in one of these domains may sign in.
    pub domains: Vec<String>,
    /// Who is in one of these groups may sign in, and what that allows.
    pub groups: Vec<GroupRule>,
}

/// A client's secret. Not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSecret(pub String);

impl std::fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// What a group is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupRule {
    /// The group, as the issuer calls it.
    pub group: String,
    /// Its members administer the server.
    pub admin: bool,
    /// Its members' role, and the project, `folder/*` or `*` that it is for.
    pub role: Option<(String, Role)>,
    /// The team that its members are in, for approvals; may be empty.
    pub team: String,
}

impl GroupRule {
    /// The members of this group administer the server.
    pub fn admin(group: &str) -> GroupRule {
        GroupRule { group: group.into(), admin: true, ..GroupRule::default() }
    }
}

impl FromStr for GroupRule {
    type Err = String;

    /// `GROUP=ROLE`, `GROUP=ROLE:PROJECT`, `GROUP=team:TEAM`. A group may have `=` in it.
    fn from_str(text: &str) -> Result<GroupRule, String> {
        let wrong = |why: String| format!("`{text}` is not GROUP=ROLE[:PROJECT] or GROUP=team:TEAM: {why}");
        let (group, given) = text.rsplit_once('=').ok_or_else(|| wrong("there is no `=`".into()))?;
        let (word, of) = given.split_once(':').unwrap_or((given, "*"));
        if group.is_empty() || of.is_empty() {
            return Err(wrong("something is empty".into()));
        }
        let rule = GroupRule { group: group.into(), ..GroupRule::default() };
        if word == "team" && given != "team" {
            return Ok(GroupRule { team: of.into(), ..rule });
        }
        let role = word.parse::<Role>().map_err(|error| wrong(error.to_string()))?;
        Ok(GroupRule { role: Some((of.into(), role)), ..rule })
    }
}

/// Who somebody is, as the issuer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `<issuer> <subject>`: never changes, never given to another.
    pub key: String,
    /// The name it should have here; a user's name, whatever the issuer says.
    pub name: String,
    /// How people call it.
    pub display: String,
    /// Where mail reaches it.
    pub email: String,
    /// The issuer made sure that the address is its own.
    pub email_verified: bool,
    /// Its groups.
    pub groups: BTreeSet<String>,
}

impl Identity {
    /// Who the issuer's claims are about; else what is wrong with them.
    pub(super) fn of_claims(claims: &Map<String, Value>, config: &OidcConfig) -> Result<Identity, String> {
        let exact = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let text =
            |name: &str| exact(name).chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect::<String>();
        let subject = exact("sub");
        // Never cut: two people must not become one.
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err("it names nobody".into());
        }
        let (wanted, email) = (text("preferred_username"), text("email"));
        let wanted = if wanted.is_empty() { email.split('@').next().unwrap_or_default() } else { &wanted };
        let name = plain(wanted);
        if user_name_problem(&name).is_some() {
            return Err("it gives neither `preferred_username` nor `email` that a user could be named after".into());
        }
        let groups = match claims.get(&config.groups_claim) {
            Some(Value::Array(all)) => {
                all.iter().take(GROUPS_MAX).filter_map(|group| group.as_str().map(str::to_owned)).collect()
            }
            Some(Value::String(group)) => BTreeSet::from([group.clone()]),
            _ => BTreeSet::new(),
        };
        let email_verified = claims.get("email_verified") == Some(&Value::Bool(true));
        let key = format!("{} {subject}", config.issuer);
        Ok(Identity { key, name, display: text("name"), email, email_verified, groups })
    }

    /// Whether it may sign in at all: by a group, or by the domain of its mail address.
    pub fn is_admitted(&self, config: &OidcConfig) -> bool {
        let domain = self.email.rsplit_once('@').map(|(_, domain)| domain);
        let known = |domain: &str| config.domains.iter().any(|known| known.eq_ignore_ascii_case(domain));
        self.rules(config).next().is_some() || (self.email_verified && domain.is_some_and(known))
    }

    /// The user with the rights that the groups give now; those that people gave stay.
    pub fn apply(&self, user: User, config: &OidcConfig) -> User {
        let mut grants: BTreeMap<String, Role> = BTreeMap::new();
        for (project, role) in self.rules(config).filter_map(|rule| rule.role.clone()) {
            let known = grants.entry(project).or_insert(role);
            *known = (*known).max(role);
        }
        let teams = self.rules(config).map(|rule| rule.team.clone()).filter(|team| !team.is_empty());
        User {
            display: if self.display.is_empty() { user.display } else { self.display.clone() },
            email: if self.email.is_empty() { user.email } else { self.email.clone() },
            oidc: self.key.clone(),
            oidc_admin: self.rules(config).any(|rule| rule.admin),
            oidc_grants: grants,
            oidc_teams: teams.collect(),
            ..user
        }
    }

    fn rules<'a>(&'a self, config: &'a OidcConfig) -> impl Iterator<Item = &'a GroupRule> {
        config.groups.iter().filter(|rule| self.groups.contains(&rule.group))
    }
}

/// A text as the name of a user.
fn plain(text: &str) -> String {
    let known = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || "._-@+".contains(c) => c,
        _ => '-',
    };
    text.chars().take(USER_NAME_BYTES_MAX).map(known).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> OidcConfig {
        let rules = ["dev=developer", "web=maintainer:web", "dev=viewer:web", "cn=ops,o=x=team:release"];
        let mut groups: Vec<GroupRule> = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        groups.push(GroupRule::admin("root"));
        let (issuer, groups_claim) = ("https://id".into(), "groups".into());
        OidcConfig { issuer, groups_claim, groups, domains: vec!["example.com".into()], ..OidcConfig::default() }
    }

    fn of(claims: Value) -> Result<Identity, String> {
        Identity::of_claims(claims.as_object().expect("an object"), &config())
    }

    #[test]
    fn groups_give_roles_and_take_them_away_and_what_people_gave_stays() {
        let anna = of(json!({ "sub": "1", "preferred_username": "Anna", "groups": ["dev", "web", "cn=ops,o=x", "x"] }));
        let given = User { name: "anna".into(), grants: [("api".into(), Role::Admin)].into(), ..User::default() };
        let user = anna.expect("anna").apply(given, &config());
        let roles = ["web", "api", "other"].map(|project| user.role_in(project));
        assert_eq!(roles, [Some(Role::Maintainer), Some(Role::Admin), Some(Role::Developer)]);
        assert_eq!(
            (user.oidc.as_str(), user.oidc_teams.contains("release"), user.rules_all()),
            ("https://id 1", true, false)
        );
        let root = of(json!({ "sub": "1", "preferred_username": "anna", "groups": "root" })).expect("anna");
        assert!(root.apply(user.clone(), &config()).rules_all());
        let nothing = of(json!({ "sub": "1", "preferred_username": "anna" })).expect("anna").apply(user, &config());
        assert_eq!(["web", "api"].map(|project| nothing.role_in(project)), [None, Some(Role::Admin)]);
        assert!(nothing.oidc_teams.is_empty() && !nothing.rules_all());
    }

    #[test]
    fn only_groups_that_are_named_and_verified_addresses_of_a_domain_let_in() {
        let lets_in = |claims: Value| of(claims).expect("somebody").is_admitted(&config());
        assert!(lets_in(json!({ "sub": "1", "preferred_username": "a", "groups": ["dev"] })));
        assert!(lets_in(json!({ "sub": "1", "email": "a@Example.com", "email_verified": true })));
        for stranger in [
            json!({ "sub": "1", "preferred_username": "a", "groups": ["developers", 7, null] }),
            json!({ "sub": "1", "email": "a@example.com" }),
            json!({ "sub": "1", "email": "a@example.com", "email_verified": false }),
            json!({ "sub": "1", "email": "a@example.com", "email_verified": "yes" }),
            json!({ "sub": "1", "email": "a@example.com@evil.com", "email_verified": true }),
            json!({ "sub": "1", "email": "a@evil-example.com", "email_verified": true }),
            json!({ "sub": "1", "preferred_username": "example.com", "email_verified": true }),
        ] {
            assert!(!lets_in(stranger.clone()), "{stranger}");
        }
    }

    #[test]
    fn names_become_plain_and_nobody_is_cut_into_somebody_else() {
        let named = |name: &str| of(json!({ "sub": "1", "preferred_username": name })).map(|anna| anna.name);
        assert_eq!(named("Anna Müller\n"), Ok("anna-m-ller".into()));
        assert!(named("").is_err() && named("../x").is_err());
        assert_eq!(of(json!({ "sub": "1", "email": "bo@example.com" })).map(|bo| bo.name), Ok("bo".into()));
        for sub in [json!(""), json!(null), json!(7), json!("x".repeat(256))] {
            assert!(of(json!({ "sub": sub, "preferred_username": "anna" })).is_err());
        }
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_refused() {
        for bad in ["dev", "=developer", "dev=", "dev=owner", "dev=developer:", "dev=team:", "dev=team"] {
            assert!(bad.parse::<GroupRule>().is_err(), "{bad}");
        }
        assert!(
            !format!("{:?}", OidcConfig { client_secret: ClientSecret("x1y2".into()), ..config() }).contains("x1y2")
        );
    }
}
