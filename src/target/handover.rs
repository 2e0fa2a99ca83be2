//! Taking back what a login has in one database, in one transaction: what it owns goes to the graveyard
//! role, and everything else that names it loses it.
//!
//! Nothing is dropped but what is of the login alone: its default privileges, its passwords for
//! elsewhere (user mappings), and row policies for nobody else that cannot be handed over. Whatever runs
//! with its owner's rights is shut before it changes hands, because the graveyard owns what others left.

use sqlx::{Connection, FromRow, PgConnection, postgres::types::Oid};

use crate::{
    domain::{profile::OwnedObjects, role::GRAVEYARD},
    target::{
        connect::run,
        error::{self, Error, Meaning},
        owned::TAKE_BACK,
        prepared,
        remove::Removal,
        sql,
    },
};

/// More objects than this are handed over bit by bit: each takes a lock, and a server has room for some
/// thousands.
const MOST_AT_ONCE: usize = 500;

/// What was done in one database.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Objects that the graveyard has now.
    pub(crate) handed_over: Vec<String>,
    /// Grants that were taken back.
    pub(crate) grants: i64,
    /// What was of the login alone, and is gone.
    pub(crate) dropped: Vec<String>,
    /// What could not be taken back, and what to do.
    pub(crate) obstacles: Vec<String>,
    /// Did anything change?
    pub(crate) moved: bool,
}

/// Takes back what the login has in this database, and what all databases share.
pub(crate) async fn take_back(
    connection: &mut PgConnection,
    removal: &Removal<'_>,
    role: Oid,
) -> Result<Done, Error> {
    let mut tx = connection.begin().await.map_err(error::failed(TAKE_BACK))?;
    // Others work here: whoever waits behind us does not wait for long.
    run(&mut tx, "SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '30s'")
        .await
        .map_err(error::failed(TAKE_BACK))?;
    let before = dependencies(&mut tx, role).await?;
    let mut done = Done::default();
    hand_over_policies(&mut tx, role, &mut done).await?;
    let owned: Vec<&Dependency> = before.iter().filter(|found| found.is_owned()).collect();
    if !owned.is_empty() {
        hand_over(&mut tx, removal, role, &owned).await?;
    }
    let kept = dependencies(&mut tx, role).await?;
    let is_kept = |found: &&&Dependency| kept.iter().any(|kept| kept.is_owned() && kept.is(found));
    let handed_over = owned.iter().filter(|found| !is_kept(found));
    done.handed_over.extend(handed_over.map(|found| found.what.clone()));
    let prepared = prepared_here(&mut tx, removal).await?;
    // A prepared transaction may be committed at any moment, and bring things to light that DROP OWNED
    // would drop.
    if prepared.is_empty() && !kept.iter().any(Dependency::is_owned) {
        take_the_rest(&mut tx, removal, role, &kept, &mut done).await?;
    }
    let after = dependencies(&mut tx, role).await?;
    done.obstacles.extend(prepared);
    done.obstacles.extend(after.iter().map(|left| left.obstacle(removal.name())));
    done.moved = before.len() != after.len();
    let grants = |list: &[Dependency]| list.iter().filter(|found| found.kind == "a").count();
    let taken = grants(&before).saturating_sub(grants(&after));
    done.grants = i64::try_from(taken).unwrap_or(i64::MAX);
    tx.commit().await.map_err(error::failed(TAKE_BACK))?;
    Ok(done)
}

/// The login's own prepared transactions in this database.
async fn prepared_here(tx: &mut PgConnection, removal: &Removal<'_>) -> Result<Vec<String>, Error> {
    let database: String = sqlx::query_scalar("SELECT current_database()::text")
        .fetch_one(&mut *tx)
        .await
        .map_err(error::failed(TAKE_BACK))?;
    let all = prepared::of(tx, &[removal.name()]).await?;
    let here = all.iter().filter(|prepared| prepared.database == database);
    Ok(here.map(ToString::to_string).collect())
}

/// Something that names the login.
#[derive(Debug, Clone, FromRow)]
struct Dependency {
    /// `o` it owns it, `a` it has a grant on it, `r` a policy names it: `pg_shdepend.deptype`.
    kind: String,
    catalogue: String,
    class: Oid,
    object: Oid,
    part: i32,
    what: String,
    /// What `ALTER` calls it.
    noun: Option<String>,
    /// What `ALTER` finds it by.
    identity: Option<String>,
}

impl Dependency {
    /// Does the login own it, in the sense that somebody else could?
    fn is_owned(&self) -> bool {
        self.kind == "o" && !self.is_its_alone()
    }

