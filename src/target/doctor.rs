//! What our admin can and cannot do on a target: tried, in transactions that are rolled back, and
//! read from the catalogue where trying would change something. For each fault the SQL that mends it.

use sqlx::{Connection as _, FromRow, PgConnection};

use crate::{
    causes::causes,
    domain::{
        diagnosis::{Finding, Severity},
        role::{GRAVEYARD, LoginName},
        target::Way,
    },
    target::{
        Server, checklist,
        connect::{Connections, run},
        error::{self, Error, Meaning, Source},
        hardening,
        installed::{self, SCHEMA},
        observe::{self, Facts, Owns},
        sql::{self, Membership},
    },
};

const EXAMINE: &str = "try what its admin may do";

/// A role that a profile hands out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Its name.
    pub role: String,
    /// Must it be there already, or does pgvalet make it when the profile is prepared?
    pub is_given: bool,
}

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// The server.
    pub server: Server,
    /// How our admin acts there.
    pub way: Way,
    /// What was looked at.
    pub findings: Vec<Finding>,
}

/// Looks at everything. `trial` is the name of a login that is made, and never committed.
pub(crate) async fn examine(
    connections: &Connections,
    trial: &LoginName,
    groups: &[Group],
) -> Result<Examined, Error> {
    let mut connection = connections.to_cluster(None).await?;
    let facts = observe::facts(&mut connection).await?;
    let mut findings = about_the_server(&facts);
    findings.extend(about_the_admin(&mut connection, &facts).await?);
    if !facts.server.in_recovery {
        let mut tx = connection.begin().await.map_err(error::failed(EXAMINE))?;
        let tried = if facts.way.calls() {
            a_life_by_calls(&mut tx, &facts, trial, groups).await
        } else {
            a_life(&mut tx, &facts, trial, groups).await
        };
        tx.rollback().await.map_err(error::failed(EXAMINE))?;
        findings.extend(tried?);
    }
    for database in connections.databases() {
        match connections.to(database).await {
            Ok(mut connection) => {
                let found = hardening::about_a_database(&mut connection, &facts, database).await?;
                findings.extend(found.into_iter().map(|finding| finding.in_database(database)));
                findings.extend(checklist::about_a_database(&mut connection, database).await?);
            }
            Err(error) => {
                let mend = match &error {
                    Error::LacksRight { remedy, .. } => Some(remedy.clone()),
                    _ => None,
                };
                let found = Finding::bad("database", Severity::Broken, causes(&error), mend);
                findings.push(found.in_database(database));
            }
        }
    }
    findings
        .extend(hardening::about_other_databases(&mut connection, connections.databases()).await?);
    let roles: Vec<String> = groups.iter().map(|group| group.role.clone()).collect();
    findings
        .extend(checklist::about_the_server(connections, &mut connection, &facts, &roles).await?);
    Ok(Examined { server: facts.server, way: facts.way, findings })
}

fn about_the_server(facts: &Facts) -> Vec<Finding> {
    let version = facts.server.version_num;
    let (major, minor) = (version / 10_000, version % 10_000);
    let mut findings = vec![Finding::good("version", format!("PostgreSQL {major}.{minor}"))];
    if facts.server.in_recovery {
        findings.push(Finding::bad(
            "primary",
            Severity::Broken,
            "it is a standby, which takes no changes: point the target to the primary",
            None,
        ));
    }
    if facts.server.system_identifier.is_none() {
        let function = "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO";
        findings.push(Finding::bad(
            "cluster_identity",
            Severity::Risk,
            "the admin may not ask which cluster this is, so an address that leads somewhere else goes unnoticed",
            format!("{function} {}", sql::identifier(&facts.admin)),
        ));
    }
    findings
}

#[derive(FromRow)]
struct Powers {
    may_create_databases: bool,
    may_replicate: bool,
    bypasses_rls: bool,
    sees_all_sessions: bool,
    prepared_transactions: i32,
}

