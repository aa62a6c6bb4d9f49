//! How people sign in to a server with an issuer of OpenID Connect.

use access::{ClientSecret, GroupRule, OidcConfig};
use clap::Args;

use crate::exit::Failure;

/// Where the client's secret is when nobody says otherwise.
const SECRET_VARIABLE: &str = "PACE_OIDC_CLIENT_SECRET";

/// Options of `pace server` for signing in with an issuer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Signing in with OpenID Connect")]
pub struct OidcArgs {
    /// Let people sign in with this issuer
    #[arg(long, value_name = "URL", env = "PACE_OIDC_ISSUER", requires = "oidc_client_id")]
    pub oidc_issuer: Option<String>,
    /// The server's name there
    #[arg(long, value_name = "ID", env = "PACE_OIDC_CLIENT_ID")]
    pub oidc_client_id: Option<String>,
    /// The variable that holds the server's secret there [default: PACE_OIDC_CLIENT_SECRET]
    #[arg(long, value_name = "NAME")]
    pub oidc_client_secret_env: Option<String>,
    /// What the issuer is asked for beside `openid`
    #[arg(
        long,
        value_name = "SCOPES",
        value_delimiter = ' ',
        default_value = "email profile",
        env = "PACE_OIDC_SCOPES"
    )]
    pub oidc_scopes: Vec<String>,
    /// The claim with a person's groups
    #[arg(long, value_name = "NAME", default_value = "groups", env = "PACE_OIDC_GROUPS_CLAIM")]
    pub oidc_groups_claim: String,
    /// Who has a verified mail address in this domain may sign in; may be given several times
    #[arg(long = "oidc-domain", value_name = "DOMAIN", value_delimiter = ' ', env = "PACE_OIDC_DOMAINS")]
    pub oidc_domains: Vec<String>,
    /// Who is in this group administers the server; may be given several times
    #[arg(long = "oidc-admin-group", value_name = "GROUP", env = "PACE_OIDC_ADMIN_GROUP")]
    pub oidc_admin_groups: Vec<String>,
    /// Who is in this group may sign in and has this role, in all projects or in one, or is in this team of approvals; may be
    /// given several times
    #[arg(long = "oidc-group", value_name = "GROUP=ROLE[:PROJECT]|GROUP=team:TEAM")]
    pub oidc_groups: Vec<GroupRule>,
}

impl OidcArgs {
    /// What the server is told, if there is an issuer.
    pub fn config(&self) -> Result<Option<OidcConfig>, Failure> {
        let (Some(issuer), Some(client_id)) = (&self.oidc_issuer, &self.oidc_client_id) else { return Ok(None) };
        let admins = self.oidc_admin_groups.iter().map(|group| GroupRule::admin(group));
        let groups: Vec<GroupRule> = self.oidc_groups.iter().cloned().chain(admins).collect();
        if groups.is_empty() && self.oidc_domains.is_empty() {
            return Err(Failure::usage(
                "--oidc-issuer lets nobody in so far; say who may sign in with --oidc-domain, --oidc-group or --oidc-admin-group",
            ));
        }
        Ok(Some(OidcConfig {
            issuer: issuer.clone(),
            client_id: client_id.clone(),
            client_secret: ClientSecret(self.secret()?),
            scopes: self.oidc_scopes.clone(),
            groups_claim: self.oidc_groups_claim.clone(),
            domains: self.oidc_domains.clone(),
            groups,
        }))
    }

    /// A client without a secret is a public one; but a variable that somebody names must be there.
    fn secret(&self) -> Result<String, Failure> {
        let name = self.oidc_client_secret_env.as_deref().unwrap_or(SECRET_VARIABLE);
        match std::env::var(name) {
            Ok(secret) if !secret.is_empty() => Ok(secret),
            _ if self.oidc_client_secret_env.is_none() => Ok(String::new()),
            _ => Err(Failure::usage(format!("--oidc-client-secret-env: there is no variable `{name}`"))),
        }
    }
}
