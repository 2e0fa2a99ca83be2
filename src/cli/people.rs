//! Whom the daemon knows: listed, shown, shut out, let in again, linked to an identity, given groups.

use reqwest::Method;

use crate::{
    api::{
        offboarding::Offboarding,
        people::{Groups, Link, Principal},
    },
    cli::{
        Globals, Io,
        call::Call,
        client::Client,
        failure::Failure,
        output::{self, facts, instant, watched},
        records, session,
    },
    domain::name::Name,
    ids::PrincipalId,
};

/// `pgvalet person`.
#[derive(Debug, clap::Args)]
pub struct People {
    /// What to do.
    #[command(subcommand)]
    pub command: PeopleCommand,
}

/// What can be done with whom the daemon knows.
#[derive(Debug, clap::Subcommand)]
pub enum PeopleCommand {
    /// List people, services and CI rules, newest first
    #[command(after_help = "Examples:\n  pgvalet people list")]
    List,
    /// Show one, with the identities that it is known by
    #[command(after_help = "Examples:\n  pgvalet person show person:alice")]
    Show(Who),
    /// Shut somebody out: sessions end, tokens are refused, leases are revoked
    #[command(after_help = "Examples:\n  pgvalet person disable person:alice")]
    Disable(Who),
    /// Let somebody in again: their API tokens hold again
    #[command(after_help = "Examples:\n  pgvalet person enable person:alice")]
    Enable(Who),
    /// Say that a person is the one whom an identity provider knows by this key
    #[command(after_help = "\
Examples:
  pgvalet person link person:alice --issuer https://login.example.org --subject 8f14e45f-ceea")]
    Link(Known),
    /// Say that they are not; their sessions end
    #[command(after_help = "\
Examples:
  pgvalet person unlink person:alice --issuer https://login.example.org --subject 8f14e45f-ceea")]
    Unlink(Known),
    /// Set the groups that somebody is given here, beside those of their provider
    #[command(after_help = "\
Examples:
  pgvalet person groups person:alice --group support --group on-call
  pgvalet person groups person:alice           none")]
    Groups {
        /// Who.
        #[command(flatten)]
        who: Who,
        /// A group; may be given several times.
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<Name>,
    },
}

/// Whom a command is about.
#[derive(Debug, clap::Args)]
pub struct Who {
    /// Who: `person:alice`, `service:reports`, or an id.
    #[arg(value_name = "WHO")]
    pub who: String,
}

/// By what somebody is known.
#[derive(Debug, clap::Args)]
pub struct Known {
    /// Who.
    #[command(flatten)]
    pub who: Who,
    /// Whose word it is: the issuer, as its tokens name it.
    #[arg(long)]
    pub issuer: String,
    /// Its key for the person: the token's `sub`.
    #[arg(long)]
    pub subject: String,
}

/// A person as the API names one: `ann` is `person:ann`.
#[must_use]
pub fn named(text: &str) -> String {
    let is_whole = text.contains(':') || text.parse::<PrincipalId>().is_ok();
    if is_whole { text.to_owned() } else { format!("person:{text}") }
}

/// `pgvalet person`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn people(given: People, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match given.command {
        PeopleCommand::List => list(&client, globals, io).await?,
        PeopleCommand::Show(Who { who }) => show(&who, &client, globals, io).await?,
        PeopleCommand::Disable(Who { who }) => {
            tell(&client, io, Method::POST, &[&who, "disable"], &[]).await?;
            writeln!(io.err, "{who} is shut out: sessions and leases end, tokens are refused")?;
        }
        PeopleCommand::Enable(Who { who }) => {
            tell(&client, io, Method::POST, &[&who, "enable"], &[]).await?;
            writeln!(io.err, "{who} is let in again")?;
            tell_of_leaving(&client, &who, io).await?;
        }
        PeopleCommand::Link(Known { who: Who { who }, issuer, subject }) => {
            let link = Link { issuer, subject };
            watched(io, "linking", add_identity(&client, &who, &link)).await?;
            writeln!(io.err, "{who} is `{}` of {}", link.subject, link.issuer)?;
        }
        PeopleCommand::Unlink(Known { who: Who { who }, issuer, subject }) => {
            let query = [("issuer", issuer), ("subject", subject)];
            tell(&client, io, Method::DELETE, &[&who, "identities"], &query).await?;
            writeln!(io.err, "{who} is not known by that any more; their sessions ended")?;
        }
        PeopleCommand::Groups { who: Who { who }, groups } => {
            let path = ["v1", "principals", &who, "groups"];
            let call = Call { method: Method::PUT, ..Call::post(&path, &Groups { groups })? };
            watched(io, "setting groups", client.done(call)).await?;
            writeln!(io.err, "the groups of {who} are set")?;
        }
    }
    Ok(0)
}

