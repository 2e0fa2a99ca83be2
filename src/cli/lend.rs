//! Leases that are lent to a program for as long as it runs: `connect`, `run`.
//!
//! They are short, and renewed meanwhile: what cannot be caught, such as SIGKILL, leaves one behind for no
//! longer than that.

use std::{
    ffi::{OsStr, OsString},
    io::Write,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::process::Command;

use crate::{
    api::{
        leases::{AskForLease, Lease, ReceivedIssued, Renew},
        requests::Claim,
    },
    cli::{
        Globals, Io,
        access::{self, ask_for, give_back},
        access_arguments::{Connect, Run, Wish},
        child::{self, Manners, Signals},
        client::{Answer, Client},
        failure::Failure,
        output::{ends_in, instant},
        requests, session,
    },
    clock::Clock,
    domain::{lease::TtlRule, name::Name},
    ids::AccessRequestId,
};

/// For how long at a time, if nobody says. Long enough for a daemon that is started again meanwhile: renewing
/// begins at half of it.
const AT_A_TIME: &str = "5m";

/// How long before the end a terminal is told.
const NOTICES: [TimeDelta; 2] = [TimeDelta::minutes(5), TimeDelta::minutes(1)];

/// `pgvalet connect`.
///
/// # Errors
/// If there is no lease or no psql.
pub async fn connect(given: Connect, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    if !io.environment.finds_program("psql") {
        return Err(Failure::NotSo(
            "psql is not on the search path: install the PostgreSQL client, or use `pgvalet run` with another program".to_owned(),
        ));
    }
    let mut command = Command::new("psql");
    command.args(given.psql);
    let wait = given.wish.wait;
    let from = From::Asked(brief(given.wish, "psql"), wait);
    lend(from, command, Manners::Interactive, globals, io).await
}

/// `pgvalet run`.
///
/// # Errors
/// If there is no lease, or the program cannot be started.
pub async fn run(given: Run, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let (command, tool) = program(given.command)?;
    let wait = given.wish.wait;
    let from = From::Asked(brief(given.wish, &tool), wait);
    lend(from, command, Manners::Passing, globals, io).await
}

/// `pgvalet claim ID -- CMD`: in the lease that others agreed to, for as long as they did.
///
/// # Errors
/// If there is no lease, or the program cannot be started.
pub(in crate::cli) async fn run_claimed(
    (id, claim): (AccessRequestId, Claim),
    command: Vec<OsString>,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let (command, tool) = program(command)?;
    let manners = if tool == "psql" { Manners::Interactive } else { Manners::Passing };
    lend(From::Agreed(id, claim), command, manners, globals, io).await
}

/// A program with its arguments, and the tool that it is.
fn program(words: Vec<OsString>) -> Result<(Command, String), Failure> {
    let mut words = words.into_iter();
    let program = words.next().ok_or_else(|| Failure::Usage("a program is needed".to_owned()))?;
    let tool = tool_of(&program);
    let mut command = Command::new(program);
    command.args(words);
    Ok((command, tool))
}

/// Where a lease comes from.
enum From {
    /// It is asked for; and waited for, if others must agree and that is wished.
    Asked(AskForLease, bool),
    /// Others agreed to it.
    Agreed(AccessRequestId, Claim),
}

impl From {
    async fn lease(
        &self,
        client: &Client,
        io: &mut Io<'_>,
    ) -> Result<Answer<ReceivedIssued>, Failure> {
        match self {
            Self::Asked(wish, wait) => requests::ask(wish, (None, *wait), client, io).await,
            Self::Agreed(id, claim) => requests::claim_lease(*id, claim, client, io).await,
        }
    }

    /// How it is renewed. What others agreed to lasts as long as they did.
    fn renew(&self, issued: &ReceivedIssued) -> Option<Renew> {
        let agreed = issued.ttl.as_ref().is_some_and(|ttl| ttl.rule == TtlRule::Agreed);
        match self {
            Self::Asked(wish, _) if !agreed => Some(Renew { ttl: wish.ttl.clone() }),
            Self::Asked(..) | Self::Agreed(..) => None,
        }
    }
}

fn brief(wish: Wish, tool: &str) -> AskForLease {
    let ttl = wish.ttl.or_else(|| Some(AT_A_TIME.to_owned()));
    ask_for(Wish { ttl, ..wish }, tool)
}

/// A lease for as long as a program runs. Signals are caught from before it is asked for until after
/// it is revoked, so that none of them leaves it behind.
async fn lend(
    from: From,
    mut command: Command,
    manners: Manners,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let mut signals =
        Signals::catch_and_watch_the_parent().map_err(Failure::file("catch signals"))?;
    let answer = from.lease(&client, io).await?;
    let lease = &answer.value.lease;
    let outcome = match signals.came().await {
        Some(status) => Ok(status),
        None => {
            command.env("PGVALET_LEASE_ID", lease.id.to_string());
            let how = Attendance { client: &client, from: &from, manners };
            how.attend(&answer.value, command, &mut signals, io).await
        }
    };
    give_back(&client, lease, io).await;
    outcome
}

/// A program in its lease.
struct Attendance<'a> {
    client: &'a Client,
    from: &'a From,
    manners: Manners,
}

