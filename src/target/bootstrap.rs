//! What a superuser (or a managed service's administrator) runs once, so that pgvalet has a role to
//! manage logins with: the least rights, statement by statement, each with what it is for.
//!
//! Every statement may run twice. `deploy/bootstrap-target.sql` is what this file writes.

use std::time::Duration;

use crate::{
    domain::{role::GRAVEYARD, target::Way},
    target::{installed, scram::Verifier, sql},
};

/// What is to be set up.
#[derive(Debug)]
pub struct Setup {
    /// The server's version: 150004 is 15.4.
    pub version: i32,
    /// The role that pgvalet is to sign in as.
    pub admin: String,
    /// Its password's verifier. None leaves the password as it is.
    pub verifier: Option<Verifier>,
    /// How it is to act.
    pub way: Way,
    /// Databases that profiles name.
    pub databases: Vec<String>,
    /// Roles that are there, to be handed out.
    pub groups: Vec<String>,
    /// Owners of what profiles grant.
    pub owners: Vec<String>,
    /// What is to be taken from everybody.
    pub harden: Vec<Harden>,
    /// What functions may do at most; nothing where the admin acts itself.
    pub bounds: Bounds,
}

/// What the functions may do at most.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// From a login's making to its last end, renewals included.
    pub longest_life: Duration,
    /// Sessions at once, for one login.
    pub most_connections: u32,
    /// Settings that a login may be given.
    pub settings: Vec<String>,
}

impl Bounds {
    /// What profiles need most: all of them can be set by any session anyway.
    pub const USUAL_SETTINGS: [&'static str; 10] = [
        "application_name",
        "default_transaction_read_only",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "lock_timeout",
        "search_path",
        "statement_timeout",
        "timezone",
        "transaction_timeout",
        "work_mem",
    ];
}

/// What can be taken from everybody, and so from leased logins, which have nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harden {
    /// CREATE in schema `public`, which everybody has up to 14.
    Schema,
    /// Temporary tables.
    Temporary,
    /// CONNECT to the databases named: logins are then let in one by one.
    Connect,
    /// CONNECT to the databases that every cluster has besides.
    OtherDatabases,
}

impl Harden {
    /// All of them, with the words that choose them.
    pub const ALL: [(&'static str, Self); 4] = [
        ("schema", Self::Schema),
        ("temporary", Self::Temporary),
        ("connect", Self::Connect),
        ("other-databases", Self::OtherDatabases),
    ];
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it runs; none where any database of the cluster does.
    pub database: Option<String>,
    /// What it is for.
    pub why: String,
    /// The statements, each with its semicolon.
    pub sql: String,
    /// False for what is only recommended.
    pub is_chosen: bool,
}

/// It cannot be set up so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unsuitable(String);

/// All steps, in order.
///
/// # Errors
/// If the server is too old for it.
pub fn steps(setup: &Setup) -> Result<Vec<Step>, Unsuitable> {
    if setup.version < sql::OLDEST {
        let major = setup.version / 10_000;
        return Err(Unsuitable(format!(
            "PostgreSQL {major} is too old: 13 is the oldest that pgvalet manages"
        )));
    }
    if setup.way == Way::Shards && setup.version < sql::GRANTS_HAVE_OPTIONS {
        return Err(Unsuitable(
            "shards are for PostgreSQL 16 and later: before, the direct way does not slow down with live logins".to_owned(),
        ));
    }
    let mut plan = Plan { setup, steps: Vec::new() };
    plan.admin();
    plan.rights();
    if setup.way == Way::Shards {
        plan.shards();
    }
    for database in &setup.databases {
        plan.database(database);
    }
    if setup.way == Way::Functions {
        plan.adopt();
    }
    plan.harden();
    Ok(plan.steps)
}

struct Plan<'a> {
    setup: &'a Setup,
    steps: Vec<Step>,
}

