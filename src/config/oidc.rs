//! How people sign in: the provider that vouches for them, how it is asked, and for how long it is believed.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::{
    config::{
        load::{HOUR, MINUTE},
        secrets,
    },
    document::Table,
    domain::{name::Name, network::is_this_machine, rights::context::is_claim_name},
    secret::Secret,
};

/// The provider, and what is made of its word.
#[derive(Debug)]
pub struct OidcConfig {
    /// Its name, as its tokens have it.
    pub issuer: String,
    /// What we are called there.
    pub client_id: String,
    /// What proves that we are; none for a public client.
    pub client_secret: Option<Secret<String>>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The claim that is its key for a person.
    pub subject_claim: String,
    /// The claim that a person's name is made of.
    pub name_claim: String,
    /// The claim with the groups.
    pub groups_claim: String,
    /// Its groups by their names here; as they are, if none.
    pub groups: Option<BTreeMap<String, Name>>,
    /// Its claims that templates may use, by their names here.
    pub claims: BTreeMap<String, String>,
    /// How long sessions of browsers last.
    pub browser: SessionLengths,
    /// How long sessions of the command line last.
    pub command_line: SessionLengths,
    /// How often it is asked whether a person is still there.
    pub recheck: Duration,
    /// How long its last word is believed if it does not answer.
    pub believed_for: Duration,
    /// Do the leases of somebody who is gone there end?
    pub revoke_leases: bool,
}

/// How long a session lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLengths {
    /// In all.
    pub absolute: Duration,
    /// Without being used.
    pub idle: Duration,
}

const BROWSER: SessionLengths =
    SessionLengths { absolute: Duration::from_secs(12 * 3600), idle: HOUR };

const COMMAND_LINE: SessionLengths = SessionLengths {
    absolute: Duration::from_secs(12 * 3600),
    idle: Duration::from_secs(4 * 3600),
};

/// Reads `[oidc]`. None if it is not sound: its faults are reported.
pub(in crate::config) fn read(table: &mut Table, folder: &Path) -> Option<OidcConfig> {
    table.require(&["issuer", "client_id"]);
    let write = "the issuer as its tokens name it, such as \"https://login.example.org/realm\"";
    let issuer = table.parsed("issuer", write, parse_issuer);
    let client_id = table.optional_string("client_id");
    let client_secret = secrets::read(table, "client_secret", folder);
    let scopes = table.strings("scopes").unwrap_or_else(|| {
        ["openid", "profile", "email", "offline_access"].map(str::to_owned).to_vec()
    });
    if !scopes.iter().any(|scope| scope == "openid") {
        table.fault("scopes", "it lacks \"openid\", without which no sign-in says who it is");
    }
    let claim = |table: &mut Table, key, default: &str| {
        table.optional_string(key).unwrap_or_else(|| default.to_owned())
    };
    let subject_claim = claim(table, "subject_claim", "sub");
    let name_claim = claim(table, "name_claim", "preferred_username");
    let groups_claim = claim(table, "groups_claim", "groups");
    let groups = read_groups(table);
    let claims = read_claims(table);
    let browser = read_lengths(table, "browser", BROWSER);
    let command_line = read_lengths(table, "command_line", COMMAND_LINE);
    let second = Duration::from_secs(1);
    let recheck = table.duration_in("recheck", second..=24 * HOUR).unwrap_or(15 * MINUTE);
    let believed_for =
        table.duration_in("believed_for", second..=7 * 24 * HOUR).unwrap_or(24 * HOUR);
    let revoke_leases = table.boolean("revoke_leases").unwrap_or(true);
    Some(OidcConfig {
        issuer: issuer?,
        client_id: client_id?,
        client_secret,
        scopes,
        subject_claim,
        name_claim,
        groups_claim,
        groups,
        claims,
        browser,
        command_line,
        recheck,
        believed_for,
        revoke_leases,
    })
}

fn parse_issuer(text: &str) -> Result<String, &'static str> {
    let url = reqwest::Url::parse(text).map_err(|_| "it is no address")?;
    let host = url.host_str().ok_or("it has no host")?;
    let is_here = is_this_machine(host);
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has more than a host and a path");
    }
    match url.scheme() {
        "https" => Ok(text.to_owned()),
        "http" if is_here => Ok(text.to_owned()),
        _ => Err("it is not https"),
    }
}

