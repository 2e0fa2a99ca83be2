//! What row-level security sees of a lease cannot be forged by SQL: a session of one tenant tries to see
//! the other's rows in every way we know of, connected directly, on every version.

use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};

use crate::support::{
    people::{Person, lease_id},
    sessions::{psql, sign_in, text, try_text},
    versions::on_every_version,
    world::{Plan, World},
};

/// A large table beside `orders`.
const LARGE: &str = "
CREATE TABLE many (tenant_id int NOT NULL, secret text NOT NULL);
INSERT INTO many SELECT 1 + n % 2, 'secret of ' || 1 + n % 2 FROM generate_series(1, 40000) n;
CREATE INDEX ON many (tenant_id);
ANALYZE many;
ALTER TABLE many OWNER TO shop_owner;";

/// Functions that run with their owner's rights.
const DEFINERS: &str = "
CREATE FUNCTION seen_by_definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT count(*) FROM public.many WHERE tenant_id <> (SELECT pgvalet.claim('tenant_id')::int) $$;
ALTER FUNCTION seen_by_definer() OWNER TO shop_owner;
CREATE FUNCTION told_by_definer() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  AS $$ SELECT pgvalet.tenant_id() || current_user $$;
ALTER FUNCTION told_by_definer() OWNER TO shop_owner";

/// The wall as a file says it.
fn wall() -> Value {
    json!({
        "context": { "tenant_id": "{claim.tenant_id}" },
        "rls": [{
            "schema": "public", "tables": ["orders", "many"],
            "policy": [
                { "name": "rows", "form": "all-rows" },
                { "name": "wall", "form": "tenant", "column": "tenant_id" },
            ],
        }],
    })
}

/// A shop with the wall, a profile whose context names the tenant, and a person of each tenant.
async fn walled(plan: Plan) -> (World, Value, Value) {
    let world = World::with(plan).await;
    let mut target = world.on_target().await;
    target.execute(sqlx::raw_sql(LARGE)).await.unwrap();
    // So that every attack that begins with a temporary object can begin.
    let open = format!("GRANT TEMPORARY ON DATABASE {} TO PUBLIC", world.shop());
    target.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(open))).await.unwrap();
    world.put_profile("tenant", json!({ "preset": "readwrite", "rights": wall() })).await;
    target.execute(sqlx::raw_sql(DEFINERS)).await.unwrap();
    let (one, two) = (of_tenant(&world, "ann", "1").await, of_tenant(&world, "bob", "2").await);
    (world, one, two)
}

async fn of_tenant(world: &World, name: &str, tenant: &str) -> Value {
    let person = person_of_tenant(world, name, tenant).await;
    person.ask(&world.profile("tenant"), json!({ "ttl": "10m" })).await.expect(201)
}

async fn person_of_tenant(world: &World, name: &str, tenant: &str) -> Person {
    let body = json!({ "name": "test", "principal": format!("person:{name}"), "claims": { "tenant_id": tenant } });
    let made = world.admin.post("/v1/tokens", &body).await.expect(201);
    world.admin.with_token(made["secret"].as_str().unwrap())
}

