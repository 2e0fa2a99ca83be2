//! The commands and their arguments: what `--help` shows. Those of administrators: `admin_arguments`.

use crate::{
    cli::{
        access_arguments::{self, Connect, Get, Run},
        admin_arguments::{
            self, AdoptFrom, ApplyFile, Audit, Drift, PlanFile, Profile, Rotate, Standing, Sweep,
            Target, Token, Top,
        },
        ci_arguments::Ci,
        daemon_arguments::{Bootstrap, Dev, Migrate, Serve},
        emergency_arguments::Emergency,
        hba::{self, Hba},
        identities::Identity,
        local_arguments::LocalCommand,
        login_arguments::{Login, Logout},
        notices::Notices,
        offboard::Offboard,
        people::People,
        profile_arguments::{self, Check, Explain, ExplainAccess},
        request_arguments::{self, Approve, Claim, Deny, Requests},
        review_arguments::Review,
        target_setup::{BootstrapTarget, Doctor},
    },
    ids::{AccessRequestId, LeaseId},
};

/// What `pgvalet --help` ends with.
pub(crate) const ROOT_EXAMPLES: &str = "\
Examples:
  pgvalet dev                                  try everything on this machine, until Ctrl-C
  pgvalet login --url https://pgvalet.example.org
  pgvalet connect shop-read                    psql in a lease; revoked on exit
  pgvalet run shop-read -- python report.py    any program in a lease
  pgvalet get shop-read --format jdbc          the connection string alone
  pgvalet leases                               what is live
  pgvalet revoke --person alice                and gone, with proofs

Environment:
  PGVALET_URL, PGVALET_TOKEN, PGVALET_TOKEN_FILE   win over what `pgvalet login` kept
  PGVALET_DAEMON                                   which of the daemons that `pgvalet login` kept
  PGVALET_OIDC=github                              in a job of GitHub Actions: ask its runner for the token
  PGVALET_AUDIENCE                                 for whom (the daemon's address, if left out)
  TRACEPARENT, TRACESTATE                          the trace that requests belong to (W3C Trace Context)

Exit status:
  0 done, 1 the thing asked for is not so, 2 usage, 3 denied, 4 waits for approval, 5 unavailable";

/// Every command.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The playground: a private PostgreSQL with a demo shop, the daemon, and a first lease
    #[command(after_help = "\
Examples:
  pgvalet dev                                  until Ctrl-C
  pgvalet dev -- psql -c 'select 1'            run one program in a demo lease, then stop
  pgvalet dev --data ./playground              keep the data for the next time
  pgvalet dev --with-idp                       with an identity provider: sign in as one of its people
  pgvalet dev --with-slack                     with a Slack: one window asks, another agrees")]
    Dev(Dev),
    /// Run the daemon
    #[command(after_help = "\
Examples:
  pgvalet serve --config /etc/pgvalet/pgvalet.toml
  pgvalet serve --config pgvalet.toml --check   say what is wrong with the settings, and stop")]
    Serve(Serve),
    /// Bring the state database up to date
    #[command(after_help = "\
Examples:
  pgvalet migrate --config /etc/pgvalet/pgvalet.toml")]
    Migrate(Migrate),
    /// Make the first administrator and print their token, once
    #[command(after_help = "\
Examples:
  pgvalet bootstrap --config /etc/pgvalet/pgvalet.toml > first-token
  pgvalet login --url http://127.0.0.1:8432 --token-file first-token")]
    Bootstrap(Bootstrap),
    /// Print, or run, the SQL that makes pgvalet's role on a target
    #[command(
        name = "bootstrap-target",
        after_help = "\
Examples:
  pgvalet bootstrap-target --server-version 16 --database orders --owner orders_owner > setup.sql
  pgvalet bootstrap-target --apply --as postgres://postgres@db1.internal/orders \\
      --database orders --owner orders_owner --generate-password > orders-admin.secret

It may run twice, and says of each statement what it is for."
    )]
    BootstrapTarget(BootstrapTarget),
    /// A command of the client.
    #[command(flatten)]
    Remote(RemoteCommand),
    /// A command of the client that asks no daemon.
    #[command(flatten)]
    Local(LocalCommand),
}

