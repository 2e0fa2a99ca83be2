//! The arguments of the commands that hand out a credential: `get`, `connect`, `run`.

use std::{ffi::OsString, path::PathBuf};

use chrono::{DateTime, Utc};

use crate::cli::format::{Field, Format};

/// What `pgvalet get --help` ends with.
pub(crate) const GET_EXAMPLES: &str = "\
Examples:
  pgvalet get shop-read --ttl 15m --reason 'look at order 4711'
  pgvalet get shop-read --format dotenv --out .env.pgvalet
  pgvalet get shop-read --format pgservice --install   then: psql service=pgvalet-shop-read
  psql \"$(pgvalet get shop-read --format pgpass --install)\"
  pgvalet get shop-read --format credential-process    a lease that is kept, and renewed
  pgvalet get shop-read --field password               its password alone, for a GUI
  pgvalet get shop-read --format github                in a step of GitHub Actions
  pgvalet get shop-read --json | jq -r .credential.password

A password in a command line, as by psql \"$(pgvalet get shop-read)\", can be read by every user of
the machine: on a shared one use `pgvalet connect`, `pgvalet run` or --install.

credential-process and --field share one lease for the same profile, options, daemon and token. It
is kept in $XDG_CONFIG_HOME/pgvalet/leases, readable by you alone, and used again until a fifth of
its time is left (at least 30 seconds), then renewed, or replaced where it cannot last longer. At
most once a minute, or with --fresh, the daemon is asked whether it is still alive. Programs that
ask at once wait for each other.

With --install, the entry stands between two comments in ~/.pg_service.conf or ~/.pgpass (or the
files that PGSERVICEFILE and PGPASSFILE name), which must be readable by you alone. It is taken
out by `pgvalet revoke`, and by the first pgvalet command after the lease's end.";

/// What `pgvalet connect --help` ends with.
pub(crate) const CONNECT_EXAMPLES: &str = "\
Examples:
  pgvalet connect shop-read
  pgvalet connect shop-read --reason 'INC-42' -- -c 'table orders'

The password is handed to psql in its environment: it is never on disk or in a command line. The
lease is one of 5 minutes, or of --ttl, that is renewed until psql ends or the profile's max_ttl
is over; a terminal is told 5 minutes and 1 minute before that. The exit status is psql's.";

/// What `pgvalet run --help` ends with.
pub(crate) const RUN_EXAMPLES: &str = "\
Examples:
  pgvalet run shop-read -- python report.py
  pgvalet run shop-write --ttl 10m --ticket OPS-7 -- ./migrate.sh

The program sees PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD, PGOPTIONS, PGSSLMODE, PGAPPNAME
and PGVALET_LEASE_ID, and not your pgvalet token. The exit status is the program's; 128 + n if
signal n ended it.

The lease is one of 5 minutes, or of --ttl, that is renewed at half of its time until the
profile's max_ttl is over. SIGINT, SIGTERM, SIGHUP and SIGQUIT go to the program, and the lease is
revoked when it has ended. When whoever started `pgvalet run` is gone, the program is told to end
too (unless under nohup or setsid). What nothing can catch, SIGKILL or a power cut, leaves a lease
of that length.";

/// What to ask a lease for.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Wish {
    /// The profile.
    pub profile: String,
    /// For how long, such as `30m`. If left out, `get` asks for the profile's ttl, `connect` and `run` for 5
    /// minutes at a time.
    #[arg(long)]
    pub ttl: Option<String>,
    /// The tool that will use it: a label, shown in the role's name.
    #[arg(long)]
    pub tool: Option<String>,
    /// Why. Some profiles need it.
    #[arg(long)]
    pub reason: Option<String>,
    /// The ticket that it belongs to.
    #[arg(long)]
    pub ticket: Option<String>,
    /// From when it is wanted, such as `2026-12-24T08:00:00Z`, where others must agree first.
    #[arg(long, value_name = "INSTANT")]
    pub start: Option<DateTime<Utc>>,
    /// Wait until the others who must agree did. Without it the exit status is then 4, and
    /// `pgvalet claim` fetches the lease later.
    #[arg(long)]
    pub wait: bool,
}

/// How and where a credential is printed.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Form {
    /// How the credential is written.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Write it to this new file, readable by you alone, instead of standard output. A file that
    /// exists is not overwritten.
    #[arg(long, value_name = "FILE", conflicts_with = "install")]
    pub out: Option<PathBuf>,
    /// With the formats `pgservice` and `pgpass`: put it into libpq's own file until the lease ends, and
    /// print how to connect with it.
    #[arg(long)]
    pub install: bool,
}

/// `pgvalet get`.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// What to ask for.
    #[command(flatten)]
    pub wish: Wish,
    /// How it is printed.
    #[command(flatten)]
    pub form: Form,
    /// Print this part alone, of a lease that is kept as for `credential-process`. Without a newline when
    /// piped.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["format", "install", "idempotency_key"])]
    pub field: Option<Field>,
    /// Ask the daemon now whether the kept lease is still alive.
    #[arg(long)]
    pub fresh: bool,
    /// Asking twice with the same key makes one lease; the credential is handed out the first time
    /// only. A fresh key if left out.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// `pgvalet connect`.
#[derive(Debug, clap::Args)]
pub struct Connect {
    /// What to ask for.
    #[command(flatten)]
    pub wish: Wish,
    /// Arguments for psql.
    #[arg(last = true, value_name = "PSQL-ARGS")]
    pub psql: Vec<OsString>,
}

/// `pgvalet run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// What to ask for.
    #[command(flatten)]
    pub wish: Wish,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
