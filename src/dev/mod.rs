//! The playground: a private PostgreSQL with a demo shop, the daemon, demo profiles and a first
//! lease, until Ctrl-C or until a given program ends. All of it is the real thing: the daemon is the
//! one that `serve` runs, the lease is asked for over its API, the admin role is no superuser.

pub mod outside;
pub mod playground;
pub mod provider;
pub mod shop;
pub mod slack;

use std::{
    io::{self, Write},
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    api::leases::{AskForLease, ReceivedCredential, ReceivedIssued},
    cli::{
        child::{self, Manners},
        client::Client,
        daemon_arguments::Dev,
        format::Access,
    },
    dev::playground::{Playground, TENANTS},
};

/// The profile of the first lease.
const FIRST_PROFILE: &str = "shop-read";

/// Runs the playground. Gives the exit status: of the program if one was given.
///
/// # Errors
/// If a part of it cannot be started, or does not end well.
pub async fn run(given: Dev) -> anyhow::Result<u8> {
    let began = Instant::now();
    // Caught from here on, so that a Ctrl-C while starting does not leave anything behind.
    let mut signals = child::Signals::catch().context("could not listen for signals")?;
    let with_command = !given.command.is_empty();
    let playground = Playground::start(&given).await?;
    let outcome = match use_it(&playground, given, &mut signals, began).await {
        Err(e) if with_command => Err(e.context("could not run the program in a lease")),
        other => other,
    };
    let stopped = playground.stop().await;
    let code = outcome?;
    stopped?;
    Ok(code)
}

async fn use_it(
    playground: &Playground,
    given: Dev,
    signals: &mut child::Signals,
    began: Instant,
) -> anyhow::Result<u8> {
    let client = playground.client()?;
    let tool = if given.command.is_empty() { "psql" } else { "dev" };
    let issued = first_lease(&client, tool).await?;
    let credential =
        issued.credential.as_ref().context("the first lease came without its credential")?;
    let mut command = given.command.into_iter();
    let code = match command.next() {
        None => {
            say_what_to_try(playground, &issued, credential, began)?;
            playground.until_stopped(signals).await
        }
        Some(program) => {
            let mut child_command = tokio::process::Command::new(&program);
            child_command.args(command);
            let access = Access {
                credential,
                lease_id: issued.lease.id,
                profile: FIRST_PROFILE,
                expires_at: issued.lease.expires_at,
                root_certificate: None,
            };
            let mut child = child::start(child_command, &access.variables())
                .with_context(|| format!("could not run {}", program.display()))?;
            child::attend(&mut child, signals, Manners::Passing, async {}).await?
        }
    };
    // A kept playground would find the lease again, and a program's lease ends with the program.
    client.revoke(issued.lease.id).await?;
    Ok(code)
}

async fn first_lease(client: &Client, tool: &str) -> anyhow::Result<ReceivedIssued> {
    let wish = AskForLease {
        profile: FIRST_PROFILE.to_owned(),
        tool: Some(tool.to_owned()),
        reason: Some("first lease of the playground".to_owned()),
        ..AskForLease::default()
    };
    Ok(client.ask(&wish, &uuid::Uuid::now_v7().to_string()).await?.value)
}

fn say_who_signs_in(playground: &Playground, out: &mut dyn Write) -> io::Result<()> {
    let Some(provider) = playground.outside().provider() else { return Ok(()) };
    let (program, url, issuer) = (std::env::current_exe()?, playground.url(), provider.issuer());
    let program = program.display();
    writeln!(
        out,
        "\nAs a person of the identity provider (ada, gus, or mia, who administers), without tokens:\n"
    )?;
    writeln!(out, "  unset PGVALET_TOKEN_FILE; {program} login --url {url}")?;
    writeln!(out, "  {url}/   # in a browser")?;
    writeln!(
        out,
        "  {issuer}/   # where somebody leaves: their sessions and leases end within seconds"
    )
}

fn say_who_agrees(playground: &Playground, out: &mut dyn Write) -> io::Result<()> {
    let Some(slack) = playground.outside().slack() else { return Ok(()) };
    let program = std::env::current_exe()?;
    let page = slack.page();
    writeln!(out, "\nIn Slack, where others agree (a Slack of the playground's own):\n")?;
    writeln!(out, "  {page}?as=U0ADA   # as ada, write: shop-fix 15m because INC-123")?;
    writeln!(out, "  {page}?as=U0GUS   # as gus, in another window: Approve, or Deny")?;
    writeln!(
        out,
        "  {} claim acc_… -- psql   # as ada, signed in as above: the login",
        program.display()
    )?;
    writeln!(
        out,
        "\nThe first time, each is given a link: sign in as the same person, and say yes."
    )
}

fn say_what_to_try(
    playground: &Playground,
    issued: &ReceivedIssued,
    credential: &ReceivedCredential,
    began: Instant,
) -> io::Result<()> {
    let program = std::env::current_exe()?;
    let program = program.display();
    let url = playground.url();
    let token_file = playground.token_file().display().to_string();
    let mut out = io::stdout().lock();
    writeln!(out, "pgvalet playground: ready after {:.1} s\n", began.elapsed().as_secs_f64())?;
    writeln!(out, "  API          {url}        try it: {url}/docs/")?;
    writeln!(out, "  admin token  {token_file}")?;
    writeln!(
        out,
        "  PostgreSQL   127.0.0.1:{} (version {})",
        credential.port,
        playground.postgres_major()
    )?;
    writeln!(
        out,
        "  first lease  {} as {}, until {}",
        issued.lease.id,
        credential.user,
        credential.valid_until.format("%H:%M:%S UTC")
    )?;
    writeln!(
        out,
        "\nWork in it:\n\n  psql '{}' -c 'select count(*) from orders'",
        credential.uri.expose()
    )?;
    writeln!(out, "\nOr in another terminal:\n")?;
    writeln!(out, "  export PGVALET_URL={url} PGVALET_TOKEN_FILE={token_file}")?;
    for (line, what) in [
        ("connect shop-read", "psql in a lease of its own, revoked when you leave"),
        ("get acme-read --ttl 5s", "a lease that ends by itself: watch it go with `leases --all`"),
        ("run shop-write --reason 'try it' -- env", "a program with the lease's variables"),
        ("leases", "who has what"),
        ("audit tail", "what happened; `audit verify` checks the chain"),
        ("export", "targets and profiles as a file; `plan -f` and `apply -f` change them"),
    ] {
        writeln!(out, "  {program} {line:<42} # {what}")?;
    }
    writeln!(
        out,
        "\nAs somebody of one tenant, whom the profile tenant-read shows that one and no other:\n"
    )?;
    for (person, _, tenant) in TENANTS {
        let token = playground.token_file_of(person).display().to_string();
        let line = format!("PGVALET_TOKEN_FILE={token} {program} connect tenant-read");
        writeln!(out, "  {line}   # {person} of {tenant}")?;
    }
    say_who_signs_in(playground, &mut out)?;
    say_who_agrees(playground, &mut out)?;
    writeln!(out, "\nCtrl-C stops it{}.", playground.what_stays())?;
    out.flush()
}

/// A text as it may stand in a page of a simulator.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