/// The commands that ask a daemon.
#[derive(Debug, clap::Subcommand)]
pub enum RemoteCommand {
    /// Sign in, and keep the session or the token for the commands to come
    #[command(after_help = "\
Examples:
  pgvalet login --url https://pgvalet.example.org                 says where to sign in, and waits
  pgvalet login --url https://pgvalet.example.org --token - < token
  pgvalet login --url https://pgvalet.example.org --token-file /run/secrets/pgvalet
  pgvalet login --as prod --url https://pgvalet.example.org       one of several: see `pgvalet daemons`

The daemon is the one that is asked from then on, unless another is named. The token is kept in $XDG_CONFIG_HOME/pgvalet/client.toml (~/.config if unset), readable by you alone.")]
    Login(Login),
    /// End the session, and forget what was kept (an API token stays valid: `pgvalet token revoke` ends it)
    #[command(
        after_help = "Examples:\n  pgvalet logout\n  pgvalet logout --daemon staging\n  pgvalet logout --everywhere                  all your sessions"
    )]
    Logout(Logout),
    /// Say who the daemon takes you for
    #[command(after_help = "Examples:\n  pgvalet whoami\n  pgvalet whoami --json")]
    Whoami,
    /// Get a lease and print its credential, alone, on standard output
    #[command(after_help = access_arguments::GET_EXAMPLES)]
    Get(Get),
    /// Get a lease and open psql in it, renewed while it is open; the lease is revoked on exit
    #[command(after_help = access_arguments::CONNECT_EXAMPLES)]
    Connect(Connect),
    /// Run a program with the PG* variables of a lease, renewed while it runs, revoked after
    #[command(after_help = access_arguments::RUN_EXAMPLES)]
    Run(Run),
    /// List requests that others must agree to, or show one with what was said
    #[command(visible_alias = "request", after_help = request_arguments::REQUESTS_EXAMPLES)]
    Requests(Requests),
    /// Agree to somebody else's request
    #[command(after_help = request_arguments::APPROVE_EXAMPLES)]
    Approve(Approve),
    /// Deny somebody's request, and say why
    #[command(after_help = "\
Examples:
  pgvalet deny acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --comment 'shop-read will do'")]
    Deny(Deny),
    /// Withdraw a request of yours, or give back what was agreed to and not fetched
    #[command(after_help = "Examples:\n  pgvalet withdraw acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5")]
    Withdraw {
        /// The request.
        id: AccessRequestId,
    },
    /// Fetch the lease that others agreed to
    #[command(after_help = request_arguments::CLAIM_EXAMPLES)]
    Claim(Claim),
    /// Access reviews: who can reach what, looked at again, kept, narrowed or removed
    #[command(visible_alias = "reviews")]
    Review(Review),
    /// List leases, or show one with its proof
    #[command(
        visible_alias = "lease",
        after_help = "\
Examples:
  pgvalet leases                               those that are live
  pgvalet leases --all --person alice --limit 200
  pgvalet lease lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5"
    )]
    Leases(Leases),
    /// Make a lease last longer, up to its profile's max_ttl
    #[command(after_help = "\
Examples:
  pgvalet renew lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --ttl 30m")]
    Renew(Renew),
    /// Give a lease a fresh login; the one before stops after a short grace
    #[command(after_help = "\
Examples:
  pgvalet rotate lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5 --format dotenv
  pgvalet rotate --due                         standing roles and admins' passwords that are due

With --due the exit status is 1 if something that is due could not be rotated.")]
    Rotate(Rotate),
    /// Revoke leases, wait until they are gone, and print the proofs
    #[command(after_help = "\
Examples:
  pgvalet revoke lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5
  pgvalet revoke --person alice --tool cursor
  pgvalet revoke --target orders-prod --no-wait

All the options given must hold for a lease to be revoked. Without --no-wait the exit status is 1 if
some are still being revoked after 30 seconds; the daemon never gives one up.")]
    Revoke(Revoke),
    /// Rules for CI jobs: explained for a token, written from one, listed, removed
    Ci(Ci),
    /// Make, list and revoke API tokens
    Token(Token),
    /// Say who signs in by which client certificate (mutual TLS)
    Identity(Identity),
    /// Look after people: list, show, disable, link to an identity provider
    #[command(visible_alias = "people")]
    Person(People),
    /// End all that a person has, on every target, and report what was seen to be gone
    #[command(after_help = "\
Examples:
  pgvalet offboard person:ann
  pgvalet offboard ann --format markdown > ann.md
  pgvalet offboard ann --no-wait --json

Their sign-in, sessions, tokens, certificates and codes are refused, their leases revoked, passwords of standing
roles that they were given replaced. A target that is down is named, and finished when it is back. The exit status
is 1 until all is proven; to run it again changes nothing. `pgvalet person enable` takes it back.")]
    Offboard(Offboard),
    /// Emergencies: look at what was done, close reviews; sealed codes for when nobody can sign in
    Emergency(Emergency),
    /// List, show and remove targets, renew admins' passwords (`pgvalet apply` makes and changes them)
    Target(Target),
    /// List, show and remove profiles (`pgvalet apply` makes and changes them)
    Profile(Profile),
    /// Say who may do what with a table or a column, and through which grant or policy
    #[command(after_help = "\
