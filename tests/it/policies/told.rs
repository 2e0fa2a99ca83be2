//! What people get wrong with row-level security, each told once with what mends it.

use crate::{
    policies::{apply, code, group, in_world, notes, world_on},
    support::versions::on_every_version,
};

/// What is not as one would expect, once each.
const ODD: &str = r#"
[[profile.{p}.rls]]
schema = "walled"
tables = ["owned"]
force = false
policy = [
  { name = "wall", form = "tenant", column = "tenant_id" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["open"]
policy = [
  { name = "all", form = "all-rows" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["bare"]
policy = [
  { name = "mine", form = "owner", column = "owner" },
  { name = "trusts", command = "select", using = "tenant_id = current_setting('app.tenant_id', true)::integer" },
  { name = "calls", command = "select", using = "walled.loose() AND walled.jumpy()" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["parted", "lofty"]
policy = [
  { name = "mine", form = "owner", column = "owner" },
]
"#;

#[tokio::test]
async fn what_people_get_wrong_is_told_with_what_mends_it() {
    on_every_version(async |target| {
        let major = target.major();
        let world = world_on(target).await;
        let (shop, group) = (world.shop(), group(&world));
        let odd = format!(
            "SET ROLE shop_owner;
             CREATE TABLE walled.bare (owner text, tenant_id integer, note text);
             CREATE POLICY theirs ON walled.bare USING ((current_setting('request.jwt.claims', true)::json ->> 'sub') = note);
             CREATE FUNCTION walled.loose() RETURNS boolean STABLE SECURITY DEFINER LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION walled.jumpy() RETURNS boolean VOLATILE LANGUAGE sql AS 'SELECT true';
             CREATE VIEW walled.around AS SELECT * FROM walled.owned;
             CREATE VIEW walled.further AS SELECT id FROM walled.around;
             CREATE MATERIALIZED VIEW walled.kept AS SELECT * FROM walled.owned;
             CREATE TABLE walled.lofty (owner text); CREATE INDEX ON walled.lofty (owner);
             RESET ROLE;
             CREATE ROLE {shop}_above BYPASSRLS; GRANT {shop}_above TO {shop};
             GRANT SELECT ON walled.owned TO {shop}_above; ALTER TABLE walled.lofty OWNER TO {shop}_above"
        );
        world.target.run(&shop, &[&odd]).await;
        let file = in_world(&world, ODD);
        apply(&world, &file).await;
        let by_hand = format!(
            "GRANT SELECT ON walled.parted_1 TO {group}; GRANT TRUNCATE ON walled.open TO {group}"
        );
        world.target.run(&shop, &[&by_hand]).await;
        let told = notes(&code(&world, "plan", &file).await).join("\n");
        let views = if major >= 15 {
            "run `ALTER VIEW \"walled\".\"around\" SET (security_invoker = true)`".to_owned()
        } else {
            format!("run `REVOKE SELECT ON \"walled\".\"around\" FROM \"{group}\"`")
        };
        for says in [
            format!("walled.owned has restrictive policies only, which take rows away and give none: `{group}` sees no rows"),
            format!("policy `all` on walled.open lets rows be added by `{group}` for anybody, because it has no WITH CHECK"),
            "walled.owned does not bind its owner `shop_owner`".to_owned(),
            "ALTER FUNCTION walled.jumpy() STABLE".to_owned(),
            "ALTER FUNCTION walled.loose() SET search_path = pg_catalog, pg_temp".to_owned(),
            "CREATE INDEX CONCURRENTLY ON \"walled\".\"bare\" (\"owner\")".to_owned(),
            "walled.around, walled.further reads with the rights of its owner `shop_owner`".to_owned(),
            views,
            format!("run `REVOKE SELECT ON \"walled\".\"kept\" FROM \"{group}\"`"),
            format!("run `ALTER ROLE \"{shop}_above\" NOBYPASSRLS`"),
            format!("walled.lofty belongs to `{shop}_above`, whom no policy binds"),
            "policy `trusts` on walled.bare trusts a setting".to_owned(),
            "write `using = '''tenant_id = (SELECT pgvalet.claim('tenant_id')::integer)'''` in rls[2].policy[1]".to_owned(),
            "run `ALTER POLICY \"theirs\" ON \"walled\".\"bare\" USING (".to_owned(),
            "(SELECT pgvalet.claim('sub'))) = note))`".to_owned(),
            format!("run `REVOKE ALL ON \"walled\".\"parted_1\" FROM \"{group}\"`"),
            format!("run `REVOKE TRUNCATE ON \"walled\".\"open\" FROM \"{group}\"`"),
        ] {
            assert!(told.contains(&says), "{says}\nis not told:\n{told}");
        }
        assert!(!told.contains("policy `mine` on walled.bare lets"), "its USING asks who it is: {told}");
        world.target.run(&shop, &["ALTER TABLE walled.owned FORCE ROW LEVEL SECURITY"]).await;
        let told = notes(&code(&world, "plan", &file).await).join("\n");
        assert!(told.contains("walled.owned binds its owner `shop_owner` although the file says"), "{told}");
        world.target.run(&shop, &[&format!("DROP OWNED BY {shop}_above; DROP ROLE {shop}_above")]).await;
        world.finish().await;
    })
    .await;
}
