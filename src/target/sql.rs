//! Every statement that changes something on a target, as text, and the one place where names and
//! texts are quoted into it: PostgreSQL takes no parameters in role and grant statements.
//!
//! Questions, which do take parameters, stand as constants beside the functions that ask them.

use chrono::{DateTime, Utc};

use crate::target::scram::{self, Verifier};

/// The first version whose grants say per membership whether it is inherited, and whose CREATEROLE
/// is no longer nearly a superuser's.
pub(crate) const GRANTS_HAVE_OPTIONS: i32 = 160_000;

/// The oldest version that we manage.
pub(crate) const OLDEST: i32 = 130_000;

/// Settings whose value is a list of names: written as one text they would become one strange name.
const LISTS: [&str; 4] =
    ["search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"];

/// What the name of every role that only holds CONNECT begins with.
pub(crate) const CONNECT_PREFIX: &str = "pgvc_";

/// A name, quoted.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text, quoted so that it reads the same whatever `standard_conforming_strings` is.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A zero byte would end the statement early on the wire, so a text with one is never sent.
pub(crate) fn is_sendable(statement: &str) -> bool {
    !statement.contains('\0')
}

/// How much a login may do, and until when.
pub(crate) struct LoginTerms<'a> {
    pub(crate) verifier: &'a Verifier,
    pub(crate) valid_until: DateTime<Utc>,
    pub(crate) connection_limit: i32,
}

/// Makes a login, or sets right one that is there. `NOSUPERUSER` and its like are left out: they are
/// what a new role gets anyway, and merely naming them takes rights that our admin need not have.
/// None if the verifier is malformed.
pub(crate) fn login(verb: LoginVerb, role: &str, terms: &LoginTerms<'_>) -> Option<String> {
    let verb = match verb {
        LoginVerb::Create => "CREATE",
        LoginVerb::Alter => "ALTER",
    };
    scram::is_well_formed(terms.verifier.text()).then(|| {
        format!(
            "{verb} ROLE {} LOGIN NOINHERIT PASSWORD {} VALID UNTIL {} CONNECTION LIMIT {}",
            identifier(role),
            literal(terms.verifier.text()),
            instant(terms.valid_until),
            terms.connection_limit,
        )
    })
}

/// Is the login new?
#[derive(Debug, Clone, Copy)]
pub(crate) enum LoginVerb {
    /// It is.
    Create,
    /// It is there already.
    Alter,
}

/// How a membership works.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Membership {
    /// The login may become the group, and has nothing of it before.
    ToBecome,
    /// The login has the group's rights without becoming it (16 and later only).
    ToInherit,
}

/// Makes `member` a member of `group`.
pub(crate) fn grant_membership(
    group: &str,
    member: &str,
    kind: Membership,
    version: i32,
) -> String {
    let options = match kind {
        _ if version < GRANTS_HAVE_OPTIONS => "",
        Membership::ToBecome => " WITH ADMIN FALSE, INHERIT FALSE, SET TRUE",
        Membership::ToInherit => " WITH ADMIN FALSE, INHERIT TRUE, SET FALSE",
    };
    format!("GRANT {} TO {}{options}", identifier(group), identifier(member))
}

/// Ends a membership, and those that the member passed on.
pub(crate) fn revoke_membership(group: &str, member: &str) -> String {
    format!("REVOKE {} FROM {} CASCADE", identifier(group), identifier(member))
}

/// What an administrator runs so that our admin may hand out `group`.
pub(crate) fn let_admin_grant(group: &str, admin: &str, version: i32) -> String {
    if version < GRANTS_HAVE_OPTIONS {
        format!("ALTER ROLE {} CREATEROLE", identifier(admin))
    } else {
        format!(
            "GRANT {} TO {} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE",
            identifier(group),
            identifier(admin)
        )
    }
}

/// What an administrator runs so that our admin may grant what `owner` owns.
pub(crate) fn let_admin_act_for(owner: &str, admin: &str, version: i32) -> String {
    let options = if version < GRANTS_HAVE_OPTIONS {
        ""
    } else {
        " WITH ADMIN FALSE, INHERIT TRUE, SET FALSE"
    };
    format!("GRANT {} TO {}{options}", identifier(owner), identifier(admin))
}

/// What an administrator runs so that our admin may end sessions.
pub(crate) fn let_admin_end_sessions(admin: &str, version: i32) -> String {
    let_admin_act_for("pg_signal_backend", admin, version)
}

/// Gives our admin everything that `graveyard` has, so that it may hand objects over to it.
pub(crate) fn let_admin_hand_over(graveyard: &str, admin: &str, version: i32) -> String {
    let options = if version < GRANTS_HAVE_OPTIONS {
        ""
    } else {
        " WITH ADMIN FALSE, INHERIT TRUE, SET TRUE"
    };
    format!("GRANT {} TO {}{options}", identifier(graveyard), identifier(admin))
}