impl Attendance<'_> {
    async fn attend(
        &self,
        issued: &ReceivedIssued,
        command: Command,
        signals: &mut Signals,
        io: &mut Io<'_>,
    ) -> Result<u8, Failure> {
        let lease = &issued.lease;
        let credential = access::credential_of(issued)?;
        let certificate = access::root_certificate(credential, io)?;
        let variables = access::access(issued, credential, certificate.as_deref()).variables();
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let mut child = child::start(command, &variables)
            .map_err(|e| Failure::file(format!("start {program}"))(e))?;
        drop(variables);
        if io.terminals.err {
            access::tell(issued, io)?;
        }
        let renew = self.from.renew(issued);
        let (clock, is_told) = (io.clock, io.terminals.err);
        let beside = async {
            let ends = match renew {
                Some(renew) => {
                    keep_renewed(self.client, lease.clone(), renew, clock, &mut *io.err).await
                }
                None => lease.expires_at,
            };
            if is_told {
                tell_before(ends, clock, &mut *io.err).await;
            }
        };
        child::attend(&mut child, signals, self.manners, beside)
            .await
            .map_err(Failure::file(format!("wait for {program}")))
    }
}

/// Renews when half of the remaining time is over, until the lease cannot last longer; gives its end. A
/// daemon that is away is asked again; what is left is for that.
async fn keep_renewed(
    client: &Client,
    mut lease: Lease,
    renew: Renew,
    clock: Clock,
    err: &mut dyn Write,
) -> DateTime<Utc> {
    while lease.expires_at < lease.max_expires_at {
        let left = lease.expires_at - clock.now();
        wait_until(clock.now() + (left / 2).max(TimeDelta::seconds(1)), clock).await;
        match client.renew(lease.id, &renew).await {
            Ok(answer) if answer.value.lease.expires_at <= lease.expires_at => break,
            Ok(answer) => lease = answer.value.lease,
            Err(failure) if failure.is_passing() && clock.now() < lease.expires_at => {}
            Err(failure) => {
                let ends = instant(lease.expires_at);
                // The program goes on; it is told on its standard error, if that is still there.
                let _ = writeln!(err, "pgvalet: the lease is not renewed and ends at {ends}");
                let _ = failure.print(err);
                break;
            }
        }
    }
    lease.expires_at
}

/// In steps: a machine that slept looks at its clock again soon after it wakes.
async fn wait_until(at: DateTime<Utc>, clock: Clock) {
    while clock.now() < at {
        let step = (at - clock.now()).to_std().unwrap_or_default();
        tokio::time::sleep(step.min(Duration::from_secs(30))).await;
    }
}

/// Tells a terminal that the lease is about to end.
async fn tell_before(ends: DateTime<Utc>, clock: Clock, err: &mut dyn Write) {
    let mut notices = NOTICES.iter().map(|before| ends - *before).peekable();
    while let Some(at) = notices.next() {
        // Of those that are due already, the last one.
        if notices.peek().is_some_and(|next| *next <= clock.now()) {
            continue;
        }
        wait_until(at, clock).await;
        let left = ends_in(ends, clock.now());
        // On a line of its own, whatever the program has on the screen.
        let _ = writeln!(err, "\r\npgvalet: the lease ends in {left}, at {}\r", instant(ends));
    }
}

/// The program's name, if it can be a tool's.
fn tool_of(program: &OsStr) -> String {
    std::path::Path::new(program)
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase())
        .filter(|name| name.parse::<Name>().is_ok())
        .unwrap_or_else(|| access::PRINTED.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tool_is_the_program_if_it_can_be() {
        for (program, tool) in [
            ("/usr/bin/python3.12", "python3.12"),
            ("psql", "psql"),
            ("./My Script", access::PRINTED),
            ("./7z", access::PRINTED),
            ("..", access::PRINTED),
        ] {
            assert_eq!(tool_of(OsStr::new(program)), tool, "{program}");
        }
    }
}