fn read_groups(table: &mut Table) -> Option<BTreeMap<String, Name>> {
    let pairs = table.strings_by_name("groups")?;
    let read = |(theirs, ours): (String, String)| match ours.parse::<Name>() {
        Ok(name) => Some((theirs, name)),
        Err(error) => {
            table.fault("groups", &format!("the provider's `{theirs}`: {error}"));
            None
        }
    };
    Some(pairs.into_iter().filter_map(read).collect())
}

fn read_claims(table: &mut Table) -> BTreeMap<String, String> {
    let pairs = table.strings_by_name("claims").unwrap_or_default();
    for (ours, _) in pairs.iter().filter(|(ours, _)| !is_claim_name(ours)) {
        let message = format!(
            "`{ours}` is no name of a claim; write lower-case letters, digits and `_`, such as tenant_id = \"https://example.org/tenant\""
        );
        table.fault("claims", &message);
    }
    pairs.into_iter().collect()
}

fn read_lengths(table: &mut Table, key: &'static str, default: SessionLengths) -> SessionLengths {
    let Some(mut lengths) = table.table(key) else { return default };
    let second = Duration::from_secs(1);
    let absolute =
        lengths.duration_in("absolute", second..=30 * 24 * HOUR).unwrap_or(default.absolute);
    let idle = lengths.duration_in("idle", second..=30 * 24 * HOUR);
    SessionLengths { absolute, idle: idle.unwrap_or(default.idle).min(absolute) }
}

#[cfg(test)]
mod tests {
    use crate::{config::Config, document::Faults};

    fn load(text: &str) -> Result<Config, Faults> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pgvalet.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("client.secret"), "hunter2\n").unwrap();
        Config::load(Some(&path), [])
    }

    #[test]
    fn two_lines_are_enough_and_the_secret_is_not_shown() {
        let text = "[oidc]\nissuer = 'https://login.example.org'\nclient_id = 'pgvalet'\n\
                    client_secret = { file = 'client.secret' }\n[oidc.groups]\n'DB People' = 'dba'\n\
                    [oidc.claims]\ntenant_id = 'https://example.org/tenant'\n";
        let config = load(text).unwrap();
        let shown = config.describe();
        assert!(!shown.contains("hunter2") && shown.contains("# client_secret = (set)"), "{shown}");
        let again = load(&shown.replace("[master_key]", "")).unwrap().oidc.unwrap();
        let oidc = config.oidc.unwrap();
        assert_eq!(oidc.client_secret.unwrap().expose(), "hunter2");
        assert_eq!(
            (again.groups, again.claims, again.scopes),
            (oidc.groups, oidc.claims, oidc.scopes)
        );
        assert_eq!((again.browser, again.recheck), (oidc.browser, oidc.recheck));
        assert_eq!((oidc.name_claim.as_str(), oidc.revoke_leases), ("preferred_username", true));
        assert!(load("").unwrap().oidc.is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write_instead() {
        for (lines, words) in [
            ("client_id = 'a'", "`issuer` in [oidc] is missing"),
            ("issuer = 'http://login.example.org'\nclient_id = 'a'", "it is not https"),
            (
                "issuer = 'https://login.example.org?x=y'\nclient_id = 'a'",
                "more than a host and a path",
            ),
            (
                "issuer = 'https://a.example'\nclient_id = 'a'\nscopes = ['email']",
                "lacks \"openid\"",
            ),
            (
                "issuer = 'https://a.example'\nclient_id = 'a'\ngroups = { X = 'No' }",
                "is not a name",
            ),
            (
                "issuer = 'https://a.example'\nclient_id = 'a'\nclaims = { 'a b' = 'x' }",
                "is no name of a claim",
            ),
            (
                "issuer = 'https://a.example'\nclient_id = 'a'\nclient_secret = { file = 'none' }",
                "cannot be read",
            ),
            (
                "issuer = 'https://a.example'\nclient_id = 'a'\nrechek = '1m'",
                "did you mean `recheck`?",
            ),
        ] {
            let faults = load(&format!("[oidc]\n{lines}\n")).unwrap_err().to_string();
            assert!(faults.contains(words), "{lines}: {faults}");
        }
    }
}
