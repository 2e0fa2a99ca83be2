//! The functions that do for our admin what it may not do itself: their SQL, filled in.
//!
//! The files in `setup/` hold it. One set of functions makes, shuts out and drops logins with its
//! owner's rights: a superuser's, or those of one of several roles with CREATEROLE that share the
//! logins among them. Up to what is written into them they do what they are asked, for our admin only,
//! and only to roles that they made: so whoever has the admin's password can do that and no more.

use crate::{
    domain::{role::GRAVEYARD, target::Way},
    target::{bootstrap::Setup, sql},
};

/// Grows with each change of the functions. An older set on a target is told of by `pgvalet doctor`.
pub(crate) const VERSION: i32 = 2;

/// The schema of the functions.
pub(crate) const SCHEMA: &str = crate::domain::role::ADMIN_SCHEMA;

/// The role that holds what all shards need, and that they are members of.
pub(crate) const SHARDS: &str = "pgvalet_shards";

/// How many roles share the logins. What an administrator's statement costs grows with the roles that
/// it is a member of: with 50,000 logins each has 200.
const HOW_MANY: u16 = 256;

const COMMON: &str = include_str!("setup/common.sql");
const MAKER: &str = include_str!("setup/maker.sql");
const DISPATCH: &str = include_str!("setup/shards.sql");
const MAKE_SHARDS: &str = include_str!("setup/make_shards.sql");
const ADOPT: &str = include_str!("setup/adopt.sql");

/// A login belongs to one shard, whoever calls.
const OWN_SHARE: &str = "        IF pgvalet_admin.shard(login) <> {{number}} THEN
            RAISE EXCEPTION '\"%\" belongs to another shard', login USING ERRCODE = 'insufficient_privilege';
        END IF;
";

/// A superuser has a login's rights anyway.
const JOIN_IT: &str =
    "    EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE', login, current_user);\n";

/// A group that one shard made, all may hand out.
const PASS_ON: &str = "    EXECUTE format('GRANT %I TO pgvalet_shards WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', name);\n";

/// Makes the schema and its functions anew, in one transaction. None of those who call them meanwhile
/// finds them missing.
pub(crate) fn install(setup: &Setup, database: &str) -> String {
    let admin = sql::identifier(&setup.admin);
    let is_shared = setup.way == Way::Shards;
    let body = if is_shared {
        let maker = MAKER
            .replace("{{own_share}}", OWN_SHARE)
            .replace("{{join_it}}", JOIN_IT)
            .replace("{{pass_on}}", PASS_ON);
        format!("{DISPATCH}\n{}", MAKE_SHARDS.replace("{{maker}}", &maker))
    } else {
        let maker = MAKER.replace("{{schema}}", SCHEMA);
        ["own_share", "join_it", "pass_on"]
            .iter()
            .fold(maker, |text, part| text.replace(&format!("{{{{{part}}}}}"), ""))
    };
    let values = [
        ("version", VERSION.to_string()),
        ("way", setup.way.as_str().to_owned()),
        ("longest_life", format!("{} seconds", setup.bounds.longest_life.as_secs())),
        ("most_connections", setup.bounds.most_connections.to_string()),
        ("groups", list(&setup.groups)),
        ("settings", list(&setup.bounds.settings)),
        ("connect_role", connect_role(setup, database)),
        ("graveyard", sql::identifier(GRAVEYARD)),
        ("shards", HOW_MANY.to_string()),
        ("last_shard", (HOW_MANY - 1).to_string()),
        ("admin", admin.clone()),
    ];
    let filled = format!(
        "BEGIN;
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
CREATE SCHEMA {SCHEMA};
GRANT USAGE ON SCHEMA {SCHEMA} TO {admin};
{COMMON}
{body}
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {SCHEMA} FROM PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {SCHEMA} TO {admin};
COMMIT"
    );
    fill(&filled, &values)
}

/// Takes up what our admin made while it acted directly, so that the functions may end it.
pub(crate) fn adopt(setup: &Setup) -> String {
    fill(ADOPT, &[("admin", sql::literal(&setup.admin))])
}

fn fill(text: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{{name}}}}}"), value)
    })
}

/// An array of texts.
fn list(items: &[String]) -> String {
    let items: Vec<_> = items.iter().map(|item| sql::literal(item)).collect();
    format!("ARRAY[{}]", items.join(", "))
}

fn connect_role(setup: &Setup, database: &str) -> String {
    if setup.version < sql::GRANTS_HAVE_OPTIONS {
        return "NULL".to_owned();
    }
    sql::literal(&sql::connect_role_name(database))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a backslash means in a text is the caller's to set, and the functions have other rights.
    #[test]
    fn no_text_of_the_functions_has_a_backslash() {
        for text in [COMMON, MAKER, DISPATCH, OWN_SHARE, JOIN_IT, PASS_ON] {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
            assert_eq!(code.filter(|line| line.contains('\\')).collect::<Vec<_>>(), [""; 0]);
        }
    }
}
