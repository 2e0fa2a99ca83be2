//! Targets and profiles: listed, shown, removed. They are made by `pgvalet apply`.

use crate::{
    api::admin::{AdminRotation, Profile as ProfileRecord, Target as TargetRecord},
    cli::{
        Globals, Io,
        admin_arguments::{Profile, RecordCommand, Target, TargetCommand},
        client::Client,
        failure::Failure,
        output::{self, facts, instant, plain, watched},
        session,
    },
    domain::{profile::Reason, review::Bound},
};

/// Records are listed all at once; this bounds a daemon that never stops.
const MOST: usize = 10_000;

/// `pgvalet target`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn target(given: Target, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let command = match given.command {
        TargetCommand::Record(command) => command,
        TargetCommand::RotateAdmin { name } => {
            let nothing = serde_json::json!({});
            let renewing = client.act(["targets", name.as_str(), "rotate-admin"], &nothing);
            let renewed: TargetRecord = watched(io, "renewing the password", renewing).await?.value;
            if globals.json {
                output::json(io, &renewed)?;
            } else {
                let admin = plain(&renewed.spec.admin_user);
                writeln!(io.err, "the password of {admin} on target {name} is renewed")?;
            }
            return Ok(0);
        }
    };
    match command {
        RecordCommand::List => {
            let Some(targets) = list::<TargetRecord>("targets", &client, globals, io).await? else {
                return Ok(0);
            };
            let rows = targets.iter().map(|TargetRecord { spec, .. }| {
                vec![
                    spec.name.to_string(),
                    spec.environment.clone(),
                    format!("{}:{}", spec.host, spec.port),
                    spec.sslmode.as_str().to_owned(),
                    spec.admin_user.clone(),
                    spec.databases.join(", "),
                ]
            });
            let header = ["name", "environment", "host", "sslmode", "admin", "databases"];
            let rows = rows.collect();
            output::table(io, &header, rows)?;
        }
        RecordCommand::Show { name } => {
            let asked = client.record::<TargetRecord>("targets", name.as_str());
            let found = watched(io, "asking the daemon", asked).await?.value;
            if globals.json {
                output::json(io, &found)?;
                return Ok(0);
            }
            let own = found.spec.sslrootcert_pem.is_some();
            let shown = if found.spec.sslcert_pem.is_some() { "shown" } else { "none" };
            let source = found.spec.admin_source.as_ref();
            let source = source.map_or_else(|| "kept, sealed".to_owned(), ToString::to_string);
            let at = |at: Option<_>, none: &str| at.map_or_else(|| none.to_owned(), instant);
            let AdminRotation { rotated_at, due_at, blocked_by, refused_at } = found.admin_rotation;
            let lines = [
                ("name", found.spec.name.to_string()),
                ("id", found.id.to_string()),
                ("version", found.version.to_string()),
                ("environment", found.spec.environment),
                ("host", found.spec.host),
                ("port", found.spec.port.to_string()),
                ("sslmode", found.spec.sslmode.as_str().to_owned()),
                ("authority", if own { "its own" } else { "well-known" }.to_owned()),
                ("client certificate", shown.to_owned()),
                ("admin", found.spec.admin_user),
                ("admin password from", source),
                ("databases", found.spec.databases.join(", ")),
                ("scram iterations", found.spec.scram_iterations.to_string()),
                ("admin password renewed", found.spec.rotate_admin.to_string()),
                ("last renewed", at(rotated_at, "never")),
                ("renewed next", at(due_at, "when asked for")),
                ("admin refused since", at(refused_at, "")),
                ("in the way", blocked_by.unwrap_or_default()),
            ];
            facts(io, &lines)?;
        }
        RecordCommand::Remove { name } => {
            watched(io, "removing", client.remove("targets", name.as_str())).await?;
            writeln!(io.err, "target {name} is removed")?;
        }
    }
    Ok(0)
}

/// `pgvalet profile`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn profile(given: Profile, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match given.command {
        RecordCommand::List => {
            let listed = list::<ProfileRecord>("profiles", &client, globals, io).await?;
            let Some(profiles) = listed else { return Ok(0) };
            let rows = profiles.iter().map(|ProfileRecord { spec, .. }| {
                vec![
                    spec.name.to_string(),
                    format!("{}/{}", spec.target, spec.database),
                    spec.preset.as_str().to_owned(),
                    format!("{} to {}", spec.ttl, spec.max_ttl),
                    spec.description.clone(),
                ]
            });
            let rows = rows.collect();
            output::table(io, &["name", "database", "rights", "ttl", "description"], rows)?;
        }
        RecordCommand::Show { name } => {
            let asked = client.record::<ProfileRecord>("profiles", name.as_str());
            let found = watched(io, "asking the daemon", asked).await?.value;
            if globals.json {
                output::json(io, &found)?;
            } else {
                show(found, io)?;
            }
        }
        RecordCommand::Remove { name } => {
            watched(io, "removing", client.remove("profiles", name.as_str())).await?;
            writeln!(io.err, "profile {name} is removed")?;
        }
    }
    Ok(0)
}

fn show(found: ProfileRecord, io: &mut Io<'_>) -> Result<(), Failure> {
    let ProfileRecord { id, version, prepared, failed_checks, bounds, effective_group_role, spec } =
        found;
    let bound = |bound: &Bound| match bound.max_ttl {
        Some(ttl) => format!("{}: at most {ttl}", bound.principal),
        None => format!("{}: removed", bound.principal),
    };
    let bounds: Vec<String> = bounds.iter().map(bound).collect();
    let settings: Vec<String> =
        spec.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let allow: Vec<String> = spec.allow.iter().map(ToString::to_string).collect();
    let reason = match spec.reason {
        Reason::Optional => "optional",
        Reason::Required => "required",
    };
    let lines = [
        ("name", spec.name.to_string()),
        ("id", id.to_string()),
        ("version", version.to_string()),
        ("prepared", if prepared { "yes" } else { "not yet on its target" }.to_owned()),
        ("failed checks", failed_checks.join(", ")),
        ("description", spec.description),
        ("target", spec.target.to_string()),
        ("database", spec.database),
        ("rights", spec.preset.as_str().to_owned()),
        ("schemas", spec.schemas.join(", ")),
        ("group role", effective_group_role),
        ("ttl", spec.ttl.to_string()),
        ("max ttl", spec.max_ttl.to_string()),
        ("connections", spec.connection_limit.to_string()),
        ("settings", settings.join(", ")),
        ("owned objects", spec.owned_objects.as_str().to_owned()),
        ("who may ask", if allow.is_empty() { "nobody".to_owned() } else { allow.join(", ") }),
        ("reason", reason.to_owned()),
        ("reviews", bounds.join(", ")),
    ];
    Ok(facts(io, &lines)?)
}

/// The records of a kind; none if they were printed as JSON.
pub(in crate::cli) async fn list<T: serde::de::DeserializeOwned>(
    kind: &str,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<Option<Vec<T>>, Failure> {
    let items = watched(io, "asking the daemon", client.list(kind, &[], MOST)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(None);
    }
    output::read_items(items).map(Some)
}