/// Says that a person is the one that an issuer vouches for.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn add_identity(client: &Client, who: &str, link: &Link) -> Result<(), Failure> {
    client.done(Call::post(&["v1", "principals", who, "identities"], link)?).await
}

/// Whoever was leaving, and is let in again, has back what was refused, and nothing of what was ended.
async fn tell_of_leaving(client: &Client, who: &str, io: &mut Io<'_>) -> Result<(), Failure> {
    let asked = client.part::<Offboarding>(["principals", who, "offboarding"]).await;
    let ended = match asked {
        Ok(answer) => answer.value,
        // Nobody ever said that they leave.
        Err(Failure::Refused(problem)) if problem.status == 404 => return Ok(()),
        Err(failure) => return Err(failure),
    };
    let agents = match ended.shut_out.agents.as_slice() {
        [] => String::new(),
        agents => format!("; still shut out: {}", agents.join(", ")),
    };
    if let Some(at) = ended.ended_at {
        writeln!(io.err, "their offboarding ended at {}{agents}", instant(at))?;
    }
    Ok(())
}

async fn tell(
    client: &Client,
    io: &mut Io<'_>,
    method: Method,
    path: &[&str],
    query: &[(&'static str, String)],
) -> Result<(), Failure> {
    let path = [&["v1", "principals"], path].concat();
    let call = Call { method, query: query.to_vec(), ..Call::get(&path) };
    watched(io, "asking the daemon", client.done(call)).await
}

async fn list(client: &Client, globals: &Globals, io: &mut Io<'_>) -> Result<(), Failure> {
    let listed = records::list::<Principal>("principals", client, globals, io).await?;
    let Some(listed) = listed else { return Ok(()) };
    let rows = listed.into_iter().map(|one| {
        let state = if one.disabled_at.is_some() { "disabled" } else { "" };
        vec![
            one.principal,
            [one.groups, one.provider_groups].concat().join(", "),
            one.sessions.to_string(),
            one.tokens.to_string(),
            one.live_leases.to_string(),
            one.last_seen_at.map_or_else(|| "never".to_owned(), instant),
            state.to_owned(),
        ]
    });
    let header = ["who", "groups", "sessions", "tokens", "live leases", "last seen", "state"];
    let rows = rows.collect();
    Ok(output::table(io, &header, rows)?)
}

async fn show(
    who: &str,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let asked = client.record::<Principal>("principals", who);
    let found = watched(io, "asking the daemon", asked).await?.value;
    if globals.json {
        return output::json(io, &found);
    }
    let claims: Vec<_> =
        found.claims.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let at = |at: Option<_>, none: &str| at.map_or_else(|| none.to_owned(), instant);
    let mut lines = vec![
        ("principal", found.principal),
        ("id", found.id.to_string()),
        ("admin", if found.admin { "yes" } else { "" }.to_owned()),
        ("groups given here", found.groups.join(", ")),
        ("groups of the provider", found.provider_groups.join(", ")),
        ("claims", claims.join(", ")),
        ("recorded", instant(found.created_at)),
        ("disabled", at(found.disabled_at, "")),
        ("last seen", at(found.last_seen_at, "never")),
        ("sessions", found.sessions.to_string()),
        ("tokens", found.tokens.to_string()),
        ("live leases", found.live_leases.to_string()),
    ];
    for identity in found.identities {
        let name = identity.user_name.map_or_else(String::new, |name| format!(", called {name}"));
        lines.push(("known as", format!("{} of {}{name}", identity.subject, identity.issuer)));
    }
    Ok(facts(io, &lines)?)
}
