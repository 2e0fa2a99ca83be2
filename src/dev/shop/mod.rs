//! The demo shop of the playground: two tenants in one database, kept apart by row level security.
//!
//! It is plain SQL in the order in which it runs, so that it can be read, and tried with `psql`, as
//! it is. It works on PostgreSQL 13 to 18.

/// The database.
pub const DATABASE: &str = "shop";
/// The role that owns the database and everything in it. It cannot log in.
pub const OWNER: &str = "shop_owner";
/// A group role that was there before pgvalet, for a profile that uses an existing one.
pub const SUPPORT_GROUP: &str = "shop_support";
/// The login that pgvalet manages other logins with. It is not a superuser.
pub const ADMIN: &str = "pgvalet_admin";

/// First, in database `postgres`, as the superuser: the roles.
pub const CLUSTER_SQL: &str = include_str!("cluster.sql");
/// Third, in database `postgres`, in a query of its own: `CREATE DATABASE` refuses any company.
pub const CREATE_DATABASE_SQL: &str =
    "CREATE DATABASE shop OWNER shop_owner TEMPLATE template0 ENCODING 'UTF8'";
/// Fourth, in the shop's database, as the superuser, in this order and in one session.
pub const DATABASE_SQL: [&str; 3] =
    [include_str!("tables.sql"), include_str!("rows.sql"), include_str!("rules.sql")];

/// Second, in database `postgres`, as the superuser: the admin role, with a SCRAM verifier in place
/// of a password, so that the password is in no statement and no log.
pub fn admin_sql(verifier: &str) -> String {
    let literal = format!("'{}'", verifier.replace('\'', "''"));
    include_str!("admin.sql").replace("{{verifier}}", &literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_one_literal() {
        let sql = admin_sql("SCRAM-SHA-256$4096:a'b");
        assert!(sql.contains("PASSWORD 'SCRAM-SHA-256$4096:a''b';"));
        assert!(!sql.contains("{{"));
    }
}