const POWERS: &str = "\
SELECT rolcreatedb AS may_create_databases, rolreplication AS may_replicate, rolbypassrls AS bypasses_rls,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all_sessions,
       current_setting('max_prepared_transactions')::int AS prepared_transactions
FROM pg_roles WHERE rolname = current_user";

async fn about_the_admin(
    connection: &mut PgConnection,
    facts: &Facts,
) -> Result<Vec<Finding>, Error> {
    let admin = sql::identifier(&facts.admin);
    let powers: Powers = sqlx::query_as(POWERS)
        .fetch_one(connection)
        .await
        .map_err(error::failed("say what its admin may do"))?;
    let mut findings = Vec::new();
    if facts.server.admin_is_superuser {
        findings.push(Finding::bad(
            "superuser",
            Severity::Risk,
            "the admin is a superuser, and need not be: let `pgvalet bootstrap-target` give it what it needs, then take this away",
            format!("ALTER ROLE {admin} NOSUPERUSER"),
        ));
    } else if !facts.grants_have_options() && facts.server.may_create_roles {
        findings.push(Finding::bad(
            "createrole",
            Severity::Note,
            "up to PostgreSQL 15, CREATEROLE is nearly a superuser's right: keep the admin's password and pg_hba.conf accordingly",
            None,
        ));
    }
    let beyond = [
        (powers.may_create_databases, "CREATEDB"),
        (powers.may_replicate, "REPLICATION"),
        (powers.bypasses_rls, "BYPASSRLS"),
    ];
    for (_, power) in beyond.into_iter().filter(|(has, _)| *has && !facts.server.admin_is_superuser)
    {
        findings.push(Finding::bad(
            "admin_attributes",
            Severity::Risk,
            format!("the admin has {power}, and needs it for nothing"),
            format!("ALTER ROLE {admin} NO{power}"),
        ));
    }
    let version = facts.server.version_num;
    findings.push(if facts.server.may_end_sessions {
        Finding::good("end_sessions", "the admin may end a login's sessions")
    } else {
        let mend = sql::let_admin_end_sessions(&facts.admin, version);
        Finding::bad(
            "end_sessions",
            Severity::Broken,
            "the admin may not end sessions, so no login is made",
            mend,
        )
    });
    findings.push(if powers.sees_all_sessions {
        Finding::good("see_sessions", "the admin sees who is signing in")
    } else {
        let mend = sql::let_admin_act_for("pg_read_all_stats", &facts.admin, version);
        Finding::bad(
            "see_sessions",
            Severity::Risk,
            "the admin does not see which processes are clients, so that a removal waits for the server's own, too",
            mend,
        )
    });
    if powers.prepared_transactions > 0 {
        findings.push(Finding::bad(
            "prepared_transactions",
            Severity::Note,
            "a login can leave a prepared transaction, which outlives its sessions",
            "ALTER SYSTEM SET max_prepared_transactions = 0; -- and restart the server".to_owned(),
        ));
    }
    Ok(findings)
}

/// Tries one statement; what it did, or that it was refused, stays inside the transaction.
async fn attempt(tx: &mut PgConnection, statement: &str) -> Result<Result<(), Source>, Error> {
    let failed = error::failed(EXAMINE);
    let tried = format!("SAVEPOINT attempt; {statement}");
    let Err(error) = run(tx, &tried).await else { return Ok(Ok(())) };
    match error::meaning_of(&error) {
        None | Some(Meaning::Away) => Err(failed(error)),
        Some(_) => {
            run(tx, "ROLLBACK TO SAVEPOINT attempt").await.map_err(failed)?;
            Ok(Err(error::source_of(error)))
        }
    }
}

