//! What a superuser (or a managed service's administrator) runs once, so that pgvalet has a role to
//! manage logins with: the least rights, statement by statement, each with what it is for.
//!
//! Every statement may run twice. `deploy/bootstrap-target.sql` is what this file writes.

use std::fmt::Write as _;

use crate::{
    domain::{role::GRAVEYARD, target::Way},
    target::{scram::Verifier, sql},
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
    let mut plan = Plan { setup, steps: Vec::new() };
    plan.admin();
    plan.rights();
    for database in &setup.databases {
        plan.database(database);
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
        self.add(
            "The role that pgvalet signs in as. INHERIT: up to 15 it decides whether granting as an owner and ending sessions work.",
            &[
                create_missing(&self.setup.admin, ""),
                format!("ALTER ROLE {admin} LOGIN INHERIT CREATEROLE CONNECTION LIMIT 32"),
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

    fn rights(&mut self) {
        let setup = self.setup;
        let admin = sql::identifier(&setup.admin);
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
        if !setup.owners.is_empty() {
            let grants: Vec<_> = setup.owners.iter().map(|owner| self.act_for(owner)).collect();
            self.add(
                "To grant on what these own, as they would, now and for what they make later. From 16 on it cannot become them; their rights it has.",
                &grants,
            );
        }
        if !setup.groups.is_empty() && self.grants_have_options() {
            let grant = |group: &String| sql::let_admin_grant(group, &setup.admin, setup.version);
            let grants: Vec<_> = setup.groups.iter().map(grant).collect();
            self.add(
                "To hand out roles that were there before. It has nothing of them itself.",
                &grants,
            );
        }
    }

    fn database(&mut self, database: &str) {
        let grant = sql::let_admin_grant_connect(database, &self.setup.admin);
        self.add("To get in, and to let logins in where not everybody is let in.", &[grant]);
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

/// The steps as a script for psql. What is not chosen stands in comments.
#[must_use]
pub fn script(setup: &Setup, steps: &[Step]) -> String {
    let mut text = format!(
        "\
-- Makes the role that pgvalet manages logins with on one PostgreSQL cluster, with the rights that it needs and no more.
-- For PostgreSQL {}, the way \"{}\". Written by `pgvalet bootstrap-target`; `--apply` runs it. May run twice.
-- A superuser runs it, or a managed service's administrator: whoever may grant the roles named below.
",
        setup.version / 10_000,
        setup.way.as_str(),
    );
    if setup.way == Way::Direct && setup.version < sql::GRANTS_HAVE_OPTIONS {
        text.push_str(NEARLY_SUPERUSER);
    }
    text.push_str("\n\\set ON_ERROR_STOP on\n");
    if setup.verifier.is_none() {
        let _ =
            writeln!(text, "-- The password is yours to set, in psql: \\password {}", setup.admin);
    }
    let mut at: Option<&str> = None;
    for step in steps {
        text.push('\n');
        if let Some(database) = step.database.as_deref()
            && at != Some(database)
        {
            let _ = writeln!(text, "\\connect {}", sql::identifier(database));
            at = Some(database);
        }
        for line in wrapped(&step.why) {
            let _ = writeln!(text, "-- {line}");
        }
        for line in step.sql.lines() {
            let comment = if step.is_chosen { "" } else { "--   " };
            let _ = writeln!(text, "{comment}{line}");
        }
    }
    text
}

const NEARLY_SUPERUSER: &str = "\
--
-- Up to version 15, CREATEROLE is nearly a superuser's right: whoever holds it may grant themselves roles that run programs on the
-- server. Keep that password, and who may reach the server with it (pg_hba.conf), accordingly; or use `--way functions`.
";

/// Lines of a comment.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if !line.is_empty() && line.len() + word.len() > 125 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_name_cannot_end_its_block() {
        assert_eq!(dollar_quoted("a $do$ b"), "DO $doo$\na $do$ b\n$doo$");
        assert!(create_missing("a'b\"c", "").contains("= 'a''b\"c')"));
    }
}