impl Plan<'_> {
    fn add(&mut self, why: &str, statements: &[String]) {
        self.push(None, why, statements, true);
    }

    fn push(&mut self, database: Option<&str>, why: &str, statements: &[String], is_chosen: bool) {
        let mut sql = String::new();
        for statement in statements {
            sql.push_str(statement.trim_end().trim_end_matches(';'));
            sql.push_str(";\n");
        }
        self.steps.push(Step {
            database: database.map(str::to_owned),
            why: why.to_owned(),
            sql,
            is_chosen,
        });
    }

    fn admin(&mut self) {
        let admin = sql::identifier(&self.setup.admin);
        let create_role = if self.acts_itself() { "CREATEROLE" } else { "NOCREATEROLE" };
        self.add(
            "The role that pgvalet signs in as. INHERIT: up to 15 it decides whether granting as an owner and ending sessions work.",
            &[
                create_missing(&self.setup.admin, ""),
                format!("ALTER ROLE {admin} LOGIN INHERIT {create_role} CONNECTION LIMIT 32"),
            ],
        );
        self.add(
            "Names mean what they say, and a lock that somebody holds does not stop everything else.",
            &[
                format!("ALTER ROLE {admin} SET search_path = pg_catalog, pg_temp"),
                format!("ALTER ROLE {admin} SET lock_timeout = '10s'"),
            ],
        );
        if let Some(verifier) = &self.setup.verifier {
            let set = format!("ALTER ROLE {admin} PASSWORD {}", sql::literal(verifier.text()));
            self.add("Its password, as a SCRAM verifier: the password itself is not sent.", &[set]);
        }
    }

    /// Has the role's rights, cannot become it, cannot pass it on.
    fn act_for(&self, role: &str) -> String {
        sql::let_admin_act_for(role, &self.setup.admin, self.setup.version)
    }

    fn grants_have_options(&self) -> bool {
        self.setup.version >= sql::GRANTS_HAVE_OPTIONS
    }

    /// Or does it only call functions?
    fn acts_itself(&self) -> bool {
        self.setup.way == Way::Direct
    }

    fn rights(&mut self) {
        let setup = self.setup;
        if self.acts_itself() {
            self.rights_to_act();
        } else {
            self.add(
                "To tell a client that is just signing in from the server's own processes, which a removal need not wait for.",
                &[self.act_for("pg_read_all_stats")],
            );
            self.add(
                "What a removed login owned is given to this role, which can do nothing.",
                &[create_missing(GRAVEYARD, " NOLOGIN NOINHERIT")],
            );
        }
        if !setup.owners.is_empty() {
            let grants: Vec<_> = setup.owners.iter().map(|owner| self.act_for(owner)).collect();
            self.add(
                "To grant on what these own, as they would, now and for what they make later. From 16 on it cannot become them; their rights it has.",
                &grants,
            );
        }
        if !setup.groups.is_empty() && self.acts_itself() && self.grants_have_options() {
            let grant = |group: &String| sql::let_admin_grant(group, &setup.admin, setup.version);
            let grants: Vec<_> = setup.groups.iter().map(grant).collect();
            self.add(
                "To hand out roles that were there before. It has nothing of them itself.",
                &grants,
            );
        }
    }

    /// What the admin needs besides where it acts itself.
    fn rights_to_act(&mut self) {
        let admin = sql::identifier(&self.setup.admin);
        self.add(
            "To end the sessions of a login that is revoked, and to tell a client that is just signing in from the server's own processes, which a removal need not wait for.",
            &[self.act_for("pg_signal_backend"), self.act_for("pg_read_all_stats")],
        );
        let options = if self.grants_have_options() {
            " WITH ADMIN FALSE, INHERIT TRUE, SET TRUE"
        } else {
            ""
        };
        self.add(
            "What a removed login owned is given to this role, which can do nothing. The admin must be able to become it to give it something.",
            &[
                create_missing(GRAVEYARD, " NOLOGIN NOINHERIT"),
                format!("GRANT {} TO {admin}{options}", sql::identifier(GRAVEYARD)),
            ],
        );
    }

    /// The roles that make logins for the admin, which may not.
    fn shards(&mut self) {
        let setup = self.setup;
        let mut statements = vec![
            create_missing(installed::SHARDS, " NOLOGIN"),
            sql::let_admin_act_for("pg_signal_backend", installed::SHARDS, setup.version),
            format!(
                "GRANT {} TO {} WITH ADMIN FALSE, INHERIT TRUE, SET TRUE",
                sql::identifier(GRAVEYARD),
                sql::identifier(installed::SHARDS)
            ),
        ];
        let grant = |group: &String| sql::let_admin_grant(group, installed::SHARDS, setup.version);
        statements.extend(setup.groups.iter().map(grant));
        self.add(
            "What the roles have in common that make, shut out and drop logins: they end sessions, give what a login owned away, and hand out the groups, of which they have nothing themselves.",
            &statements,
        );
    }

    fn database(&mut self, database: &str) {
        let setup = self.setup;
        if self.acts_itself() {
            let grant = sql::let_admin_grant_connect(database, &setup.admin);
            self.add("To get in, and to let logins in where not everybody is let in.", &[grant]);
            return;
        }
        self.add("To get in.", &[sql::grant_connect(database, &setup.admin)]);
        if self.grants_have_options() {
            let role = sql::connect_role_name(database);
            let mut statements = vec![
                create_missing(&role, " NOLOGIN NOINHERIT"),
                sql::grant_connect(database, &role),
            ];
            if setup.way == Way::Shards {
                statements.push(sql::let_admin_grant(&role, installed::SHARDS, setup.version));
            }
            self.add(
                "Lets logins in where not everybody is let in: they inherit this role, which holds nothing else.",
                &statements,
            );
        }
        let why = match setup.way {
            Way::Direct | Way::Functions => {
                "What the admin may have done for it, in this database: these functions have the rights of who runs this, a superuser. They take nothing but what is listed here, and touch only roles that they made."
            }
            Way::Shards => {
                "What the admin may have done for it, in this database. Roles with CREATEROLE share the logins among them, so that none gets slow; the functions have their rights, take nothing but what is listed here, and touch only roles that they made."
            }
        };
        self.push(Some(database), why, &[installed::install(setup, database)], true);
    }

    /// Once, wherever the functions are. Before 16 nobody can tell who made a role.
    fn adopt(&mut self) {
        let Some(database) = self.setup.databases.first() else { return };
        let why = if self.grants_have_options() {
            "Logins and group roles that the admin made itself before, are the functions' to end from now on."
        } else {
            "Logins and group roles that were made before, are the functions' to end from now on. Run this if no other pgvalet works on this cluster: it would have its logins, too."
        };
        let statements = [installed::adopt(self.setup)];
        self.push(Some(database), why, &statements, self.grants_have_options());
    }

    fn harden(&mut self) {
        let setup = self.setup;
        let is_chosen = |choice| setup.harden.contains(&choice);
        for database in &setup.databases {
            let name = sql::identifier(database);
            self.push(
                Some(database),
                "Nobody makes tables and functions in schema public unasked (everybody may up to 14, and in databases that come from there). [--harden schema]",
                &["REVOKE CREATE ON SCHEMA public FROM PUBLIC".to_owned()],
                is_chosen(Harden::Schema),
            );
            self.push(
                None,
                "No temporary tables, unless granted. [--harden temporary]",
                &[format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")],
                is_chosen(Harden::Temporary),
            );
            self.push(
                None,
                "Nobody gets in unless let in; logins are, one by one. [--harden connect]",
                &[format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")],
                is_chosen(Harden::Connect),
            );
        }
        let others = ["postgres", "template1"]
            .into_iter()
            .filter(|other| !setup.databases.iter().any(|name| name == other));
        let revokes: Vec<_> = others
            .map(|other| format!("REVOKE CONNECT, TEMPORARY ON DATABASE {other} FROM PUBLIC"))
            .collect();
        if !revokes.is_empty() {
            self.push(
                None,
                "A leased login opens no session beside the databases that it is for. Do the same for every other database of the cluster. [--harden other-databases]",
                &revokes,
                is_chosen(Harden::OtherDatabases),
            );
        }
    }
}

/// Makes a role, unless it is there.
fn create_missing(role: &str, attributes: &str) -> String {
    let (name, text) = (sql::identifier(role), sql::literal(role));
    dollar_quoted(&format!(
        "BEGIN\n    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {text}) THEN\n        CREATE ROLE {name}{attributes};\n    END IF;\nEND"
    ))
}

/// A DO block. The tag is one that the body does not have: a name may hold dollar signs.
fn dollar_quoted(body: &str) -> String {
    let mut tag = "$do$".to_owned();
    while body.contains(&tag) {
        tag.insert(3, 'o');
    }
    format!("DO {tag}\n{body}\n{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::printed::script;

    fn setup(version: i32) -> Setup {
        Setup {
            version,
            admin: "pgvalet_admin".to_owned(),
            verifier: None,
            way: Way::Direct,
            databases: vec!["orders".to_owned()],
            groups: Vec::new(),
            owners: vec!["orders_owner".to_owned()],
            harden: Vec::new(),
            bounds: Bounds {
                longest_life: Duration::from_hours(24 * 100),
                most_connections: 100,
                settings: vec!["statement_timeout".to_owned()],
            },
        }
    }

    fn script_of(setup: &Setup) -> String {
        script(setup, &steps(setup).unwrap())
    }

    /// `pgvalet bootstrap-target --server-version 16 --database orders --owner orders_owner`
    #[test]
    fn the_example_is_what_is_printed() {
        assert_eq!(
            script_of(&setup(160_000)),
            include_str!("../../deploy/bootstrap-target.sql"),
            "write the example anew with the command above"
        );
    }

    #[test]
    fn options_of_grants_are_written_where_they_exist() {
        let before = script_of(&setup(150_000));
        assert!(!before.contains("INHERIT TRUE") && before.contains("nearly a superuser's"));
        let mut handed_out = setup(130_000);
        handed_out.groups = vec!["reporting".to_owned()];
        assert!(!script_of(&handed_out).contains("reporting"), "CREATEROLE is enough up to 15");
        handed_out.version = 160_000;
        assert!(script_of(&handed_out).contains(
            "\nGRANT \"reporting\" TO \"pgvalet_admin\" WITH ADMIN TRUE, INHERIT FALSE, SET FALSE;\n"
        ));
        assert!(steps(&setup(120_004)).is_err());
    }

    #[test]
    fn what_is_not_chosen_is_a_comment() {
        let runs = |text: &str| {
            text.lines().filter(|line| line.starts_with("REVOKE")).map(str::to_owned).collect()
        };
        let none: Vec<String> = runs(&script_of(&setup(150_000)));
        assert_eq!(none, Vec::<String>::new());
        let harden = vec![Harden::Schema, Harden::OtherDatabases];
        let some: Vec<String> = runs(&script_of(&Setup { harden, ..setup(150_000) }));
        assert_eq!(
            some,
            [
                "REVOKE CREATE ON SCHEMA public FROM PUBLIC;",
                "REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;",
                "REVOKE CONNECT, TEMPORARY ON DATABASE template1 FROM PUBLIC;",
            ]
        );
    }

    #[test]
    fn an_admin_that_calls_functions_may_make_no_role() {
        let script = script_of(&Setup { way: Way::Functions, ..setup(150_000) });
        assert!(
            script.contains("LOGIN INHERIT NOCREATEROLE")
                && !script.contains("pg_signal_backend\" TO")
        );
        assert!(!script.contains("{{"), "everything is filled in");
        assert!(steps(&Setup { way: Way::Shards, ..setup(150_000) }).is_err(), "for 16 and later");
        let shards = script_of(&Setup { way: Way::Shards, ..setup(160_000) });
        assert!(shards.contains("pg_signal_backend\" TO \"pgvalet_shards\""));
    }

    #[test]
    fn a_name_cannot_end_its_block() {
        assert_eq!(dollar_quoted("a $do$ b"), "DO $doo$\na $do$ b\n$doo$");
        assert!(create_missing("a'b\"c", "").contains("= 'a''b\"c')"));
    }
}