/// A whole life of a login, from its making to its end.
async fn a_life(
    tx: &mut PgConnection,
    facts: &Facts,
    trial: &LoginName,
    groups: &[Group],
) -> Result<Vec<Finding>, Error> {
    let (name, admin) = (trial.as_str(), sql::identifier(&facts.admin));
    let version = facts.server.version_num;
    let role = sql::identifier(name);
    let make = format!("CREATE ROLE {role} LOGIN NOINHERIT CONNECTION LIMIT 1");
    if let Err(why) = attempt(tx, &make).await? {
        return Ok(vec![Finding::bad(
            "create_login",
            Severity::Broken,
            format!("the admin may not make a login: {why}"),
            format!("ALTER ROLE {admin} CREATEROLE"),
        )]);
    }
    let mut findings = vec![Finding::good("create_login", "the admin may make a login")];
    for group in groups {
        findings.push(a_group(tx, facts, name, group).await?);
    }
    let fence = sql::fence(name);
    findings.push(match attempt(tx, &fence).await? {
        Ok(()) => Finding::good("fence", "the admin may shut a login out"),
        Err(why) => Finding::bad(
            "fence",
            Severity::Broken,
            format!("the admin may not shut a login out: {why}"),
            format!("ALTER ROLE {admin} CREATEROLE"),
        ),
    });
    findings.push(giving_away(tx, facts, &role).await?);
    findings.push(match attempt(tx, &sql::drop_role(name)).await? {
        Ok(()) => Finding::good("drop", "the admin may drop a login"),
        Err(why) => Finding::bad(
            "drop",
            Severity::Broken,
            format!("the admin may not drop a login: {why}"),
            format!("ALTER ROLE {admin} CREATEROLE; -- PostgreSQL {}", version / 10_000),
        ),
    });
    Ok(findings)
}

/// The same through functions: one login in the first group that may be handed out.
async fn a_life_by_calls(
    tx: &mut PgConnection,
    facts: &Facts,
    trial: &LoginName,
    groups: &[Group],
) -> Result<Vec<Finding>, Error> {
    let mut findings = vec![about_the_functions(tx).await?];
    let mut handed_out = None;
    for group in groups {
        findings.push(match observe::role(tx, &group.role).await? {
            None if !group.is_given => {
                let found = format!("the group role `{}` is made when its profile is prepared", group.role);
                Finding::bad("group", Severity::Note, found, None)
            }
            _ => match attempt(tx, &format!("SELECT {SCHEMA}.check_group({})", sql::literal(&group.role))).await? {
                Ok(()) => {
                    handed_out = Some(&group.role);
                    Finding::good("group", format!("the functions hand out `{}`", group.role))
                }
                Err(why) => Finding::bad(
                    "group",
                    Severity::Broken,
                    format!("the functions do not hand out `{}`: {why}; run `pgvalet bootstrap-target` with --group", group.role),
                    None,
                ),
            },
        });
    }
    let Some(group) = handed_out else { return Ok(findings) };
    let (name, group) = (sql::literal(trial.as_str()), sql::literal(group));
    let issue = format!(
        "SELECT {SCHEMA}.issue(ARRAY[{name}], ARRAY[{group}], ARRAY[{}], ARRAY[clock_timestamp() + interval '1 minute'], ARRAY[1], ARRAY['pgvalet doctor'], ARRAY['{{}}'::jsonb])",
        sql::literal(NOBODYS_VERIFIER)
    );
    let way = facts.way;
    for (check, what, statement) in [
        ("create_login", "make a login", issue),
        ("fence", "shut a login out", way.fence(trial.as_str())),
        (
            "graveyard",
            "give away what a login owned",
            format!("SELECT {SCHEMA}.take_back({name}, NULL)"),
        ),
        ("drop", "drop a login", way.drop_role(trial.as_str())),
    ] {
        findings.push(match attempt(tx, &statement).await? {
            Ok(()) => Finding::good(check, format!("the functions {what}")),
            Err(why) => Finding::bad(
                check,
                Severity::Broken,
                format!("the functions do not {what}: {why}; run `pgvalet bootstrap-target` again"),
                None,
            ),
        });
    }
    Ok(findings)
}

