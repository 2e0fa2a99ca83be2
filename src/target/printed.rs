//! The steps of a setup as a script for psql, to be read before it is run.

use std::fmt::Write as _;

use crate::{
    domain::target::Way,
    target::{
        bootstrap::{Setup, Step},
        sql,
    },
};

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
