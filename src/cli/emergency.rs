//! Emergencies: opened with a sealed code, looked at, their reviews closed; and the codes.

use std::{fs, path::Path};

use crate::{
    api::{
        emergencies::{
            CloseEmergency, CodeSet, CodeSets, Emergency as Record, EmergencyDetail, MakeCodes,
            ReceivedCodes,
        },
        leases::ReceivedIssued,
    },
    cli::{
        Globals, Io, access, audit,
        call::Call,
        client::Client,
        destination::Destination,
        emergency_arguments::{
            CloseReview, Codes, Emergency, EmergencyCommand, ListEmergencies, OpenWithCode,
        },
        failure::Failure,
        output::{self, facts, instant, length, plain, watched},
        password, people, session,
    },
    domain::emergency::{State, Verdict},
    ids::LeaseId,
    secret::Secret,
};

/// `pgvalet emergency`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn emergency(
    given: Emergency,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    match given.command {
        EmergencyCommand::List(given) => list(given, globals, io).await,
        EmergencyCommand::Show { lease } => show(lease, globals, io).await,
        EmergencyCommand::Close(given) => close(given, globals, io).await,
        EmergencyCommand::Open(given) => Box::pin(open(given, globals, io)).await,
        EmergencyCommand::Codes(given) => codes(given, globals, io).await,
    }
}

async fn list(given: ListEmergencies, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let state = Some(given.state.as_str()).filter(|state| *state != "all");
    let filter = [("state", state)];
    let asked = client.list("emergencies", &filter, given.limit);
    let items = watched(io, "asking the daemon", asked).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let found = output::read_items::<Record>(items)?;
    if found.is_empty() {
        let none = state.map_or_else(String::new, |state| format!(" that is {state}"));
        writeln!(io.err, "no emergency{none}")?;
        return Ok(0);
    }
    let now = io.clock.now();
    let rows = found.iter().map(|one| {
        let review = match (&one.closed_by, one.verdict) {
            (Some(by), Some(verdict)) => format!("{} by {by}", verdict.as_str()),
            _ => one.state.as_str().to_owned(),
        };
        vec![
            one.lease_id.to_string(),
            review,
            one.principal.clone(),
            one.profile.clone(),
            format!("{} ago", length((now - one.opened_at).num_seconds())),
            one.reason.clone().unwrap_or_default(),
        ]
    });
    let header = ["lease", "review", "who", "profile", "opened", "reason"];
    let rows = rows.collect();
    output::table(io, &header, rows)?;
    Ok(0)
}

async fn show(lease: LeaseId, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let id = lease.to_string();
    let asked = client.record::<EmergencyDetail>("emergencies", &id);
    let found = watched(io, "asking the daemon", asked).await?.value;
    if globals.json {
        output::json(io, &found)?;
        return Ok(0);
    }
    let EmergencyDetail { emergency, logins, entries, .. } = found;
    tell(&emergency, io)?;
    for login in logins {
        let proof = login.proof.as_ref().map(output::proof).unwrap_or_default();
        writeln!(io.out, "login {}: {}  {proof}", plain(&login.role), login.state.as_str())?;
    }
    writeln!(io.out)?;
    for entry in &entries {
        let entry = serde_json::to_value(entry).map_err(Failure::Unreadable)?;
        writeln!(io.out, "{}", audit::entry_line(&entry))?;
    }
    if emergency.state == State::Open {
        writeln!(
            io.err,
            "what its logins ran stands in the target's log; somebody else closes it: pgvalet emergency close {lease} --verdict justified --comment …"
        )?;
    }
    Ok(0)
}

fn tell(one: &Record, io: &mut Io<'_>) -> Result<(), Failure> {
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let code = one.code.map(|number| format!("number {number}"));
    let lines = [
        ("lease", one.lease_id.to_string()),
        ("review", one.state.as_str().to_owned()),
        ("who", one.principal.clone()),
        ("profile", one.profile.clone()),
        ("target", format!("{}/{}", one.target, one.database)),
        ("reason", optional(&one.reason)),
        ("ticket", optional(&one.ticket)),
        ("sealed code", code.unwrap_or_default()),
        ("opened", instant(one.opened_at)),
        ("ends", instant(one.expires_at)),
        ("gone", one.ended_at.map(instant).unwrap_or_default()),
        ("verdict", one.verdict.map(Verdict::as_str).unwrap_or_default().to_owned()),
        ("comment", optional(&one.comment)),
        ("closed by", optional(&one.closed_by)),
        ("closed", one.closed_at.map(instant).unwrap_or_default()),
    ];
    Ok(facts(io, &lines)?)
}