/// What an administrator runs so that our admin may let logins into a database.
pub(crate) fn let_admin_grant_connect(database: &str, admin: &str) -> String {
    format!(
        "GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION",
        identifier(database),
        identifier(admin)
    )
}

/// Sets what each session of a role begins with.
pub(crate) fn set_setting(role: &str, setting: &str, value: &str) -> String {
    let value = if LISTS.contains(&setting) {
        let item = |item: &str| literal(item.trim().trim_matches('"'));
        value.split(',').map(item).collect::<Vec<_>>().join(", ")
    } else {
        literal(value)
    };
    let setting = setting.split('.').map(identifier).collect::<Vec<_>>().join(".");
    format!("ALTER ROLE {} SET {setting} = {value}", identifier(role))
}

/// Forgets the settings of a role that is there from an earlier try.
pub(crate) fn reset_settings(role: &str) -> String {
    format!("ALTER ROLE {} RESET ALL", identifier(role))
}

/// Forgets the settings that a role has for one database.
pub(crate) fn reset_database_settings(role: &str, database: &str) -> String {
    format!("ALTER ROLE {} IN DATABASE {} RESET ALL", identifier(role), identifier(database))
}

/// Takes an attribute (`CREATEROLE`, `INHERIT`) from a role.
pub(crate) fn take_attribute(role: &str, attribute: &'static str) -> String {
    format!("ALTER ROLE {} NO{attribute}", identifier(role))
}

/// Sets how many sessions a login may have.
pub(crate) fn connection_limit(role: &str, limit: i32) -> String {
    format!("ALTER ROLE {} CONNECTION LIMIT {limit}", identifier(role))
}

/// Says in the catalogue what a role is for.
pub(crate) fn comment_on_role(role: &str, comment: &str) -> String {
    format!("COMMENT ON ROLE {} IS {}", identifier(role), literal(comment))
}

/// Sets the password of whoever has signed in. None if the verifier is malformed.
pub(crate) fn own_password(verifier: &Verifier) -> Option<String> {
    scram::is_well_formed(verifier.text())
        .then(|| format!("ALTER ROLE SESSION_USER PASSWORD {}", literal(verifier.text())))
}

/// Moves the end of a login.
pub(crate) fn valid_until(role: &str, until: DateTime<Utc>) -> String {
    format!("ALTER ROLE {} VALID UNTIL {}", identifier(role), instant(until))
}

/// The role that lets logins into a database which is not open to everybody: `pgvc_` and the
/// database, cut to PostgreSQL's 63 bytes.
pub(crate) fn connect_role_name(database: &str) -> String {
    let mut name = format!("{CONNECT_PREFIX}{database}");
    name.truncate(name.floor_char_boundary(63));
    name
}

/// Makes a role that cannot sign in.
pub(crate) fn create_group(role: &str) -> String {
    format!("CREATE ROLE {} NOLOGIN NOINHERIT", identifier(role))
}

/// Lets nobody new in as this login. NOLOGIN is the fence; the rest makes it two and three.
pub(crate) fn fence(role: &str) -> String {
    format!("ALTER ROLE {} NOLOGIN CONNECTION LIMIT 0 PASSWORD NULL", identifier(role))
}

/// A statement that gives up soon when somebody holds a lock: it runs together with its own limit in
/// one transaction, which ends with it.
pub(crate) fn in_haste(statement: &str) -> String {
    format!("SET LOCAL lock_timeout = '300ms'; {statement}")
}

/// Lets a role make things in a place: `SCHEMA …` or `DATABASE …`, quoted.
pub(crate) fn grant_create(place: &str, role: &str) -> String {
    format!("GRANT CREATE ON {place} TO {}", identifier(role))
}

/// Takes that back.
pub(crate) fn revoke_create(place: &str, role: &str) -> String {
    format!("REVOKE CREATE ON {place} FROM {}", identifier(role))
}

/// Takes everything on an object back from a role, in the name of who granted it. `on` is `ON …`, or
/// `(column) ON …`, quoted.
pub(crate) fn revoke_as(grantor: &str, on: &str, role: &str) -> String {
    format!(
        "SET LOCAL ROLE {}; REVOKE ALL {on} FROM {} CASCADE; RESET ROLE",
        identifier(grantor),
        identifier(role)
    )
}

/// Undoes a prepared transaction.
pub(crate) fn rollback_prepared(gid: &str) -> String {
    format!("ROLLBACK PREPARED {}", literal(gid))
}

/// Lets sessions into a database again.
pub(crate) fn allow_connections(database: &str) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", identifier(database))
}

/// Gives everything that a role owns in this database, or that all databases share, to another.
pub(crate) fn reassign_owned(role: &str, to: &str) -> String {
    format!("REASSIGN OWNED BY {} TO {}", identifier(role), identifier(to))
}