Examples:
  pgvalet explain shop-read sales.customers
  pgvalet explain shop-read sales.customers.email --json")]
    Explain(Explain),
    /// Say whether somebody would get a lease, and everything that is looked at
    #[command(name = "explain-access", after_help = profile_arguments::EXPLAIN_ACCESS_EXAMPLES)]
    ExplainAccess(ExplainAccess),
    /// Run the checks of a profile's file in real leases, rolled back
    #[command(after_help = "\
Examples:
  pgvalet check shop-read
  pgvalet check shop-read --junit checks.xml

For administrators. The exit status is 1 if a check fails.")]
    Check(Check),
    /// Look what pgvalet can and cannot do on a target, and what would mend it
    #[command(after_help = "\
Examples:
  pgvalet doctor                               all targets
  pgvalet doctor orders-prod --json
  pgvalet doctor orders-prod --fail-on risk    for CI

What it tries on the target it undoes. The exit status is 1 if something is broken, or as bad as
--fail-on says.")]
    Doctor(Doctor),
    /// Print the lines of pg_hba.conf that let a target's leased logins in, for review
    #[command(after_help = hba::EXAMPLES)]
    Hba(Hba),
    /// Standing roles: long-lived application logins, rotated on a schedule
    Standing(Standing),
    /// Show what a file of targets and profiles would change, with the SQL
    #[command(after_help = "\
Examples:
  pgvalet plan -f pgvalet-profiles.toml
  cat *.toml | pgvalet plan -f -")]
    Plan(PlanFile),
    /// Change targets and profiles to what a file says; a second time changes nothing
    #[command(after_help = "\
Examples:
  pgvalet apply -f profiles.toml               shows the plan and asks
  pgvalet apply -f profiles.toml --yes         for CI

Passwords that the file names, `{ file = \"…\" }` (from the file's own folder) or `{ env = \"…\" }`, are
read here and sent along; they are never part of the plan.")]
    Apply(ApplyFile),
    /// Print all targets and profiles as a file that `pgvalet apply` takes
    #[command(after_help = "Examples:\n  pgvalet export > profiles.toml")]
    Export,
    /// Write a first file of profiles from the grants that a database has already
    #[command(after_help = "\
Examples:
  pgvalet adopt shop shop > profiles.toml
  pgvalet adopt shop shop --role reporting

A profile for each role that holds something and cannot sign in; nobody may ask for it until you write who. Nothing
is changed: look at the file, and at `pgvalet plan -f`, first.")]
    Adopt(AdoptFrom),
    /// Compare targets with the record: orphans, lost leases, logins changed by hand
    #[command(after_help = admin_arguments::SWEEP_EXAMPLES)]
    Sweep(Sweep),
    /// See whether targets hold what profiles say, and mend what was changed by hand
    #[command(after_help = admin_arguments::DRIFT_EXAMPLES)]
    Drift(Drift),
    /// See what webhooks and people are told, and send it again
    #[command(after_help = "\
Examples:
  pgvalet notices                              the latest
  pgvalet notices --dead                       those that were given up, and why
  pgvalet notices replay --dead                send these again
  pgvalet notices test webhook:pager")]
    Notices(Notices),
    /// Read, export and verify the audit
    Audit(Audit),
    /// Watch it live: leases, rates, what waits, targets, the last events
    #[command(after_help = "\
Examples:
  pgvalet top                                  until q or Ctrl-C
  pgvalet top --interval 500ms
  pgvalet top --once                           one look, printed; as always when piped
  pgvalet top --json | jq .status.last_minute

For administrators. Rates are of the last minute, of all daemons; what waits is in the one that answers.")]
    Top(Top),
}

/// `pgvalet leases`.
#[derive(Debug, Default, clap::Args)]
pub struct Leases {
    /// Show this one.
    #[arg(conflicts_with_all = ["all", "state", "profile", "person", "tool", "target", "limit"])]
    pub id: Option<LeaseId>,
    /// Those that are over too.
    #[arg(long, conflicts_with = "state")]
    pub all: bool,
    /// Those in this state.
    #[arg(long, value_parser = ["provisioning", "active", "revoking", "revoked", "live"])]
    pub state: Option<String>,
    /// Those under this profile.
    #[arg(long)]
    pub profile: Option<String>,
    /// Those of this person or service (`person:alice`, or just `alice`).
    #[arg(long)]
    pub person: Option<String>,
    /// Those for this tool.
    #[arg(long)]
    pub tool: Option<String>,
    /// Those on this target.
    #[arg(long)]
    pub target: Option<String>,
    /// How many at most, newest first (100 if left out).
    #[arg(long)]
    pub limit: Option<usize>,
}

/// `pgvalet renew`.
#[derive(Debug, clap::Args)]
pub struct Renew {
    /// The lease.
    pub id: LeaseId,
    /// For how long from now, such as `30m`. The profile's ttl if left out.
    #[arg(long)]
    pub ttl: Option<String>,
}