async fn close(given: CloseReview, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let verdict = Verdict::from_text(&given.verdict)
        .ok_or_else(|| Failure::Usage(format!("`{}` is no verdict", given.verdict)))?;
    let review = CloseEmergency { verdict, comment: given.comment };
    let id = given.lease.to_string();
    let closing = client.act::<Record, _>(["emergencies", &id, "close"], &review);
    let closed = watched(io, "closing the review", closing).await?.value;
    if globals.json {
        output::json(io, &closed)?;
    } else {
        writeln!(io.err, "the review of {id} is closed: {}", verdict.as_str())?;
    }
    Ok(0)
}

/// What is sent to open an emergency; the code stands in no type that can be printed.
#[derive(serde::Serialize)]
struct Sent<'a> {
    person: &'a str,
    code: &'a str,
    profile: &'a str,
    ttl: Option<&'a str>,
    tool: &'a str,
    reason: &'a str,
    ticket: Option<&'a str>,
}

async fn open(given: OpenWithCode, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::nobody(globals, io)?;
    let destination = Destination::open(&given.form, globals, io)?;
    let code = read_code(given.code_file.as_deref(), io)?;
    let sent = Sent {
        person: &people::named(&given.person),
        code: code.expose(),
        profile: &given.profile,
        ttl: given.ttl.as_deref(),
        tool: given.tool.as_deref().unwrap_or(access::PRINTED),
        reason: &given.reason,
        ticket: given.ticket.as_deref(),
    };
    let call = Call::post(&["v1", "emergencies"], &sent)?;
    let answer = watched(io, "opening the emergency", client.read::<ReceivedIssued>(call)).await?;
    let written = access::hand_out(&answer, &given.form, destination, globals, io);
    if written.is_err() {
        // Without a sign-in it cannot be given back.
        let (id, ends) = (answer.value.lease.id, instant(answer.value.lease.expires_at));
        writeln!(io.err, "lease {id} ends at {ends}; the code is used up")?;
    }
    written
}

fn read_code(file: Option<&Path>, io: &mut Io<'_>) -> Result<Secret<String>, Failure> {
    match file {
        Some(path) if path == Path::new("-") => {
            session::read_secret(&mut *io.input, "code", "standard input")
        }
        Some(path) => {
            let what = path.display().to_string();
            let file = fs::File::open(path).map_err(Failure::file(format!("read {what}")))?;
            session::read_secret(file, "code", &what)
        }
        None if io.terminals.input && io.terminals.err => {
            password::read_unseen("Code: ", &mut *io.err)
        }
        None => Err(Failure::Usage(
            "there is no terminal to ask for the code on: use --code-file FILE, or --code-file -"
                .to_owned(),
        )),
    }
}

async fn codes(given: Codes, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let Some(person) = &given.person else { return list_codes(&client, globals, io).await };
    let person = people::named(person);
    if given.withdraw {
        let path = ["v1", "emergency-codes", &person];
        watched(io, "withdrawing", client.delete(&path)).await?;
        writeln!(io.err, "{person} has no sealed codes any more")?;
        return Ok(0);
    }
    let wish = MakeCodes {
        person: person.clone(),
        count: given.count,
        profiles: given.profiles,
        ttl: given.ttl,
    };
    let making = client.read::<ReceivedCodes>(Call::post(&["v1", "emergency-codes"], &wish)?);
    let answer = watched(io, "making the codes", making).await?;
    if globals.json {
        io.out.write_all(answer.body.expose())?;
        writeln!(io.out)?;
        return Ok(0);
    }
    let ReceivedCodes { set, codes, replaced } = &answer.value;
    let instead = match replaced {
        0 => String::new(),
        n => format!(" in place of {n}"),
    };
    let (count, ends) = (codes.len(), instant(set.ends_at));
    writeln!(
        io.err,
        "{count} codes for {person}{instead}, each good once, until {ends}; they are shown this once:"
    )?;
    for code in codes {
        writeln!(io.out, "{}", code.expose())?;
    }
    Ok(0)
}

async fn list_codes(client: &Client, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let asked = client.read::<CodeSets>(Call::get(&["v1", "emergency-codes"]));
    let sets = watched(io, "asking the daemon", asked).await?.value;
    if globals.json {
        output::json(io, &sets)?;
        return Ok(0);
    }
    let rows = sets.items.into_iter().map(|set: CodeSet| {
        let profiles =
            if set.profiles.is_empty() { "any".to_owned() } else { set.profiles.join(", ") };
        vec![
            set.principal,
            format!("{} of {}", set.left, set.made),
            profiles,
            set.made_by,
            instant(set.created_at),
            instant(set.ends_at),
        ]
    });
    let rows = rows.collect();
    output::table(io, &["who", "left", "for", "made by", "made", "end"], rows)?;
    Ok(0)
}