/// Of a password that nobody has.
const NOBODYS_VERIFIER: &str = "SCRAM-SHA-256$4096:AAAAAAAAAAAAAAAAAAAAAA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Are they as new as this daemon?
async fn about_the_functions(tx: &mut PgConnection) -> Result<Finding, Error> {
    const CHECK: &str = "functions";
    let installed: i32 = sqlx::query_scalar("SELECT pgvalet_admin.version()")
        .fetch_one(tx)
        .await
        .map_err(error::failed("say which functions it has"))?;
    Ok(if installed == installed::VERSION {
        Finding::good(CHECK, format!("the functions are of version {installed}"))
    } else {
        Finding::bad(
            CHECK,
            Severity::Risk,
            format!(
                "the functions are of version {installed}, and this daemon's of {}: run `pgvalet bootstrap-target` again",
                installed::VERSION
            ),
            None,
        )
    })
}

async fn a_group(
    tx: &mut PgConnection,
    facts: &Facts,
    login: &str,
    group: &Group,
) -> Result<Finding, Error> {
    const CHECK: &str = "group";
    let name = &group.role;
    let version = facts.server.version_num;
    match observe::safe_group(tx, name, Owns::Nothing).await {
        Ok(Some(_)) => {}
        Ok(None) if group.is_given => {
            let found = format!("the group role `{name}` is not there, and its profile names it");
            let mend = sql::create_group(name);
            return Ok(Finding::bad(CHECK, Severity::Broken, found, mend));
        }
        Ok(None) => {
            let found = format!("the group role `{name}` is made when its profile is prepared");
            return Ok(Finding::bad(CHECK, Severity::Note, found, None));
        }
        Err(error @ Error::GroupUnsafe { .. }) => {
            return Ok(Finding::bad(CHECK, Severity::Broken, error.to_string(), None));
        }
        Err(error) => return Err(error),
    }
    let grant = sql::grant_membership(name, login, Membership::ToBecome, version);
    let granted = attempt(tx, &grant).await?;
    let is_member: bool = sqlx::query_scalar("SELECT pg_has_role($1, $2, 'MEMBER')")
        .bind(login)
        .bind(name)
        .fetch_one(tx)
        .await
        .map_err(error::failed(EXAMINE))?;
    if is_member {
        return Ok(Finding::good(CHECK, format!("the admin may hand out `{name}`")));
    }
    let why = granted.err().map_or_else(String::new, |why| format!(": {why}"));
    Ok(Finding::bad(
        CHECK,
        Severity::Broken,
        format!("the admin may not hand out `{name}`{why}"),
        sql::let_admin_grant(name, &facts.admin, version),
    ))
}

/// What a login owned goes to the graveyard. Without that, a login that came to own something is shut
/// out but stays.
async fn giving_away(tx: &mut PgConnection, facts: &Facts, role: &str) -> Result<Finding, Error> {
    const CHECK: &str = "graveyard";
    let admin = sql::identifier(&facts.admin);
    let graveyard = sql::identifier(GRAVEYARD);
    let (of_login, of_graveyard) = if facts.grants_have_options() {
        (" WITH INHERIT TRUE, SET FALSE", " WITH ADMIN FALSE, INHERIT TRUE, SET TRUE")
    } else {
        ("", "")
    };
    let give = format!("GRANT {graveyard} TO {admin}{of_graveyard}");
    if observe::role(tx, GRAVEYARD).await?.is_none() {
        let found = format!(
            "there is no role `{GRAVEYARD}` for what removed logins owned: a login that came to own something is shut out, and stays until somebody gives that away"
        );
        let mend = format!("{}; {give}", sql::create_group(GRAVEYARD));
        return Ok(Finding::bad(CHECK, Severity::Risk, found, mend));
    }
    let statements = format!(
        "GRANT {role} TO {admin}{of_login}; REASSIGN OWNED BY {role} TO {graveyard}; DROP OWNED BY {role}"
    );
    Ok(match attempt(tx, &statements).await? {
        Ok(()) => {
            Finding::good(CHECK, format!("the admin may give `{GRAVEYARD}` what a login owned"))
        }
        Err(why) => Finding::bad(
            CHECK,
            Severity::Risk,
            format!("the admin may not give `{GRAVEYARD}` what a login owned: {why}"),
            give,
        ),
    })
}
