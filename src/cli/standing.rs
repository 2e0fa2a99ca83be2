//! Standing roles: listed, shown, read, rotated, removed. They are made by `pgvalet apply`.

use chrono::{DateTime, Utc};

use crate::{
    api::{
        admin::Target,
        standing::{RotateStandingRole, StandingRole},
    },
    cli::{
        Globals, Io, access,
        admin_arguments::{Rotate, RotateStanding, Standing, StandingCommand},
        client::Client,
        failure::Failure,
        output::{self, facts, instant, plain, watched},
        records, session,
    },
    domain::name::Name,
};

/// The kind of record, in the API's words.
const KIND: &str = "standing-roles";

/// Lists are read whole; this bounds a daemon that never stops.
const MOST: usize = 10_000;

/// `pgvalet standing`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn standing(given: Standing, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match given.command {
        StandingCommand::List => {
            let listed = records::list::<StandingRole>(KIND, &client, globals, io).await?;
            let Some(roles) = listed else { return Ok(0) };
            let rows = roles.iter().map(|role| {
                vec![
                    role.spec.name.to_string(),
                    role.spec.profile.to_string(),
                    format!("{}/{}", role.target, role.database),
                    role.generation.to_string(),
                    or(role.rotated_at, "never"),
                    instant(role.due_at),
                    state(role).to_owned(),
                ]
            });
            let rows = rows.collect();
            let header = ["name", "profile", "database", "generation", "rotated", "next", "state"];
            output::table(io, &header, rows)?;
        }
        StandingCommand::Show { name } => {
            let asked = client.record::<StandingRole>(KIND, name.as_str());
            let found = watched(io, "asking the daemon", asked).await?.value;
            if globals.json {
                output::json(io, &found)?;
            } else {
                show(found, io)?;
            }
        }
        StandingCommand::Get { name, form } => {
            return Box::pin(access::standing(&name, &form, &client, globals, io)).await;
        }
        StandingCommand::Rotate(given) => {
            return Box::pin(rotate_roles(given, &client, globals, io)).await;
        }
        StandingCommand::Remove { name } => {
            watched(io, "removing", client.remove(KIND, name.as_str())).await?;
            writeln!(io.err, "standing role {name} is removed, and its logins end")?;
        }
    }
    Ok(0)
}

/// `pgvalet rotate`: a lease, or with `--due` standing roles and administrators' passwords.
///
/// # Errors
/// If the daemon is unavailable, or refuses to rotate the lease.
pub async fn rotate(given: Rotate, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    if let Some(id) = given.id {
        return access::rotate(id, &given.form, globals, io).await;
    }
    let client = session::sign_in(globals, io)?;
    let roles = all::<StandingRole>(KIND, &client, io).await?;
    let targets = all::<Target>("targets", &client, io).await?;
    let mut done = Done::default();
    let how = RotateStandingRole::default();
    for role in roles.into_iter().filter(|role| role.due) {
        done.rotate_role(&role.spec.name, &how, &client, io).await?;
    }
    let now = io.clock.now();
    let due = |target: &Target| target.admin_rotation.due_at.is_some_and(|due_at| due_at <= now);
    let nothing = serde_json::json!({});
    for target in targets.into_iter().filter(due) {
        let name = target.spec.name;
        let renewing =
            client.act::<Target, _>(["targets", name.as_str(), "rotate-admin"], &nothing);
        let outcome = watched(io, "renewing an admin's password", renewing).await.map(drop);
        done.note("admin of target", &name, outcome, io)?;
    }
    done.tell(globals, io)
}

async fn rotate_roles(
    given: RotateStanding,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let how = RotateStandingRole { now: given.now };
    if let Some(name) = given.name {
        let rotating = client.act([KIND, name.as_str(), "rotate"], &how);
        let role: StandingRole = watched(io, "rotating", rotating).await?.value;
        if globals.json {
            output::json(io, &role)?;
        } else {
            show(role, io)?;
        }
        return Ok(0);
    }
    let roles = all::<StandingRole>(KIND, client, io).await?;
    let mut done = Done::default();
    for role in roles.into_iter().filter(|role| given.all || role.due) {
        done.rotate_role(&role.spec.name, &how, client, io).await?;
    }
    done.tell(globals, io)
}

