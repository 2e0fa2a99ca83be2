//! Requests that others must agree to: listed, shown, agreed to, denied, withdrawn, claimed.

use std::time::Duration;

use reqwest::StatusCode;

use crate::{
    api::{
        leases::{AskForLease, ReceivedIssued, Renewed},
        requests::{Approve as ApproveBody, Claim as ClaimBody, Deny as DenyBody, Request},
    },
    cli::{
        Globals, Io,
        access::{self, fresh_key},
        call::Call,
        client::{Answer, Client, parse},
        destination::Destination,
        failure::Failure,
        leases, lend,
        output::{self, ends_in, facts, instant, plain, watched},
        request_arguments::{Approve, Claim, Deny, Requests},
        session,
    },
    domain::request::{State, Verdict},
    ids::AccessRequestId,
};

/// How many are listed where nothing else is said: more than a person reads.
const LISTED: usize = 100;

/// How often it is asked whether somebody decided.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What was fetched of what others agreed to.
#[derive(Debug)]
pub enum Claimed {
    /// The lease.
    Issued(Box<Answer<ReceivedIssued>>),
    /// A lease that lasts longer.
    Renewed(Box<Answer<Renewed>>),
}

impl Client {
    /// One request that others must agree to.
    ///
    /// # Errors
    /// Also if there is none of that id.
    pub async fn access_request(&self, id: AccessRequestId) -> Result<Answer<Request>, Failure> {
        self.read(Call::get(&["v1", "requests", &id.to_string()])).await
    }

    /// Fetches what others agreed to. Not twice: the credential is handed out once.
    ///
    /// # Errors
    /// Also if it was not agreed to, or not this, or not any more.
    pub async fn claim(&self, id: AccessRequestId, claim: &ClaimBody) -> Result<Claimed, Failure> {
        let id = id.to_string();
        let raw = self.send(Call::post(&["v1", "requests", &id, "claim"], claim)?).await?;
        if raw.status == StatusCode::CREATED.as_u16() {
            return Ok(Claimed::Issued(Box::new(parse(raw)?)));
        }
        Ok(Claimed::Renewed(Box::new(parse(raw)?)))
    }
}

