//! `pgvalet hba`: lines for a target's `pg_hba.conf`.

use ipnet::IpNet;

use crate::{
    api::admin::PgHba,
    cli::{
        Globals, Io,
        call::Call,
        failure::Failure,
        output::{self, watched},
        session,
    },
    domain::name::Name,
};

/// What `pgvalet hba --help` ends with.
pub(crate) const EXAMPLES: &str = "\
Examples:
  pgvalet hba orders-prod --network 10.1.0.0/16 --network 10.2.0.0/16
  pgvalet hba orders-prod --json | jq -r .text

The lines let the logins of each profile into its database over TLS, with SCRAM, from these
networks, and refuse them any other way. Nothing is changed on the target: put them at the top of
its pg_hba.conf yourself. For administrators.";

/// `pgvalet hba`.
#[derive(Debug, clap::Args)]
pub struct Hba {
    /// The target.
    pub target: Name,
    /// From where leased logins are to come; may be given several times. As the server's own lines say now, if
    /// left out.
    #[arg(long = "network", value_name = "CIDR")]
    pub networks: Vec<IpNet>,
}

/// `pgvalet hba`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn hba(given: Hba, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let path = ["v1", "targets", given.target.as_str(), "hba"];
    let mut call = Call::get(&path);
    if !given.networks.is_empty() {
        let networks: Vec<String> = given.networks.iter().map(ToString::to_string).collect();
        call.query.push(("networks", networks.join(",")));
    }
    let answer = watched(io, "asking the daemon", client.read::<PgHba>(call)).await?.value;
    if globals.json {
        output::json(io, &answer)?;
    } else {
        // Comments may quote names that somebody else chose.
        let lines: Vec<String> = answer.text.lines().map(output::plain).collect();
        writeln!(io.out, "{}", lines.join("\n"))?;
    }
    Ok(0)
}
