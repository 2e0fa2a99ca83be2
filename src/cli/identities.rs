//! By which names of certificates principals are known: added, listed, removed.

use crate::{
    api::identities::{AddIdentity, Identity as Record},
    cli::{
        Globals, Io,
        admin_arguments::claim,
        call::Call,
        failure::Failure,
        output::{self, instant, plain, watched},
        session,
    },
};

/// They are listed all at once; this bounds a daemon that never stops.
const MOST: usize = 10_000;

/// `pgvalet identity`.
#[derive(Debug, clap::Args)]
pub struct Identity {
    /// What to do.
    #[command(subcommand)]
    pub command: IdentityCommand,
}

/// What is done with identities.
#[derive(Debug, clap::Subcommand)]
pub enum IdentityCommand {
    /// Let a service or person sign in by a client certificate
    #[command(after_help = "\
Examples:
  pgvalet identity add service:ci-runner --certificate uri:spiffe://example.org/ns/ci/sa/runner
  pgvalet identity add service:backup --certificate dns:backup-1.internal --group backups")]
    Add(AddArguments),
    /// List the names of certificates, and whose they are
    #[command(after_help = "Examples:\n  pgvalet identity list")]
    List,
    /// Let nobody sign in by a certificate's name any more
    #[command(after_help = "Examples:\n  pgvalet identity remove dns:backup-1.internal")]
    Remove {
        /// The name, as it is listed.
        #[arg(value_name = "NAME")]
        certificate: String,
    },
}

/// `pgvalet identity add`.
#[derive(Debug, clap::Args)]
pub struct AddArguments {
    /// Whose it is, such as `service:ci-runner` or `person:alice`: recorded if it is new.
    #[arg(value_name = "PRINCIPAL")]
    pub principal: String,
    /// The name in the certificate's subject alternative name, such as `dns:ci-1.internal`,
    /// `uri:spiffe://example.org/ns/x/sa/y` or `email:ci@example.org`.
    #[arg(long, value_name = "NAME")]
    pub certificate: String,
    /// A group that they are in from now on; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    pub groups: Vec<String>,
    /// What is claimed of them from now on, such as `tenant_id=7`; may be given several times.
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    pub claims: Vec<(String, String)>,
}

/// `pgvalet identity`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn identity(given: Identity, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match given.command {
        IdentityCommand::Add(given) => {
            let wish = AddIdentity {
                principal: given.principal,
                certificate: given.certificate,
                groups: (!given.groups.is_empty()).then_some(given.groups),
                claims: (!given.claims.is_empty()).then(|| given.claims.into_iter().collect()),
            };
            let adding = client.read::<Record>(Call::post(&["v1", "identities"], &wish)?);
            let added = watched(io, "adding the identity", adding).await?.value;
            if globals.json {
                output::json(io, &added)?;
            } else {
                let (name, whose) = (plain(&added.certificate), plain(&added.principal));
                writeln!(io.err, "whoever shows a certificate with {name} is {whose}")?;
            }
        }
        IdentityCommand::List => {
            let items =
                watched(io, "asking the daemon", client.list("identities", &[], MOST)).await?;
            if globals.json {
                output::json(io, &serde_json::json!({ "items": items }))?;
                return Ok(0);
            }
            let all = output::read_items::<Record>(items)?;
            let rows = all.iter().map(|known| {
                vec![
                    known.certificate.clone(),
                    known.principal.clone(),
                    instant(known.created_at),
                    known.last_seen_at.map_or_else(|| "never".to_owned(), instant),
                ]
            });
            let rows = rows.collect();
            output::table(io, &["certificate", "whose", "since", "last used"], rows)?;
        }
        IdentityCommand::Remove { certificate } => {
            watched(io, "removing", client.remove("identities", &certificate)).await?;
            writeln!(io.err, "nobody signs in by {} any more", plain(&certificate))?;
        }
    }
    Ok(0)
}
