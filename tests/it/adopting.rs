//! What was granted by hand becomes a file, and the file a profile that gives the same.

use serde_json::json;
use sqlx::Executor as _;

use crate::support::{
    sessions::text,
    versions::on_every_version,
    world::{Plan, World},
};

/// What a role holds, in a form that two of them can be compared by.
const HOLDS: &str = "\
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT table_schema || '.' || table_name || ' ' || privilege_type AS line
    FROM information_schema.role_table_grants WHERE grantee = 'ROLE'
    UNION SELECT table_schema || '.' || table_name || '.' || column_name || ' ' || privilege_type
    FROM information_schema.role_column_grants WHERE grantee = 'ROLE'
    UNION SELECT routine_schema || '.' || specific_name || ' ' || privilege_type
    FROM information_schema.role_routine_grants WHERE grantee = 'ROLE'
    UNION SELECT object_schema || '.' || object_name || ' ' || privilege_type
    FROM information_schema.role_usage_grants WHERE grantee = 'ROLE') held";

#[tokio::test]
async fn a_role_that_was_granted_by_hand_becomes_a_profile_that_holds_the_same() {
    on_every_version(async |target| {
        let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let role = format!("{}_reporting", world.name);
        let mut superuser = world.on_target().await;
        let by_hand = format!(
            "CREATE ROLE {role} NOLOGIN; GRANT USAGE ON SCHEMA public TO {role};
             GRANT SELECT, INSERT ON orders, products TO {role}; GRANT SELECT (id, country), UPDATE (country) ON customers TO {role};
             GRANT USAGE ON SEQUENCE orders_id_seq TO {role}; GRANT EXECUTE ON FUNCTION my_tenants(name) TO {role};
             CREATE POLICY for_reporting ON products AS RESTRICTIVE FOR SELECT TO {role} USING (active)"
        );
        superuser.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(by_hand))).await.unwrap();
        let ask = json!({ "target": world.name, "database": world.shop(), "roles": [role] });
        let adopted = world.admin.post("/v1/adopt", &ask).await.expect(200);
        let text_of = adopted["text"].as_str().unwrap();
        assert!(text_of.contains("allow = []"), "{text_of}");

        let code = json!({ "name": "adopted.toml", "text": text_of, "secrets": {} });
        let applied = world.admin.post("/v1/apply", &code).await.expect(200);
        let notes = applied["lines"][0]["notes"].to_string();
        assert!(!notes.contains("not made"), "{notes}");
        let held = async |role: &str| {
            let mut superuser = world.on_target().await;
            text(&mut superuser, &HOLDS.replace("ROLE", role)).await
        };
        let group = format!("pgvg_{role}");
        assert_eq!(held(&group).await, held(&role).await);
        let policies = format!("SELECT string_agg(policyname || ' ' || permissive || ' ' || cmd || ' ' || qual, ';')
                                FROM pg_policies WHERE '{group}' = ANY (roles)");
        let kept = text(&mut superuser, &policies).await;
        assert_eq!(kept, "for_reporting_adopted RESTRICTIVE SELECT active");

        let again = world.admin.post("/v1/plan", &code).await.expect(200);
        assert_eq!(again["lines"][0]["statements"], json!([]), "{again}");
        let dropped = format!("DROP OWNED BY {role}; DROP ROLE {role}");
        superuser.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(dropped))).await.unwrap();
        world.finish().await;
    })
    .await;
}
