//! What cannot be right is refused before anything is changed, by the key that is wrong.

use crate::{
    policies::{OWNED, code, in_world, world_on},
    support::{sessions::text, versions::on_every_version, world::World},
};

#[tokio::test]
async fn what_cannot_be_right_is_refused_before_anything_is_changed() {
    on_every_version(async |target| {
        let world = world_on(target).await;
        let shop = world.shop();
        let before = [
            "CREATE POLICY theirs ON walled.owned USING (true)",
            "CREATE POLICY marked ON walled.owned USING (true); \
             COMMENT ON POLICY marked ON walled.owned IS 'pgvalet: profile other, 0123, 4567'",
            &format!("CREATE ROLE {shop}_else; CREATE TABLE walled.foreign_owned (id int); \
             ALTER TABLE walled.foreign_owned OWNER TO {shop}_else; CREATE TABLE walled.mighty (id int)"),
        ];
        world.target.run(&shop, &before).await;
        let let_act = format!("GRANT \"{shop}_else\" TO \"{shop}\"");
        for (tables, policy, key, says) in [
            ("\"ownd\"", "form = \"all-rows\"", "tables", "has no table `ownd`; did you mean `owned`?"),
            ("\"shown\"", "form = \"all-rows\"", "tables", "`shown` is a view"),
            ("\"foreign_owned\"", "form = \"all-rows\"", "tables", let_act.as_str()),
            ("\"mighty\"", "form = \"all-rows\"", "tables", "belongs to the superuser"),
            ("\"owned\"", "form = \"owner\", column = \"ownr\"", "policy[0].column", "has no column `ownr`; did you mean `owner`?"),
            ("\"owned\"", "form = \"public-rows\", column = \"note\"", "policy[0].column", "is text"),
            ("\"owned\"", "form = \"owner\", column = \"is_public\", roles = [\"shop_suport\"]", "policy[0].roles", "did you mean `shop_support`?"),
            ("\"owned\"", "form = \"team\", column = \"owner\", function = \"walled.my_team\"", "policy[0].function", "did you mean `walled.my_teams`?"),
            ("\"owned\"", "form = \"team\", column = \"owner\", function = \"walled.my_list\"", "policy[0].function", "RETURNS SETOF"),
            ("\"owned\"", "form = \"team\", column = \"note\", function = \"walled.my_teams\"", "policy[0].function", "operator does not exist: text = integer"),
            ("\"owned\"", "form = \"office-hours\", from = \"08:00\", timezone = \"Europe/Nowhere\"", "policy[0].timezone", "not recognized"),
            ("\"owned\"", "using = \"ownr = 1\"", "policy[0].using", "column \"ownr\" does not exist, at character 1"),
            ("\"owned\"", "using = \"true AND owner = = 1\"", "policy[0].using", "syntax error"),
            ("\"owned\"", "using = \"true) OR (true\"", "policy[0].using", "`)` at character 5 closes nothing"),
            ("\"owned\"", "using = \"true); DROP TABLE walled.owned; SELECT (1\"", "policy[0].using", "closes nothing"),
            ("\"owned\"", "using = \"walled.nothing(id)\"", "policy[0].using", "function walled.nothing(integer) does not exist"),
            ("\"owned\"", "using = \"count(*) > 1\"", "policy[0].using", "aggregate functions are not allowed"),
            ("\"owned\"", "using = \"id\"", "policy[0].using", "must be type boolean"),
            ("\"owned\"", "using = \"true\", with_check = \"id > 'x'\"", "policy[0].with_check", "invalid input syntax for type integer"),
            ("\"owned\"", "command = \"select\", using = \"(SELECT pgvalet.clam('a')) = 'b'\"", "policy[0].using", "schema pgvalet has no `clam`: it has claim(text)"),
        ] {
            refused(&world, tables, &format!("name = \"p\", {policy}"), (key, says)).await;
        }
        for (name, says) in [("theirs", "which is not pgvalet's"), ("marked", "which is profile `other`'s")] {
            let policy = format!("name = \"{name}\", form = \"all-rows\"");
            refused(&world, "\"owned\"", &policy, ("policy[0].name", says)).await;
        }
        let twice = in_world(&world, OWNED) + &in_world(&world, OWNED).replace("[\"owned\"]", "\"all\"\nforce = false");
        is_refused(&world, &twice, &["rls[1].force", "rls[1].policy[0].name", "rls[0]"]).await;
        let nowhere = in_world(&world, OWNED).replace("\"walled\"", "\"waled\"");
        is_refused(&world, &nowhere, &["rls[0].schema", "did you mean `walled`?"]).await;

        let mut target = world.on_target().await;
        let changed = "SELECT count(*) FILTER (WHERE relrowsecurity) || ' ' || (SELECT count(*) FROM pg_policy WHERE polrelid::regclass::text LIKE 'walled.%') \
                       FROM pg_class WHERE relnamespace = 'walled'::regnamespace";
        assert_eq!(text(&mut target, changed).await, "0 2");
        world.target.run(&shop, &[&format!("DROP OWNED BY {shop}_else; DROP ROLE {shop}_else")]).await;
        world.finish().await;
    })
    .await;
}

async fn refused(world: &World, tables: &str, policy: &str, (key, says): (&str, &str)) {
    let file = format!(
        "[[profile.{}-rows.rls]]\nschema = \"walled\"\ntables = [{tables}]\npolicy = [{{ {policy} }}]\n",
        world.name
    );
    is_refused(world, &file, &[&format!("rls[0].{key}"), says]).await;
}

async fn is_refused(world: &World, rls: &str, says: &[&str]) {
    for verb in ["plan", "apply"] {
        let answer = code(world, verb, rls).await.to_string().replace("\\\"", "\"");
        for said in says {
            assert!(answer.contains(said), "{verb} {rls} does not say `{said}`: {answer}");
        }
    }
}
