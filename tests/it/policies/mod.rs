//! Row-level security as code, on every version: what a file says of rows is what the target does, what was
//! changed by hand is found and mended, and what cannot be right is refused before anything is changed.

mod by_hand;
mod refused;
mod told;

use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::support::{
    postgres::Postgres,
    sessions::{sign_in, text, try_text},
    versions::on_every_version,
    world::{Plan, World},
};

/// Tables for each form. Every table has rows 1 to 6 of tenants 1 and 2; owners are 1, 2 and 3.
const TABLES: &str = "
    CREATE SCHEMA walled AUTHORIZATION shop_owner;
    SET ROLE shop_owner;
    CREATE FUNCTION walled.my_teams() RETURNS SETOF integer STABLE LANGUAGE sql AS 'VALUES (1), (3)';
    CREATE FUNCTION walled.my_list() RETURNS integer[] STABLE LANGUAGE sql AS 'SELECT ARRAY[1, 3]';
    GRANT USAGE ON SCHEMA walled TO PUBLIC;
    DO $$
    DECLARE t text;
    BEGIN
      FOREACH t IN ARRAY ARRAY['open', 'owned', 'tenants', 'teams', 'roles', 'hours', 'written', 'parted'] LOOP
        EXECUTE format('CREATE TABLE walled.%I (id integer, owner bigint, tenant_id integer, is_public boolean, note text)%s',
          t, CASE WHEN t = 'parted' THEN ' PARTITION BY LIST (tenant_id)' END);
        IF t = 'parted' THEN
          CREATE TABLE walled.parted_1 PARTITION OF walled.parted FOR VALUES IN (1);
          CREATE TABLE walled.parted_2 PARTITION OF walled.parted FOR VALUES IN (2);
        END IF;
        EXECUTE format('INSERT INTO walled.%I SELECT n, 1 + n %% 3, 1 + n %% 2, n = 6, ''note'' FROM generate_series(1, 6) n', t);
        EXECUTE format('CREATE INDEX ON walled.%I (owner)', t);
        EXECUTE format('CREATE INDEX ON walled.%I (tenant_id)', t);
      END LOOP;
    END $$;
    CREATE VIEW walled.shown AS SELECT 1 AS one;
    RESET ROLE";

/// A world whose shop has the tables, and what the policies ask.
async fn world_on(target: std::sync::Arc<Postgres>) -> World {
    let world = World::with(Plan { shop_on: Some(target), ..Plan::default() }).await;
    world.target.run(&world.shop(), &[TABLES]).await;
    world
}

/// A file with one profile, `rows`, and what it says of rows.
fn file(world: &World, rls: &str) -> String {
    let (name, shop) = (&world.name, world.shop());
    format!(
        "[profile.{name}-rows]\ntarget = \"{name}\"\ndatabase = \"{shop}\"\npreset = \"readwrite\"\n\
         schemas = [\"walled\"]\nttl = \"1h\"\naccess.allow = [\"anyone\"]\n\
         context = {{ user_id = \"{{claim.user_id}}\", tenant_id = \"{{claim.tenant_id}}\", role = \"{{claim.role}}\" }}\n\n{rls}"
    )
}

async fn code(world: &World, verb: &str, rls: &str) -> Value {
    let body = json!({ "name": "rows.toml", "text": file(world, rls), "secrets": {} });
    world.admin.post(&format!("/v1/{verb}"), &body).await.body
}

/// The statements of a plan, or of what was applied.
fn statements(answer: &Value) -> Vec<String> {
    lines(answer, "statements")
}

fn notes(answer: &Value) -> Vec<String> {
    lines(answer, "notes")
}