    /// Its default privileges, and its passwords for elsewhere.
    fn is_its_alone(&self) -> bool {
        self.kind == "o" && ["pg_default_acl", "pg_user_mapping"].contains(&self.catalogue.as_str())
    }

    fn is(&self, other: &Self) -> bool {
        (self.class, self.object, self.part, &self.kind)
            == (other.class, other.object, other.part, &other.kind)
    }

    /// The statement that gives it to the graveyard.
    fn alter_owner(&self) -> Option<String> {
        let (noun, identity) = (self.noun.as_deref()?, self.identity.as_deref()?);
        Some(sql::alter_owner(noun, identity, GRAVEYARD))
    }

    /// What stands in the way, and what a superuser does about it.
    fn obstacle(&self, login: &str) -> String {
        let what = &self.what;
        match (self.kind.as_str(), self.alter_owner()) {
            ("o", Some(statement)) if !self.is_its_alone() => {
                format!("it owns {what}: let a superuser run `{statement}`")
            }
            ("o", _) => format!("it owns {what}: let a superuser give it away"),
            ("a", _) => format!(
                "it has grants on {what} that our admin cannot take back: let a superuser run `REVOKE` as who granted them, or `{}`",
                sql::drop_owned(login)
            ),
            _ => format!("{what} names it: let a superuser take it out"),
        }
    }
}

const DEPENDENCIES: &str = "\
SELECT s.deptype::text AS kind, s.classid::regclass::text AS catalogue, s.classid AS class, s.objid AS object,
       s.objsubid AS part, coalesce(pg_describe_object(s.classid, s.objid, s.objsubid), '') AS what,
       i.type AS noun, i.identity
FROM pg_shdepend s, pg_identify_object(s.classid, s.objid, s.objsubid) i
WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = $1
  AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
ORDER BY s.classid, s.objid, s.objsubid";

async fn dependencies(tx: &mut PgConnection, role: Oid) -> Result<Vec<Dependency>, Error> {
    sqlx::query_as(DEPENDENCIES).bind(role).fetch_all(tx).await.map_err(error::failed(TAKE_BACK))
}

/// Row policies go on without the login; one for it alone goes on for the graveyard, hence for nobody.
/// A policy never comes to cover anybody whom it did not cover.
const POLICIES: &str = "\
SELECT format('ALTER POLICY %I ON %s TO %s', p.polname, p.polrelid::regclass, coalesce(others.names, quote_ident($2))),
       CASE WHEN others.names IS NULL THEN pg_describe_object('pg_policy'::regclass, p.oid, 0) END
FROM pg_policy p CROSS JOIN LATERAL (
    SELECT string_agg(CASE WHEN named.oid = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', ') AS names
    FROM unnest(p.polroles) AS named (oid) LEFT JOIN pg_roles r ON r.oid = named.oid
    WHERE named.oid <> $1
) others
WHERE $1 = ANY (p.polroles)";

async fn hand_over_policies(
    tx: &mut PgConnection,
    role: Oid,
    done: &mut Done,
) -> Result<(), Error> {
    let policies: Vec<(String, Option<String>)> = sqlx::query_as(POLICIES)
        .bind(role)
        .bind(GRAVEYARD)
        .fetch_all(&mut *tx)
        .await
        .map_err(error::failed(TAKE_BACK))?;
    for (statement, of_its_own) in policies {
        match (attempt(tx, &statement).await?, of_its_own) {
            (true, Some(policy)) => done.handed_over.push(policy),
            (true, None) | (false, None) => {}
            // DROP OWNED drops it, whoever owns its table.
            (false, Some(policy)) => done.dropped.push(policy),
        }
    }
    Ok(())
}

/// What is done to objects before they change hands.
///
/// A routine runs as whoever calls it from now on, and neither everybody nor its owner may call it: an
/// index expression would have it run as its table's owner. Nobody but their owner reads through views,
/// or writes into tables with rules, which reach what their owner may.
const SHUT: &str = "\
SELECT format('ALTER ROUTINE %s SECURITY INVOKER', p.oid::regprocedure)
FROM pg_proc p WHERE p.proowner = $1 AND p.prosecdef
UNION ALL
SELECT format('REVOKE ALL ON ROUTINE %s FROM PUBLIC, %I CASCADE', p.oid::regprocedure, r.rolname)
FROM pg_proc p JOIN pg_roles r ON r.oid = p.proowner WHERE p.proowner = $1
UNION ALL
SELECT format('REVOKE ALL ON TABLE %s FROM %s CASCADE', c.oid::regclass, others.names)
FROM pg_class c CROSS JOIN LATERAL (
    SELECT string_agg(DISTINCT CASE WHEN e.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END, ', ') AS names
    FROM (SELECT c.relacl AS acl UNION ALL
          SELECT a.attacl FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attacl IS NOT NULL) granted
    CROSS JOIN LATERAL aclexplode(granted.acl) e LEFT JOIN pg_roles r ON r.oid = e.grantee
    WHERE e.grantee <> c.relowner
) others
WHERE c.relowner = $1 AND (c.relkind IN ('v', 'm') OR c.relhasrules) AND others.names IS NOT NULL";