/// `pgvalet revoke`.
#[derive(Debug, Default, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
pub struct Revoke {
    /// These leases.
    #[arg(group = "which", conflicts_with_all = ["person", "tool", "profile", "target"])]
    pub ids: Vec<LeaseId>,
    /// Leases of this person or service (`person:alice`, or just `alice`).
    #[arg(long, group = "which")]
    pub person: Option<String>,
    /// Leases for this tool.
    #[arg(long, group = "which")]
    pub tool: Option<String>,
    /// Leases under this profile.
    #[arg(long, group = "which")]
    pub profile: Option<String>,
    /// Leases on this target.
    #[arg(long, group = "which")]
    pub target: Option<String>,
    /// Wait until all are proven gone, 30 seconds at most. The default.
    #[arg(long, overrides_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the daemon has recorded it.
    #[arg(long, overrides_with = "wait")]
    pub no_wait: bool,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::Arguments;

    const REQUEST: &str = "acc_0190c5d3e1a27c41b1f5d0c2a1b3c4d5";
    const REVIEW: &str = "rvw_0190c5d3e1a27c41b1f5d0c2a1b3c4d5";
    const LEASE: &str = "lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5";

    /// Help is what people read first: a change of it is seen in review.
    #[test]
    fn the_help_of_every_command() {
        fn walk(command: &mut clap::Command, told: &mut String) {
            let help = command.clone().term_width(100).render_long_help();
            let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
            told.push_str(&format!("===== {name} =====\n{help}\n"));
            for inner in command.get_subcommands_mut() {
                walk(inner, told);
            }
        }
        let mut root = Arguments::command().disable_help_subcommand(true);
        root.build();
        root.clone().debug_assert();
        let mut told = String::new();
        walk(&mut root, &mut told);
        insta::assert_snapshot!(told);
    }

    #[test]
    fn command_lines_that_make_no_sense_are_refused() {
        for words in [
            &["login", "--token", "pgv_x"][..],
            &["login", "--token", "-", "--token-file", "f"],
            &["revoke"],
            &["revoke", "--wait"],
            &["revoke", LEASE, "--person", "alice"],
            &["revoke", "tok_0190c5d3e1a27c41b1f5d0c2a1b3c4d5"],
            &["run", "shop-read"],
            &["run", "shop-read", "ls"],
            &["leases", "--state", "gone"],
            &["leases", LEASE, "--all"],
            &["target", "show", ".."],
            &["audit", "verify", "--public-key", "00"],
            &["get", "shop-read", "--format", "yaml"],
            &["apply"],
            &["rotate"],
            &["rotate", LEASE, "--due"],
            &["deny", REQUEST],
            &["review", "decide", REVIEW, "--keep", "--reason", "x"],
            &["review", "decide", REVIEW, "--all", "--reason", "x"],
            &["review", "decide", REVIEW, "--all", "--keep", "--remove", "--reason", "x"],
            &["review", "decide", REVIEW, "--all", "--keep"],
            &["requests", "--own", "--to-decide"],
            &["claim", REQUEST, "--format", "uri", "--", "psql"],
            &["claim", LEASE],
            &["standing", "rotate"],
            &["standing", "rotate", "orders-api", "--due"],
        ] {
            let read = Arguments::try_parse_from(std::iter::once(&"pgvalet").chain(words));
            assert_eq!(read.unwrap_err().exit_code(), 2, "{words:?}");
        }
    }

    #[test]
    fn command_lines_that_make_sense_are_taken() {
        for words in [
            &["revoke", LEASE, LEASE, "--no-wait", "--json"][..],
            &["revoke", "--person", "alice", "--tool", "cursor"],
            &["lease", LEASE],
            &["connect", "shop-read", "--ttl", "5m", "--", "-c", "select 1"],
            &["run", "shop-read", "--", "sh", "-c", "exit 3"],
            &["dev", "--", "psql", "-c", "select 1"],
            &["serve", "--check"],
            &["rotate", "--due"],
            &["request", REQUEST],
            &["review", "decide", REVIEW, "--never-used", "--narrow", "15m", "--reason", "x"],
            &["claim", REQUEST, "--", "psql"],
            &["get", "shop-write", "--wait", "--start", "2026-12-24T08:00:00Z"],
            &["standing", "rotate", "--all"],
            &["standing", "get", "orders-api", "--format", "dotenv"],
            &["target", "rotate-admin", "shop"],
            &[
                "--url",
                "https://example.org",
                "token",
                "create",
                "ci",
                "--group",
                "a",
                "--group",
                "b",
            ],
        ] {
            let read = Arguments::try_parse_from(std::iter::once(&"pgvalet").chain(words));
            assert!(read.is_ok(), "{words:?}: {}", read.unwrap_err());
        }
    }
}
