//! The SQL of policies, and the mark by which we know our own.
//!
//! The mark is a comment on the policy: whose it is, a hash of what the file says, and a fingerprint of what
//! the catalogue makes of it. PostgreSQL keeps no text of an expression, only its tree, and writes it out in
//! its own way; so what was changed by hand can be told only by how it is written out now. The catalogue's own
//! `DO` block puts the fingerprint into the mark, since nobody knows it before the policy is there.

use aws_lc_rs::digest;

use crate::{
    domain::rights::rls::{Command, Effect, Written},
    target::sql,
};

/// Of the expressions of `pg_policy p`, for a session whose `search_path` is `pg_catalog`.
pub(super) const FINGERPRINT: &str = "left(encode(sha256(convert_to(\
concat_ws(' / ', pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), 'UTF8')), 'hex'), 16)";

/// What the marks of a profile begin with.
pub(super) fn mark_of(profile: &str) -> String {
    format!("pgvalet: profile {profile},")
}

/// What a mark says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark<'a> {
    pub(super) profile: &'a str,
    /// Of what the file said.
    pub(super) said: &'a str,
    /// Of what the catalogue made of it.
    pub(super) fingerprint: &'a str,
}

/// Reads one; none if the comment is somebody else's.
pub(super) fn read_mark(comment: &str) -> Option<Mark<'_>> {
    let mut parts = comment.strip_prefix("pgvalet: profile ")?.split(", ");
    let mark = Mark { profile: parts.next()?, said: parts.next()?, fingerprint: parts.next()? };
    parts.next().is_none().then_some(mark)
}

/// A short hash of what a file says.
pub(super) fn hash(statement: &str) -> String {
    let whole = digest::digest(&digest::SHA256, statement.as_bytes());
    whole.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The table, quoted.
pub(super) fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", sql::identifier(schema), sql::identifier(name))
}

pub(super) fn enable(table: &str) -> String {
    format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
}

pub(super) fn force(table: &str) -> String {
    format!("ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
}

pub(super) fn drop_policy(name: &str, table: &str) -> String {
    format!("DROP POLICY {} ON {table}", sql::identifier(name))
}

pub(super) fn create_policy(
    name: &str,
    table: &str,
    written: &Written,
    roles: &[String],
) -> String {
    let effect = match written.effect {
        Effect::Permissive => "PERMISSIVE",
        Effect::Restrictive => "RESTRICTIVE",
    };
    let role =
        |role: &String| if role == "public" { "PUBLIC".to_owned() } else { sql::identifier(role) };
    let mut statement = format!(
        "CREATE POLICY {} ON {table} AS {effect} FOR {} TO {}",
        sql::identifier(name),
        command(written.command).1,
        roles.iter().map(role).collect::<Vec<_>>().join(", "),
    );
    for (clause, expression) in [("USING", &written.using), ("WITH CHECK", &written.with_check)] {
        if let Some(expression) = expression {
            statement.push_str(&format!(" {clause} ({})", enclosed(expression)));
        }
    }
    statement
}

/// A comment at the end of an expression must not take the bracket behind it along.
pub(super) fn enclosed(expression: &str) -> String {
    let end = if expression.contains("--") { "\n" } else { "" };
    format!("{expression}{end}")
}

/// In the catalogue's letter, and in words.
pub(super) const fn command(command: Command) -> (&'static str, &'static str) {
    match command {
        Command::All => ("*", "ALL"),
        Command::Select => ("r", "SELECT"),
        Command::Insert => ("a", "INSERT"),
        Command::Update => ("w", "UPDATE"),
        Command::Delete => ("d", "DELETE"),
    }
}

/// Where a probe goes back to.
pub(super) const SAVE: &str = "SAVEPOINT pgvalet_probe";

/// Has the server say whether it understands the expression as a policy's, and change nothing: a statement
/// that is prepared is not run. Going back gives up the lock on the table, of which a server has only so many.
/// `table` is quoted; the number is how many characters stand before the expression.
pub(super) fn probe(table: &str, expression: &str) -> (String, usize) {
    let before = format!("PREPARE pgvalet_probe AS SELECT FROM ONLY {table} WHERE (");
    let after = format!("DEALLOCATE pgvalet_probe; ROLLBACK TO {SAVE}");
    (format!("{before}{}); {after}", enclosed(expression)), before.chars().count())
}

/// Fails if there is no such place.
pub(super) fn probe_timezone(name: &str) -> String {
    format!("SELECT statement_timestamp() AT TIME ZONE {}", sql::literal(name))
}

/// A policy to be marked.
pub(super) struct Made {
    /// Quoted.
    pub(super) table: String,
    pub(super) name: String,
    pub(super) said: String,
}

/// Marks what was made.
pub(super) fn mark(profile: &str, made: &[Made]) -> String {
    let begin = mark_of(profile);
    let rows: Vec<_> = made
        .iter()
        .map(|Made { table, name, said }| {
            let said = format!("{begin} {said}, ");
            let (table, name) = (sql::literal(table), sql::literal(name));
            format!("({table}, {name}, {})", sql::literal(&said))
        })
        .collect();
    let body = format!(
        "
DECLARE made record;
BEGIN
  PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
  FOR made IN
    SELECT p.polname, p.polrelid::regclass AS on_table,
           new.mark || {FINGERPRINT} AS mark
    FROM (VALUES {}) AS new (on_table, name, mark)
    JOIN pg_policy p ON p.polrelid = new.on_table::regclass AND p.polname = new.name
  LOOP
    EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', made.polname, made.on_table, made.mark);
  END LOOP;
END ",
        rows.join(",\n                 ")
    );
    let mut tag = "$pgvalet$".to_owned();
    while body.contains(&tag) {
        tag.insert(1, 'x');
    }
    format!("DO {tag}{body}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_comment_is_none() {
        let comment = format!("{} 0123, 4567", mark_of("shop-read"));
        let mark = Mark { profile: "shop-read", said: "0123", fingerprint: "4567" };
        assert_eq!(read_mark(&comment), Some(mark));
        for other in [
            "",
            "pgvalet",
            "pgvalet: profile x",
            "keep this, please, or, else",
            "pgvalet: profile a, b, c, d",
        ] {
            assert_eq!(read_mark(other), None, "{other}");
        }
        assert_eq!(hash("").len(), 16);
    }

    #[test]
    fn a_policy_is_written_with_every_name_quoted() {
        let written = Written {
            effect: Effect::Restrictive,
            command: Command::Update,
            using: Some("true -- all".to_owned()),
            with_check: Some("a = 'b'".to_owned()),
        };
        let roles = ["public".to_owned(), "o\"dd".to_owned()];
        let table = table("s", "T t");
        assert_eq!(
            create_policy("p", &table, &written, &roles),
            "CREATE POLICY \"p\" ON \"s\".\"T t\" AS RESTRICTIVE FOR UPDATE TO PUBLIC, \"o\"\"dd\" USING (true -- all\n) WITH CHECK (a = 'b')"
        );
    }

    #[test]
    fn a_name_cannot_end_the_block_of_marks() {
        let made =
            Made { table: "t".to_owned(), name: "$pgvalet$".to_owned(), said: "0".to_owned() };
        let statement = mark("p", &[made]);
        assert!(statement.starts_with("DO $xpgvalet$") && statement.ends_with("$xpgvalet$"));
        assert_eq!(statement.matches("$xpgvalet$").count(), 2);
    }
}