/// Takes a role's grants back in this database, and its default privileges, row policies and user
/// mappings; and drops what it owns, so that it must own nothing else.
pub(crate) fn drop_owned(role: &str) -> String {
    format!("DROP OWNED BY {}", identifier(role))
}

/// Gives one object to a role. `kind` and `identity` are what `pg_identify_object` says, which quotes.
pub(crate) fn alter_owner(kind: &str, identity: &str, to: &str) -> String {
    // What SQL calls differently.
    let kind = match kind {
        "statistics object" => "statistics",
        "composite type" => "type",
        "foreign-data wrapper" => "foreign data wrapper",
        same => same,
    };
    format!("ALTER {} {identity} OWNER TO {}", kind.to_uppercase(), identifier(to))
}

/// Removes a role.
pub(crate) fn drop_role(role: &str) -> String {
    format!("DROP ROLE IF EXISTS {}", identifier(role))
}

/// Lets a role into a database.
pub(crate) fn grant_connect(database: &str, role: &str) -> String {
    format!("GRANT CONNECT ON DATABASE {} TO {}", identifier(database), identifier(role))
}

/// Takes that back.
pub(crate) fn revoke_connect(database: &str, role: &str) -> String {
    format!("REVOKE CONNECT ON DATABASE {} FROM {}", identifier(database), identifier(role))
}

/// With its offset, because VALID UNTIL without one is read in the session's time zone.
pub(crate) fn instant(instant: DateTime<Utc>) -> String {
    literal(&instant.format("%Y-%m-%d %H:%M:%S%.6f+00").to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::Secret;

    #[test]
    fn names_and_texts_cannot_break_out() {
        for (text, as_name, as_text) in [
            ("plain", "\"plain\"", "'plain'"),
            ("it's", "\"it's\"", "'it''s'"),
            ("a\"b", "\"a\"\"b\"", "'a\"b'"),
            ("\\'; DROP", "\"\\'; DROP\"", "E'\\\\''; DROP'"),
            ("", "\"\"", "''"),
        ] {
            assert_eq!(identifier(text), as_name);
            assert_eq!(literal(text), as_text);
        }
        assert!(!is_sendable("CREATE ROLE \"a\0b\""));
    }

    proptest! {
        #[test]
        fn a_quoted_text_ends_where_it_should(text in "['\"\\\\a;]{0,8}") {
            let quoted = literal(&text);
            let inside = quoted.trim_start_matches('E');
            let inside = &inside[1..inside.len() - 1];
            prop_assert_eq!(inside.replace("''", "").matches('\'').count(), 0);
            prop_assert_eq!(inside.replace("\\\\", "").matches('\\').count(), 0);
            let name = identifier(&text);
            prop_assert_eq!(name[1..name.len() - 1].replace("\"\"", "").matches('"').count(), 0);
        }
    }

    #[test]
    fn a_login_is_made_in_one_statement_with_an_end_in_utc() {
        let verifier =
            scram::verifier(&Secret::new("abc".to_owned()), [7; 16], scram::DEFAULT_ITERATIONS);
        let terms = LoginTerms {
            verifier: &verifier,
            valid_until: DateTime::from_timestamp(1_900_000_000, 0).unwrap(),
            connection_limit: 5,
        };
        let made = login(LoginVerb::Create, "pgv_a", &terms).unwrap();
        assert!(made.starts_with("CREATE ROLE \"pgv_a\" LOGIN NOINHERIT PASSWORD 'SCRAM-SHA-256$4096:BwcHBwcHBwcHBwcHBwcHBw==$"), "{made}");
        assert!(
            made.ends_with("' VALID UNTIL '2030-03-17 17:46:40.000000+00' CONNECTION LIMIT 5"),
            "{made}"
        );
        assert!(!made.contains("abc"));
    }

    #[test]
    fn options_of_a_membership_are_spelt_out_where_they_exist() {
        assert_eq!(
            grant_membership("g", "u", Membership::ToBecome, 150_004),
            "GRANT \"g\" TO \"u\""
        );
        assert_eq!(
            grant_membership("g", "u", Membership::ToBecome, 160_000),
            "GRANT \"g\" TO \"u\" WITH ADMIN FALSE, INHERIT FALSE, SET TRUE"
        );
    }

    #[test]
    fn the_name_of_a_connect_role_fits() {
        assert_eq!(connect_role_name("shop"), "pgvc_shop");
        assert_eq!(connect_role_name(&"x".repeat(63)).len(), 63);
        assert!(connect_role_name(&"ü".repeat(31)).len() <= 63);
    }

    #[test]
    fn a_list_stays_a_list() {
        assert_eq!(
            set_setting("u", "search_path", "\"$user\", shop"),
            "ALTER ROLE \"u\" SET \"search_path\" = '$user', 'shop'"
        );
        assert_eq!(
            set_setting("u", "app.tenant", "a, b"),
            "ALTER ROLE \"u\" SET \"app\".\"tenant\" = 'a, b'"
        );
    }
}