/// What lets the group role go on with the data.
const SHARE: &str = "\
SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %I', c.oid::regclass, $2)
FROM pg_class c WHERE c.relowner = $1 AND c.relkind IN ('r', 'p', 'f') AND NOT c.relhasrules
UNION ALL
SELECT format('GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO %I', c.oid::regclass, $2)
FROM pg_class c WHERE c.relowner = $1 AND c.relkind = 'S'
UNION ALL
SELECT format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, $2) FROM pg_namespace n WHERE n.nspowner = $1
UNION ALL
SELECT format('GRANT SELECT, UPDATE ON LARGE OBJECT %s TO %I', l.oid, $2)
FROM pg_largeobject_metadata l WHERE l.lomowner = $1";

/// Where the new owner needs CREATE for as long as it takes to become one: the schemas of what is no
/// relation, and the database of a publication. (The role may have been given more: that stays.)
const PLACES: &str = "\
SELECT format('SCHEMA %I', n.nspname)
FROM pg_namespace n JOIN (
    SELECT pronamespace AS oid FROM pg_proc WHERE proowner = $1
    UNION SELECT collnamespace FROM pg_collation WHERE collowner = $1
    UNION SELECT connamespace FROM pg_conversion WHERE conowner = $1
    UNION SELECT oprnamespace FROM pg_operator WHERE oprowner = $1
    UNION SELECT opcnamespace FROM pg_opclass WHERE opcowner = $1
    UNION SELECT opfnamespace FROM pg_opfamily WHERE opfowner = $1
    UNION SELECT stxnamespace FROM pg_statistic_ext WHERE stxowner = $1
    UNION SELECT cfgnamespace FROM pg_ts_config WHERE cfgowner = $1
    UNION SELECT dictnamespace FROM pg_ts_dict WHERE dictowner = $1
) held ON held.oid = n.oid
WHERE NOT has_schema_privilege($2, n.oid, 'CREATE')
UNION ALL
SELECT format('DATABASE %I', current_database())
WHERE EXISTS (SELECT FROM pg_publication WHERE pubowner = $1)
  AND NOT has_database_privilege($2, current_database(), 'CREATE')";

async fn hand_over(
    tx: &mut PgConnection,
    removal: &Removal<'_>,
    role: Oid,
    owned: &[&Dependency],
) -> Result<(), Error> {
    let mut before = texts(tx, SHUT, role, None).await?;
    if removal.login.owned_objects == OwnedObjects::Group {
        before.extend(texts(tx, SHARE, role, Some(removal.login.group_role)).await?);
    }
    for statement in before {
        run(tx, &statement).await.map_err(error::failed(TAKE_BACK))?;
    }
    let mut opened = Vec::new();
    for place in texts(tx, PLACES, role, Some(GRAVEYARD)).await? {
        // Without the right to, PostgreSQL refuses or only warns: then the objects there stay.
        if attempt(tx, &sql::grant_create(&place, GRAVEYARD)).await? {
            opened.push(place);
        }
    }
    let at_once = owned.len() <= MOST_AT_ONCE
        && attempt(tx, &sql::reassign_owned(removal.name(), GRAVEYARD)).await?;
    if !at_once {
        // One that resists must not keep the others: each for itself, and what resists is named.
        for statement in owned.iter().take(MOST_AT_ONCE).filter_map(|found| found.alter_owner()) {
            attempt(tx, &statement).await?;
        }
    }
    for place in opened {
        run(tx, &sql::revoke_create(&place, GRAVEYARD)).await.map_err(error::failed(TAKE_BACK))?;
    }
    Ok(())
}

/// What the login was granted, and what is its alone. It owns nothing else here any more.
async fn take_the_rest(
    tx: &mut PgConnection,
    removal: &Removal<'_>,
    role: Oid,
    kept: &[Dependency],
    done: &mut Done,
) -> Result<(), Error> {
    let its_alone = kept.iter().filter(|found| found.is_its_alone());
    done.dropped.extend(its_alone.map(|found| found.what.clone()));
    run(tx, &sql::drop_owned(removal.name())).await.map_err(error::failed(TAKE_BACK))?;
    // It takes grants back in the name of one grantor for each object, and says nothing of the others.
    let entries: Vec<(String, String)> = sqlx::query_as(GRANTS)
        .bind(role)
        .fetch_all(&mut *tx)
        .await
        .map_err(error::failed(TAKE_BACK))?;
    for (what, grantor) in entries {
        attempt(tx, &sql::revoke_as(&grantor, &what, removal.name())).await?;
    }
    Ok(())
}

