//! What a profile asks of its database beside its own grants: rights that everybody has, taken away. And the
//! server's log, turned on for its leases where our admin may do that.

use sqlx::{FromRow, PgConnection};

use crate::{
    domain::{
        profile::ProfileSpec,
        rights::Hardening,
        role::{ADMIN_SCHEMA, SCHEMA},
    },
    target::{
        error::{self, Error},
        observe::Facts,
        rights::{
            Planned,
            difference::some_of,
            object::On,
            seen::PARAMETERS_HAVE_PRIVILEGES,
            statement::{self, Way, Whom},
        },
        sql::identifier,
    },
};

/// What everybody has by being anybody, with who could take it away. Only the owner's own grants: of others,
/// a REVOKE would take nothing.
const OPEN: &str = "\
SELECT what, schema, name, arguments, o.rolname::text AS owner, pg_has_role(o.oid, 'USAGE') AS is_ours
FROM (
    SELECT 'no-public-create' AS what, '' AS schema, n.nspname::text AS name, NULL AS arguments,
           CASE r.rolname WHEN 'pg_database_owner' THEN d.datdba ELSE r.oid END AS acts
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner JOIN pg_database d ON d.datname = current_database()
    WHERE n.nspname = 'public'
      AND EXISTS (SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner)))
                  WHERE grantee = 0 AND privilege_type = 'CREATE' AND grantor = n.nspowner)
  UNION ALL
    SELECT 'no-public-temp', '', datname::text, NULL, datdba FROM pg_database
    WHERE datname = current_database()
      AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))
                  WHERE grantee = 0 AND privilege_type = 'TEMPORARY' AND grantor = datdba)
  UNION ALL
    SELECT 'no-public-execute', n.nspname::text, p.proname::text, oidvectortypes(p.proargtypes), p.proowner
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE p.prosecdef AND p.provolatile = 'v' AND n.nspname <> ALL ($2)
      AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner)))
                  WHERE grantee = 0 AND privilege_type = 'EXECUTE' AND grantor = p.proowner)
) open
JOIN pg_roles o ON o.oid = open.acts
WHERE what = ANY ($1)
ORDER BY what, schema, name, arguments";

#[derive(FromRow)]
struct Open {
    what: String,
    schema: String,
    name: String,
    arguments: Option<String>,
    owner: String,
    is_ours: bool,
}

impl Open {
    /// What it is on, quoted, and what is taken.
    fn taken(&self) -> (On, String, &'static str) {
        let name = identifier(&self.name);
        match (Hardening::from_text(&self.what), &self.arguments) {
            (_, Some(arguments)) => {
                let routine = format!("{}.{name}({arguments})", identifier(&self.schema));
                (On::Routine, routine, "EXECUTE")
            }
            (Some(Hardening::NoPublicTemp), None) => (On::Database, name, "TEMPORARY"),
            (_, None) => (On::Schema, name, "CREATE"),
        }
    }
}

/// What everybody loses.
pub(crate) async fn difference(
    tx: &mut PgConnection,
    spec: &ProfileSpec,
) -> Result<Planned, Error> {
    let mut planned = Planned::default();
    if spec.rights.harden.is_empty() {
        return Ok(planned);
    }
    let words: Vec<&str> = spec.rights.harden.iter().map(|word| word.as_str()).collect();
    let open: Vec<Open> = sqlx::query_as(OPEN)
        .bind(words)
        .bind(["pg_catalog", SCHEMA, ADMIN_SCHEMA].as_slice())
        .fetch_all(tx)
        .await
        .map_err(error::failed("look up what everybody may do"))?;
    for open in open {
        let (on, name, privilege) = open.taken();
        let statement = statement::privileges(Way::Take, privilege, (on, &[name]), Whom::Everybody);
        if open.is_ours {
            planned.statements.push(statement);
        } else {
            planned.notes.push(format!(
                "not hardened, because our admin may not act for the owner `{}`: let a superuser run `{statement}`",
                open.owner
            ));
        }
    }
    Ok(planned)
}

/// Which of the settings of the server's log may our admin give to logins? The others are left out, and
/// told.
pub(crate) async fn settable(
    tx: &mut PgConnection,
    facts: &Facts,
    spec: &ProfileSpec,
) -> Result<Planned, Error> {
    let wanted: Vec<String> = spec.rights.log.keys().cloned().collect();
    let settable = if wanted.is_empty() || facts.way.calls() {
        Vec::new()
    } else if facts.server.admin_is_superuser {
        wanted.clone()
    } else if facts.server.version_num < PARAMETERS_HAVE_PRIVILEGES {
        Vec::new()
    } else {
        const MAY: &str = "SELECT name FROM unnest($1::text[]) AS name WHERE has_parameter_privilege(name, 'SET') ORDER BY 1";
        sqlx::query_scalar(MAY)
            .bind(&wanted)
            .fetch_all(tx)
            .await
            .map_err(error::failed("look up which settings may be given"))?
    };
    let left_out: Vec<String> =
        wanted.into_iter().filter(|name| !settable.contains(name)).collect();
    let mut planned = Planned { settable, ..Planned::default() };
    if !left_out.is_empty() {
        let names = some_of(&left_out);
        let parameters = left_out
            .iter()
            .map(|name| name.split('.').map(identifier).collect::<Vec<_>>().join("."));
        let parameters: Vec<String> = parameters.collect();
        let remedy = if facts.way.calls() {
            "only where pgvalet's role makes logins itself can they be given".to_owned()
        } else if facts.server.version_num < PARAMETERS_HAVE_PRIVILEGES {
            "before PostgreSQL 15 only superusers may; set them for the whole database".to_owned()
        } else {
            format!(
                "let a superuser run `GRANT SET ON PARAMETER {} TO {}`, and prepare again",
                parameters.join(", "),
                identifier(&facts.admin)
            )
        };
        planned.notes.push(format!("not logged, because our admin may not set {names}: {remedy}"));
    }
    Ok(planned)
}