/// What a session tries before it looks. Each may be refused; none may help.
fn attacks(other_login: &str) -> Vec<String> {
    let mut attacks: Vec<String> = [
        "SELECT set_config('app.tenant_id', '2', false), set_config('pgvalet.tenant_id', '2', false)",
        "SELECT set_config('request.jwt.claims', '{\"tenant_id\":\"2\"}', false)",
        "SET pgvalet.claim = '2'",
        "DO $$ BEGIN EXECUTE 'SET app.tenant_id = ' || '2'; EXECUTE 'SET row_security = ' || 'off'; END $$",
        "DO $$ BEGIN EXECUTE 'SELECT set_config(''session_authorization'', ''postgres'', false)'; END $$",
        "SET row_security = off",
        "RESET ALL",
        "DISCARD ALL",
        "RESET SESSION AUTHORIZATION",
        "SET SESSION AUTHORIZATION DEFAULT",
        "SET search_path = pg_temp, public, pg_catalog",
        "SET search_path = ''",
        "SELECT set_config('search_path', 'pg_temp, pg_catalog', false)",
        // Whatever the functions name, shadowed.
        "CREATE TEMP TABLE lease_context AS SELECT 0::oid AS login, session_user AS role, '{\"tenant_id\":\"2\"}'::jsonb AS claims",
        "CREATE TEMP VIEW pg_roles AS SELECT 0::oid AS oid, session_user AS rolname, true AS rolcanlogin, 'infinity'::timestamptz AS rolvaliduntil",
        "CREATE TEMP TABLE many AS SELECT 1 AS nothing",
        "CREATE FUNCTION pg_temp.claim(text) RETURNS text LANGUAGE sql AS $$ SELECT '2' $$",
        "CREATE FUNCTION pg_temp.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$",
        "CREATE FUNCTION pg_temp.same(int, int) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$",
        "CREATE OPERATOR pg_temp.= (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_temp.same)",
        "CREATE FUNCTION pg_temp.get(jsonb, text) RETURNS text LANGUAGE sql AS $$ SELECT '2' $$",
        "CREATE OPERATOR pg_temp.->> (LEFTARG = jsonb, RIGHTARG = text, FUNCTION = pg_temp.get)",
        // Ours, changed.
        "CREATE OR REPLACE FUNCTION pgvalet.claim(text) RETURNS text LANGUAGE sql AS $$ SELECT '2' $$",
        "CREATE FUNCTION pgvalet.claim(name) RETURNS text LANGUAGE sql AS $$ SELECT '2' $$",
        "ALTER FUNCTION pgvalet.claim(text) RESET ALL",
        "ALTER FUNCTION pgvalet.claim(text) SECURITY INVOKER",
        "INSERT INTO pgvalet.lease_context SELECT oid, rolname, '{\"tenant_id\":\"2\"}' FROM pg_roles WHERE rolname = session_user",
        "UPDATE pgvalet.lease_context SET claims = '{\"tenant_id\":\"2\"}'",
        "DELETE FROM pgvalet.lease_context",
        "DROP POLICY wall ON many",
        "ALTER TABLE many DISABLE ROW LEVEL SECURITY",
        "UPDATE many SET tenant_id = 1 WHERE tenant_id = 2",
        "INSERT INTO many VALUES (2, 'mine')",
        // The login itself, changed.
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I SET app.tenant_id = ''2''', session_user); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I SET search_path = pg_temp', session_user); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I BYPASSRLS', session_user); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I RENAME TO pgv_other', session_user); END $$",
    ]
    .map(str::to_owned)
    .into();
    attacks.extend([
        format!("SET SESSION AUTHORIZATION \"{other_login}\""),
        format!("SET ROLE \"{other_login}\""),
        "SET ROLE NONE".to_owned(),
        "SET ROLE shop_owner".to_owned(),
        format!("SELECT set_config('role', '{other_login}', false)"),
    ]);
    attacks
}

/// Rows of the other tenant that the session sees; as its group role, where it has that still.
async fn seen_of_other(session: &mut PgConnection) -> Vec<String> {
    let mut seen = Vec::new();
    for query in [
        "SELECT count(*) FROM public.many WHERE tenant_id <> 1",
        "SELECT count(*) FROM public.many WHERE secret LIKE '%2'",
        "SELECT count(*) FROM public.orders WHERE tenant_id <> 1",
        "SELECT public.seen_by_definer()",
        "SELECT count(*) FROM pgvalet.lease_context",
    ] {
        match try_text(session, query).await {
            Ok(rows) if rows == "0" => {}
            Ok(rows) => seen.push(format!("{query}: {rows}")),
            Err(sqlx::Error::Database(_)) => {}
            Err(error) => panic!("{query}: {error}"),
        }
    }
    seen
}

#[tokio::test]
async fn nothing_that_sql_can_say_shows_the_other_tenant() {
    on_every_version(async |target| {
        let (world, one, two) = walled(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let other = two["credential"]["user"].as_str().unwrap();
        let group = format!("pgvg_{}_tenant", world.name);
        let mut all = sign_in(&one).await.unwrap();
        assert_eq!(text(&mut all, "SELECT count(*) FROM many").await, "20000");
        for attack in attacks(other) {
            let mut session = sign_in(&one).await.unwrap();
            for again in [&mut session, &mut all] {
                let tried = again.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(attack.clone()))).await;
                assert_eq!(seen_of_other(again).await, Vec::<String>::new(), "{attack}: {tried:?}");
                let back = format!("RESET ROLE; SET ROLE {group}");
                let _ = again.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(back))).await;
                assert_eq!(seen_of_other(again).await, Vec::<String>::new(), "{attack}: {tried:?}");
            }
        }
        // A session that begins after all of them, with whatever they left behind.
        let mut session = sign_in(&one).await.unwrap();
        assert_eq!(seen_of_other(&mut session).await, Vec::<String>::new());
        assert_eq!(text(&mut session, "SELECT count(*) FROM public.many").await, "20000");
        world.finish().await;
    })
    .await;
}

#[tokio::test]
async fn nor_do_connection_strings_leaky_functions_plans_and_statistics() {
    on_every_version(async |target| {
        let (world, one, _two) = walled(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let uri = one["credential"]["uri"].as_str().unwrap();
        for option in ["app.tenant_id%3D2", "search_path%3Dpg_temp", "row_security%3Doff"] {
            let asks = "SELECT count(*) FROM public.many WHERE tenant_id <> 1";
            let said = psql(&format!("{uri}%20-c%20{option}"), asks).await;
            let is_refused = option.starts_with("row_security") && said.err.contains("row-level security");
            assert!(said.out == "0" || is_refused, "{option}: {said:?}");
        }

        // Cheap, so that it is asked first if the planner lets it; tells what it is shown.
        let leaky = "CREATE FUNCTION pg_temp.leak(t int, s text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql \
                     AS $$ BEGIN RAISE NOTICE 'shown % %', t, s; RETURN true; END $$; \
                     SELECT count(*) FROM many WHERE pg_temp.leak(tenant_id, secret) AND random() < 2";
        let said = psql(uri, leaky).await;
        assert_eq!(said.out, "20000");
        assert!(said.err.contains("shown 1") && !said.err.contains("shown 2"), "{}", &said.err[..200]);

        let explained = psql(uri, "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM many WHERE secret LIKE 'secret of 2'").await;
        assert!(explained.out.contains("rows=0"), "{explained:?}");
        let plain = psql(uri, "SELECT count(*) FROM pg_stats WHERE tablename = 'many'").await;
        assert_eq!(plain.out, "0", "statistics hold values of all tenants: {plain:?}");
        // An error that would tell a value comes from nobody else's row.
        let error = psql(uri, "SELECT secret::int FROM many").await;
        assert!(error.err.contains("secret of 1") && !error.err.contains("secret of 2"), "{error:?}");
        let copied = psql(uri, "COPY many TO STDOUT").await;
        assert!(copied.err.contains("denied") || (!copied.out.contains("secret of 2") && copied.out.contains("secret of 1")));
        world.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_parallel_query_and_a_plan_made_before_see_what_holds_now() {
    on_every_version(async |target| {
        let major = target.major();
        let (world, one, _two) = walled(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let mut session = sign_in(&one).await.unwrap();
        let forced = if major >= 16 { "debug_parallel_query" } else { "force_parallel_mode" };
        let parallel = format!(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; \
             SET enable_indexscan = off; SET enable_bitmapscan = off; SET {forced} = on"
        );
        session.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(parallel))).await.unwrap();
        // Not in a sub-select: so that the workers ask, too.
        let asks = "SELECT count(*) FROM many WHERE pgvalet.claim('tenant_id') = '1' AND pgvalet.lease_id() IS NOT NULL";
        let plan: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN {asks}")))
            .fetch_all(&mut session).await.unwrap();
        assert!(plan.iter().any(|line| line.contains("Gather")), "{plan:#?}");
        assert_eq!(text(&mut session, asks).await, "20000");
        assert_eq!(seen_of_other(&mut session).await, Vec::<String>::new());

        session.execute("SET plan_cache_mode = force_generic_plan; PREPARE mine AS SELECT min(tenant_id) FROM many").await.unwrap();
        let mine: i32 = sqlx::query_scalar("EXECUTE mine").persistent(false).fetch_one(&mut session).await.unwrap();
        assert_eq!(mine, 1);
        let role = one["credential"]["user"].as_str().unwrap();
        let mut superuser = world.on_target().await;
        let moved = format!("UPDATE pgvalet.lease_context SET claims = claims || '{{\"tenant_id\":\"2\"}}' WHERE role = '{role}'");
        superuser.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(moved))).await.unwrap();
        let mine: i32 = sqlx::query_scalar("EXECUTE mine").persistent(false).fetch_one(&mut session).await.unwrap();
        assert_eq!(mine, 2);
        world.finish().await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_is_empty_when_the_login_is_shut_out_or_its_time_is_over_and_goes_with_it() {
    on_every_version(async |target| {
        let (world, one, two) = walled(Plan { shop_on: Some(target), ..Plan::default() }).await;
        let role = one["credential"]["user"].as_str().unwrap();
        let mut session = sign_in(&one).await.unwrap();
        let told = "SELECT concat_ws('|', pgvalet.tenant_id(), pgvalet.user_id(), pgvalet.tool(), pgvalet.claim('profile'), \
                    pgvalet.lease_id(), pgvalet.claim('principal'))";
        let whole = format!("1|ann|api|{}|{}|person:ann", world.profile("tenant"), lease_id(&one));
        assert_eq!(text(&mut session, told).await, whole);
        assert_eq!(text(&mut session, "SELECT told_by_definer()").await, "1shop_owner");
        let mut superuser = world.on_target().await;
        for (shut, open) in [("NOLOGIN", "LOGIN"), ("VALID UNTIL 'yesterday'", "VALID UNTIL 'tomorrow'")] {
            for (terms, tells) in [(shut, ""), (open, whole.as_str())] {
                let change = format!("ALTER ROLE \"{role}\" {terms}");
                superuser.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(change))).await.unwrap();
                assert_eq!(text(&mut session, told).await, tells, "{terms}");
            }
        }
        assert_eq!(try_text(&mut superuser, "SELECT pgvalet.tenant_id()").await.unwrap_or_default(), "");
        let ann = person_of_tenant(&world, "ann", "1").await;
        let fresh = ann.rotate(&lease_id(&one)).await.expect(200);
        let mut rotated = sign_in(&fresh).await.unwrap();
        assert_eq!(text(&mut rotated, told).await, whole);
        for issued in [&one, &two] {
            world.admin.revoke(&lease_id(issued)).await.expect(200);
        }
        assert_eq!(text(&mut superuser, "SELECT count(*) FROM pgvalet.lease_context").await, "0");
        world.finish().await;
    })
    .await;
}

#[tokio::test]
async fn who_lacks_a_claim_gets_no_lease_and_is_told_which() {
    let world = World::start().await;
    let rights = json!({ "context": { "tenant_id": "{claim.tenant_id}" } });
    let settings =
        json!({ "app.tenant_id": "{claim.tenant_id}", "request.jwt.claims": "{context}" });
    world.put_profile("tenant", json!({ "rights": rights, "settings": settings })).await;
    let mut superuser = world.on_target().await;
    let granted =
        format!("GRANT SET ON PARAMETER app.tenant_id, request.jwt.claims TO {}", world.shop());
    // Before version 15 nobody but a superuser may give a login such settings.
    let may_set = superuser.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(granted))).await.is_ok();
    let nobody = world.person("nobody", &[]).await;
    let refused = nobody.ask(&world.profile("tenant"), json!({})).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(
        refused.text.contains("claim_missing") && refused.text.contains("tenant_id"),
        "{}",
        refused.text
    );
    assert_eq!(world.roles().await, Vec::<String>::new());

    if !may_set {
        return world.finish().await;
    }
    let issued = of_tenant(&world, "ann", "7").await;
    let mut session = sign_in(&issued).await.unwrap();
    assert_eq!(text(&mut session, "SELECT current_setting('app.tenant_id')").await, "7");
    let json =
        text(&mut session, "SELECT current_setting('request.jwt.claims')::json ->> 'tenant_id'")
            .await;
    assert_eq!(json, "7");
    world.finish().await;
}

#[tokio::test]
async fn a_schema_that_is_gone_or_somebody_elses_is_told_and_holds_up_no_removal() {
    let (world, one, _two) = walled(Plan::default()).await;
    let mut superuser = world.on_target().await;
    superuser.execute(sqlx::raw_sql("DROP SCHEMA pgvalet CASCADE")).await.unwrap();
    let asked = world
        .admin
        .post(
            "/v1/tokens",
            &json!({
        "name": "t", "principal": "person:eve", "claims": { "tenant_id": "1" } }),
        )
        .await
        .expect(201);
    let eve = world.admin.with_token(asked["secret"].as_str().unwrap());
    let refused = eve.ask(&world.profile("tenant"), json!({})).await;
    assert!(refused.text.contains("context_missing"), "{}", refused.text);
    world.admin.revoke(&lease_id(&one)).await.expect(200);

    superuser
        .execute(sqlx::raw_sql("CREATE SCHEMA pgvalet AUTHORIZATION shop_owner"))
        .await
        .unwrap();
    let again = world.admin.put(&format!("/v1/profiles/{}", world.profile("tenant")), &json!({
        "name": world.profile("tenant"), "target": world.name, "database": world.shop(), "preset": "readonly",
        "schemas": ["public"], "ttl": "1h", "max_ttl": "8h", "connection_limit": 5, "allow": ["anyone"],
        "rights": { "context": { "tenant_id": "{claim.tenant_id}" } } })).await;
    assert!(again.text.contains("belongs to `shop_owner`"), "{}", again.text);
    superuser.execute(sqlx::raw_sql("DROP SCHEMA pgvalet")).await.unwrap();
    let rights = json!({ "context": { "tenant_id": "{claim.tenant_id}" } });
    world.put_profile("tenant", json!({ "rights": rights })).await;
    eve.ask(&world.profile("tenant"), json!({})).await.expect(201);
    world.finish().await;
}