/// Each grant that the login has in this database or on what all share, with who granted it.
const GRANTS: &str = "\
WITH named AS (
    SELECT classid, objid, objsubid FROM pg_shdepend
    WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1 AND deptype = 'a'
      AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
), entry (what, acl) AS (
    SELECT format('TABLE %s', c.oid::regclass), c.relacl
    FROM named n JOIN pg_class c ON n.classid = 'pg_class'::regclass AND c.oid = n.objid AND n.objsubid = 0
    UNION ALL
    SELECT format('(%I) ON TABLE %s', a.attname, a.attrelid::regclass), a.attacl
    FROM named n JOIN pg_attribute a ON n.classid = 'pg_class'::regclass AND a.attrelid = n.objid
                                    AND a.attnum = n.objsubid AND n.objsubid > 0
    UNION ALL
    SELECT format('ROUTINE %s', p.oid::regprocedure), p.proacl
    FROM named n JOIN pg_proc p ON n.classid = 'pg_proc'::regclass AND p.oid = n.objid
    UNION ALL
    SELECT format('SCHEMA %I', s.nspname), s.nspacl
    FROM named n JOIN pg_namespace s ON n.classid = 'pg_namespace'::regclass AND s.oid = n.objid
    UNION ALL
    SELECT format('TYPE %s', t.oid::regtype), t.typacl
    FROM named n JOIN pg_type t ON n.classid = 'pg_type'::regclass AND t.oid = n.objid
    UNION ALL
    SELECT format('LANGUAGE %I', l.lanname), l.lanacl
    FROM named n JOIN pg_language l ON n.classid = 'pg_language'::regclass AND l.oid = n.objid
    UNION ALL
    SELECT format('FOREIGN DATA WRAPPER %I', f.fdwname), f.fdwacl
    FROM named n JOIN pg_foreign_data_wrapper f
         ON n.classid = 'pg_foreign_data_wrapper'::regclass AND f.oid = n.objid
    UNION ALL
    SELECT format('FOREIGN SERVER %I', f.srvname), f.srvacl
    FROM named n JOIN pg_foreign_server f ON n.classid = 'pg_foreign_server'::regclass AND f.oid = n.objid
    UNION ALL
    SELECT format('LARGE OBJECT %s', l.oid), l.lomacl
    FROM named n JOIN pg_largeobject_metadata l ON n.classid = 'pg_largeobject'::regclass AND l.oid = n.objid
    UNION ALL
    SELECT format('DATABASE %I', d.datname), d.datacl
    FROM named n JOIN pg_database d ON n.classid = 'pg_database'::regclass AND d.oid = n.objid
    UNION ALL
    SELECT format('TABLESPACE %I', t.spcname), t.spcacl
    FROM named n JOIN pg_tablespace t ON n.classid = 'pg_tablespace'::regclass AND t.oid = n.objid
)
SELECT DISTINCT CASE WHEN what LIKE '(%' THEN what ELSE 'ON ' || what END, g.rolname::text
FROM entry CROSS JOIN LATERAL aclexplode(entry.acl) e JOIN pg_roles g ON g.oid = e.grantor
WHERE e.grantee = $1";

/// Statements or parts of them, which the server has quoted.
async fn texts(
    tx: &mut PgConnection,
    query: &'static str,
    role: Oid,
    other: Option<&str>,
) -> Result<Vec<String>, Error> {
    let query = sqlx::query_scalar(query).bind(role);
    let query = match other {
        Some(other) => query.bind(other),
        None => query,
    };
    query.fetch_all(tx).await.map_err(error::failed(TAKE_BACK))
}

/// Runs statements that may not be allowed; false if they were not, and nothing of them is left.
async fn attempt(tx: &mut PgConnection, statements: &str) -> Result<bool, Error> {
    let mut inner = tx.begin().await.map_err(error::failed(TAKE_BACK))?;
    match run(&mut inner, statements).await {
        Ok(()) => {
            inner.commit().await.map_err(error::failed(TAKE_BACK))?;
            Ok(true)
        }
        Err(error) => {
            let refused = matches!(
                error::meaning_of(&error),
                Some(
                    Meaning::NotAllowed | Meaning::StillNeeded | Meaning::NotReady | Meaning::Other
                )
            );
            if !refused {
                return Err(error::failed(TAKE_BACK)(error));
            }
            inner.rollback().await.map_err(error::failed(TAKE_BACK))?;
            Ok(false)
        }
    }
}