/// `pgvalet requests`.
///
/// # Errors
/// If the daemon is unavailable, or there is no such request.
pub async fn requests(given: Requests, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    if let Some(id) = given.id {
        let request = watched(io, "asking the daemon", client.access_request(id)).await?.value;
        return print(&request, globals, io).map(|()| 0);
    }
    let state = match (given.all || given.to_decide, &given.state) {
        (true, _) => None,
        (false, Some(state)) => Some(state.as_str()),
        (false, None) => Some("open"),
    };
    let filter = [
        ("state", state),
        ("profile", given.profile.as_deref()),
        ("own", given.own.then_some("true")),
        ("to_decide", given.to_decide.then_some("true")),
    ];
    let limit = given.limit.unwrap_or(LISTED);
    let items = watched(io, "asking the daemon", client.list("requests", &filter, limit)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let requests = output::read_items::<Request>(items)?;
    if requests.is_empty() {
        writeln!(io.err, "no requests")?;
        return Ok(0);
    }
    let rows = requests.iter().map(|request| {
        vec![
            request.id.to_string(),
            request.state.as_str().to_owned(),
            request.principal.clone(),
            request.profile.clone(),
            request.ttl.clone(),
            until(request, io),
            request.reason.clone().unwrap_or_default(),
        ]
    });
    let rows = rows.collect();
    let header = ["id", "state", "who", "profile", "for", "lapses in", "reason"];
    output::table(io, &header, rows)?;
    if requests.len() == limit && given.limit.is_none() {
        writeln!(io.err, "the {limit} newest: there may be more (--limit)")?;
    }
    Ok(0)
}

/// `pgvalet approve`.
///
/// # Errors
/// If the daemon is unavailable, or the request is not theirs to decide.
pub async fn approve(given: Approve, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let body = ApproveBody { ttl: given.ttl, comment: given.comment };
    let id = given.id.to_string();
    let asked = client.act::<Request, _>(["requests", &id, "approve"], &body);
    let request = watched(io, "agreeing", asked).await?.value;
    if globals.json {
        output::json(io, &request)?;
        return Ok(0);
    }
    match request.state {
        State::Pending => {
            let more = request.needs.in_words();
            writeln!(io.out, "{id} is agreed to by you; it needs more ({})", plain(&more))?;
        }
        _ => writeln!(
            io.out,
            "{id} is approved: {} may fetch {} for {}",
            plain(&request.principal),
            plain(&request.profile),
            request.ttl
        )?,
    }
    Ok(0)
}

/// `pgvalet deny`.
///
/// # Errors
/// If the daemon is unavailable, or the request is not theirs to decide.
pub async fn deny(given: Deny, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let id = given.id.to_string();
    let body = DenyBody { comment: given.comment };
    let asked = client.act::<Request, _>(["requests", &id, "deny"], &body);
    let request = watched(io, "denying", asked).await?.value;
    told(&request, globals, io)
}

/// `pgvalet withdraw`.
///
/// # Errors
/// If the daemon is unavailable, or it is somebody else's, or over.
pub async fn withdraw(
    id: AccessRequestId,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let id = id.to_string();
    let nothing = serde_json::json!({});
    let asked = client.act::<Request, _>(["requests", &id, "withdraw"], &nothing);
    let request = watched(io, "withdrawing", asked).await?.value;
    told(&request, globals, io)
}

/// `pgvalet claim`.
///
/// # Errors
/// If it was not agreed to, or the credential cannot be written; the lease is then revoked.
pub async fn claim(given: Claim, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let body = ClaimBody { ttl: given.ttl, ..ClaimBody::default() };
    if !given.command.is_empty() {
        return lend::run_claimed((given.id, body), given.command, globals, io).await;
    }
    let client = session::sign_in(globals, io)?;
    let destination = Destination::open(&given.form, globals, io)?;
    let asked = client.claim(given.id, &body);
    match watched(io, "waiting for the lease", asked).await? {
        Claimed::Issued(answer) => {
            access::hand_out_or_give_back(&answer, (&given.form, destination), &client, globals, io)
                .await
        }
        Claimed::Renewed(answer) => leases::told_renewed(&answer.value, globals, io),
    }
}

/// Waits until somebody decides, if that is wished; then fetches what they agreed to.
///
/// # Errors
/// [`Failure::Pending`] if it is not wished; what came of it, if that is not a lease.
pub(in crate::cli) async fn wait_for_decision(
    request: Request,
    wait: bool,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Answer<ReceivedIssued>, Failure> {
    if request.state == State::Approved {
        return fetch(request, client, io).await;
    }
    if !wait {
        return Err(Failure::Pending(Box::new(request)));
    }
    let (id, needs) = (request.id, plain(&request.needs.in_words()));
    writeln!(
        io.err,
        "request {id} waits for {needs} to agree, until {}",
        instant(request.lapse_at)
    )?;
    let decided = async {
        loop {
            let now = client.access_request(id).await?.value;
            if now.state != State::Pending {
                return Ok::<_, Failure>(now);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let now = watched(io, "waiting for somebody to agree", decided).await?;
    if now.state != State::Approved {
        return Err(Failure::NotSo(outcome(&now)));
    }
    fetch(now, client, io).await
}

/// Fetches what others agreed to, if it is time.
async fn fetch(
    now: Request,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Answer<ReceivedIssued>, Failure> {
    let id = now.id;
    if now.start_at.is_some_and(|start| start > io.clock.now()) {
        return Err(Failure::Pending(Box::new(now)));
    }
    claim_lease(id, &ClaimBody::default(), client, io).await
}

/// Fetches a lease that others agreed to.
///
/// # Errors
/// Also if what they agreed to is that a lease lasts longer.
pub(in crate::cli) async fn claim_lease(
    id: AccessRequestId,
    claim: &ClaimBody,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Answer<ReceivedIssued>, Failure> {
    match watched(io, "waiting for the lease", client.claim(id, claim)).await? {
        Claimed::Issued(answer) => Ok(*answer),
        Claimed::Renewed(_) => {
            Err(Failure::NotSo(format!("{id} made a lease last longer; there is none to use")))
        }
    }
}

/// Asks for a lease; waits for others to agree, if that is wished. What they agreed to when the same was asked
/// before is fetched.
///
/// # Errors
/// As each of the two.
pub(in crate::cli) async fn ask(
    wish: &AskForLease,
    (key, wait): (Option<String>, bool),
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Answer<ReceivedIssued>, Failure> {
    let key = key.unwrap_or_else(fresh_key);
    match watched(io, "waiting for the lease", client.ask(wish, &key)).await {
        Err(Failure::Pending(request)) => wait_for_decision(*request, wait, client, io).await,
        other => other,
    }
}

/// What became of a request, in a sentence.
fn outcome(request: &Request) -> String {
    let id = request.id;
    let denied = request.votes.iter().find(|vote| vote.verdict == Verdict::Denied);
    match (request.state, denied) {
        (State::Denied, Some(vote)) => {
            let why = vote.comment.as_deref().unwrap_or("without a word");
            format!("request {id} was denied by {}: {why}", vote.principal)
        }
        (state, _) => format!("request {id} is {}", state.as_str()),
    }
}

fn told(request: &Request, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    if globals.json {
        output::json(io, request)?;
    } else {
        writeln!(io.out, "{} is {}", request.id, request.state.as_str())?;
    }
    Ok(0)
}

/// When the time of an open one is over.
fn until(request: &Request, io: &Io<'_>) -> String {
    let at = match request.state {
        State::Pending => Some(request.lapse_at),
        State::Approved => request.use_by,
        _ => None,
    };
    at.map(|at| ends_in(at, io.clock.now())).unwrap_or_default()
}

fn print(request: &Request, globals: &Globals, io: &mut Io<'_>) -> Result<(), Failure> {
    if globals.json {
        return output::json(io, request);
    }
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let at = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(instant).unwrap_or_default();
    let mut lines = vec![
        ("id", request.id.to_string()),
        ("state", request.state.as_str().to_owned()),
        ("who", request.principal.clone()),
        ("profile", request.profile.clone()),
        ("target", format!("{} ({})", request.target, request.environment)),
        ("database", request.database.clone()),
        ("tool", request.tool.clone()),
        ("for", request.ttl.clone()),
        ("from", at(request.start_at)),
        ("lengthens", request.extends.map(|id| id.to_string()).unwrap_or_default()),
        ("reason", optional(&request.reason)),
        ("ticket", optional(&request.ticket)),
        ("must agree", request.needs.in_words()),
        ("asked", instant(request.created_at)),
        ("lapses", instant(request.lapse_at)),
        ("decided", at(request.decided_at)),
        ("use by", at(request.use_by)),
        ("lease", request.lease_id.map(|id| id.to_string()).unwrap_or_default()),
    ];
    for vote in &request.votes {
        let why = vote.comment.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        let (who, when, via) = (&vote.principal, instant(vote.at), vote.via.as_str());
        let void = vote.void_at.map_or_else(String::new, |since| {
            format!(" (counts no more: shut out at {})", instant(since))
        });
        lines.push((vote.verdict.as_str(), format!("{who} at {when} ({via}){why}{void}")));
    }
    Ok(facts(io, &lines)?)
}