fn lines(answer: &Value, what: &str) -> Vec<String> {
    let line = &answer["lines"][0];
    let list = line[what].as_array().unwrap_or_else(|| panic!("{answer:#}"));
    list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// Applies a file, and sees that a second time does nothing.
async fn apply(world: &World, rls: &str) -> Value {
    let planned = statements(&code(world, "plan", rls).await);
    let applied = code(world, "apply", rls).await;
    assert_eq!(statements(&applied), planned, "what is shown is what is run: {applied:#}");
    assert_eq!(statements(&code(world, "plan", rls).await), Vec::<String>::new());
    assert_eq!(statements(&code(world, "apply", rls).await), Vec::<String>::new());
    applied
}

/// Every form and every key.
const EVERYTHING: &str = r#"
[[profile.{p}.rls]]
schema = "walled"
tables = ["open", "owned", "te?m*", "tenants", "roles", "hours", "written", "parted"]

[[profile.{p}.rls.policy]]
name = "all"
form = "all-rows"
command = "select"
effect = "permissive"

[[profile.{p}.rls]]
schema = "walled"
tables = ["open"]
policy = [
  { name = "public", form = "public-rows", column = "is_public", effect = "restrictive" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["owned"]
policy = [
  { name = "mine", form = "owner", column = "owner", effect = "restrictive" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["tenants", "parted"]
policy = [
  { name = "wall", form = "tenant", column = "tenant_id", claim = "tenant_id", roles = ["public"] },
  { name = "write", form = "owner", column = "owner", command = "insert" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["teams"]
policy = [
  { name = "team", form = "team", column = "owner", function = "walled.my_teams", effect = "restrictive" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["roles"]
policy = [
  { name = "managers", form = "role-in-tenant", column = "tenant_id", values = ["owner", "manager"], effect = "restrictive" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["hours"]
policy = [
  { name = "never", form = "office-hours", from = "00:00", to = "00:00", days = ["mon", "sun"], timezone = "Europe/Berlin" },
]

[[profile.{p}.rls]]
schema = "walled"
tables = ["written"]
policy = [
  { name = "by hand", effect = "restrictive", command = "all", roles = ["shop_support", "{g}"], using = "id > 2 -- not the first two", with_check = "owner = (SELECT pgvalet.claim('user_id'))::bigint" },
  { name = "change", command = "update", using = "true", with_check = "id < 100" },
]
"#;

fn everything(world: &World) -> String {
    let profile = format!("{}-rows", world.name);
    EVERYTHING.replace("{p}", &profile).replace("{g}", &group(world))
}

fn group(world: &World) -> String {
    format!("pgvg_{}_rows", world.name)
}

async fn ids(session: &mut PgConnection, table: &str) -> String {
    let query = format!("SELECT string_agg(id::text, ' ' ORDER BY id) FROM walled.{table}");
    try_text(session, &format!("coalesce(({query}), '')")).await.unwrap()
}

#[tokio::test]
async fn a_file_with_everything_is_what_the_target_does() {
    on_every_version(async |target| {
        let world = world_on(target).await;
        apply(&world, &everything(&world)).await;
        agrees(&world).await;
        filters(&world).await;
        world.finish().await;
    })
    .await;
}

/// `pg_policies` and the tables' flags say what the file says.
async fn agrees(world: &World) {
    let mut target = world.on_target().await;
    let flags = "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class \
                 WHERE relnamespace = 'walled'::regnamespace AND relrowsecurity AND relforcerowsecurity";
    assert_eq!(
        text(&mut target, flags).await,
        "hours open owned parted roles teams tenants written"
    );
    let policies = "SELECT string_agg(concat_ws(' ', tablename, '/', policyname, '/', permissive, cmd, roles), E'\n' \
                    ORDER BY tablename, policyname) FROM pg_policies WHERE schemaname = 'walled'";
    let group = group(world);
    let mut expected: Vec<String> =
        ["hours", "open", "owned", "parted", "roles", "teams", "tenants", "written"]
            .iter()
            .map(|table| format!("{table} / all / PERMISSIVE SELECT {{{group}}}"))
            .chain([
                format!("hours / never / RESTRICTIVE ALL {{{group}}}"),
                format!("open / public / RESTRICTIVE SELECT {{{group}}}"),
                format!("owned / mine / RESTRICTIVE ALL {{{group}}}"),
                "parted / wall / RESTRICTIVE ALL {public}".to_owned(),
                format!("parted / write / PERMISSIVE INSERT {{{group}}}"),
                format!("roles / managers / RESTRICTIVE ALL {{{group}}}"),
                format!("teams / team / RESTRICTIVE ALL {{{group}}}"),
                "tenants / wall / RESTRICTIVE ALL {public}".to_owned(),
                format!("tenants / write / PERMISSIVE INSERT {{{group}}}"),
                format!("written / by hand / RESTRICTIVE ALL {{shop_support,{group}}}"),
                format!("written / change / PERMISSIVE UPDATE {{{group}}}"),
            ])
            .collect();
    expected.sort();
    let mut said: Vec<String> =
        text(&mut target, policies).await.lines().map(str::to_owned).collect();
    // PostgreSQL shows the roles of a policy by their number.
    for line in &mut said {
        *line = line
            .replace(&format!("{{{group},shop_support}}"), &format!("{{shop_support,{group}}}"));
    }
    said.sort();
    assert_eq!(said, expected);
}

/// A lease of somebody of tenant 1.
async fn issued(world: &World) -> Value {
    let claims = json!({ "user_id": "1", "tenant_id": "1", "role": "manager" });
    let body = json!({ "name": "test", "principal": "person:ann", "claims": claims });
    let made = world.admin.post("/v1/tokens", &body).await.expect(201);
    let ann = world.admin.with_token(made["secret"].as_str().unwrap());
    ann.ask(&world.profile("rows"), json!({})).await.expect(201)
}

/// Each form lets a leased login see and write what it should.
async fn filters(world: &World) {
    let mut session = sign_in(&issued(world).await).await.unwrap();
    for (table, seen) in [
        ("open", "6"),
        ("owned", "3 6"),
        ("tenants", "2 4 6"),
        ("teams", "2 3 5 6"),
        ("roles", "2 4 6"),
        ("hours", ""),
        ("written", "3 4 5 6"),
        ("parted", "2 4 6"),
    ] {
        assert_eq!(ids(&mut session, table).await, seen, "{table}");
    }
    for (statement, may) in [
        ("INSERT INTO walled.tenants (id, owner, tenant_id) VALUES (7, 1, 1) RETURNING id", true),
        ("INSERT INTO walled.tenants (id, owner, tenant_id) VALUES (7, 1, 2) RETURNING id", false),
        ("INSERT INTO walled.tenants (id, owner, tenant_id) VALUES (7, 2, 1) RETURNING id", false),
        ("INSERT INTO walled.parted (id, owner, tenant_id) VALUES (7, 1, 2) RETURNING id", false),
        ("UPDATE walled.written SET owner = 1 WHERE id = 3 RETURNING id", true),
        ("UPDATE walled.written SET owner = 2 WHERE id = 3 RETURNING id", false),
    ] {
        let done = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(&mut session).await;
        assert_eq!(done.is_ok(), may, "{statement}: {done:?}");
    }
}

/// One table, and a policy that holds for the group.
const OWNED: &str = r#"
[[profile.{p}.rls]]
schema = "walled"
tables = ["owned"]
policy = [
  { name = "mine", form = "owner", column = "owner" },
]
"#;

fn in_world(world: &World, rls: &str) -> String {
    rls.replace("{p}", &format!("{}-rows", world.name)).replace("{g}", &group(world))
}