/// What was rotated, and what was not.
#[derive(Default, serde::Serialize)]
struct Done {
    rotated: Vec<String>,
    failed: Vec<String>,
}

impl Done {
    async fn rotate_role(
        &mut self,
        name: &Name,
        how: &RotateStandingRole,
        client: &Client,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        let rotating = client.act::<StandingRole, _>([KIND, name.as_str(), "rotate"], how);
        let outcome = watched(io, "rotating", rotating).await.map(drop);
        self.note("standing role", name, outcome, io)
    }

    /// A refusal is noted and the others go on; without a daemon there is nothing to go on with.
    fn note(
        &mut self,
        what: &str,
        name: &Name,
        outcome: Result<(), Failure>,
        io: &mut Io<'_>,
    ) -> Result<(), Failure> {
        let line = format!("{what} {name}");
        match outcome {
            Ok(()) => self.rotated.push(line),
            Err(failure @ Failure::Refused(_)) => {
                failure.print(&mut *io.err)?;
                self.failed.push(line);
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn tell(&self, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
        if globals.json {
            output::json(io, self)?;
        } else {
            for line in &self.rotated {
                writeln!(io.out, "rotated      {line}")?;
            }
            for line in &self.failed {
                writeln!(io.out, "not rotated  {line}")?;
            }
            if self.rotated.is_empty() && self.failed.is_empty() {
                writeln!(io.err, "nothing is due")?;
            }
        }
        Ok(u8::from(!self.failed.is_empty()))
    }
}

async fn all<T: serde::de::DeserializeOwned>(
    kind: &str,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Vec<T>, Failure> {
    let items = watched(io, "asking the daemon", client.list(kind, &[], MOST)).await?;
    output::read_items(items)
}

fn show(found: StandingRole, io: &mut Io<'_>) -> Result<(), Failure> {
    let now = state(&found).to_owned();
    let StandingRole { id, version, generation, target, database, spec, .. } = found;
    let allow: Vec<String> = spec.allow.iter().map(ToString::to_string).collect();
    let jitter = spec.jitter.map(|jitter| format!(", up to {jitter} later")).unwrap_or_default();
    let lines = [
        ("name", spec.name.to_string()),
        ("id", id.to_string()),
        ("version", version.to_string()),
        ("description", spec.description),
        ("profile", spec.profile.to_string()),
        ("target", target),
        ("database", database),
        ("rotated", format!("{}{jitter}", spec.rotate)),
        ("window", spec.window.to_string()),
        ("grace", spec.grace.to_string()),
        ("who may read", if allow.is_empty() { "nobody".to_owned() } else { allow.join(", ") }),
        ("state", now),
        ("generation", generation.to_string()),
        ("role", found.role.unwrap_or_default()),
        ("lease", found.lease_id.map(|id| id.to_string()).unwrap_or_default()),
        ("last rotated", or(found.rotated_at, "never")),
        ("rotated next", instant(found.due_at)),
        ("valid until", or(found.valid_until, "")),
        ("in the way", plain(&found.blocked_by.unwrap_or_default())),
    ];
    Ok(facts(io, &lines)?)
}

fn or(at: Option<DateTime<Utc>>, none: &str) -> String {
    at.map_or_else(|| none.to_owned(), instant)
}

const fn state(role: &StandingRole) -> &'static str {
    match role {
        StandingRole { overdue: true, .. } => "overdue",
        StandingRole { blocked_by: Some(_), .. } => "tried again",
        StandingRole { due: true, .. } => "due",
        StandingRole { .. } => "in time",
    }
}
