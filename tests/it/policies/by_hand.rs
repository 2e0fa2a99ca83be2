//! What was changed by hand, and what a file says no more.

use sqlx::PgConnection;

use crate::{
    policies::{OWNED, apply, code, group, in_world, notes, statements, world_on},
    support::{postgres::shared, sessions::text, versions::on_every_version},
};

#[tokio::test]
async fn what_was_changed_by_hand_is_found_and_mended() {
    on_every_version(async |target| {
        let world = world_on(target).await;
        let file = in_world(&world, OWNED);
        apply(&world, &file).await;
        let mut target = world.on_target().await;
        let made = policy(&mut target).await;
        let mend = "is made anew";
        for (by_hand, shows, told) in [
            (
                "ALTER POLICY mine ON walled.owned USING (true)",
                "CREATE POLICY",
                "(its expressions)",
            ),
            (
                "ALTER POLICY mine ON walled.owned WITH CHECK (true)",
                "CREATE POLICY",
                "(its expressions)",
            ),
            ("ALTER POLICY mine ON walled.owned TO PUBLIC", "CREATE POLICY", "(its roles)"),
            (
                "ALTER POLICY mine ON walled.owned TO {g}, shop_support",
                "CREATE POLICY",
                "(its roles)",
            ),
            (&remade("FOR SELECT TO {g}"), "CREATE POLICY", "(its command)"),
            (&remade("AS RESTRICTIVE TO {g}"), "CREATE POLICY", "(its effect)"),
            ("DROP POLICY mine ON walled.owned", "CREATE POLICY", ""),
            (
                "ALTER TABLE walled.owned DISABLE ROW LEVEL SECURITY",
                "ENABLE ROW LEVEL SECURITY",
                "",
            ),
            (
                "ALTER TABLE walled.owned NO FORCE ROW LEVEL SECURITY",
                "FORCE ROW LEVEL SECURITY",
                "",
            ),
        ] {
            let by_hand = by_hand.replace("{g}", &group(&world));
            world.target.run(&world.shop(), &[&by_hand]).await;
            let planned = code(&world, "plan", &file).await;
            let all = statements(&planned).join("; ");
            assert!(all.contains(shows), "{by_hand}: {planned:#}");
            let told = told.is_empty()
                || notes(&planned).iter().any(|note| note.contains(told) && note.contains(mend));
            assert!(told, "{by_hand}: {planned:#}");
            apply(&world, &file).await;
            assert_eq!(policy(&mut target).await, made, "{by_hand}");
        }
        world.finish().await;
    })
    .await;
}

/// The policy under its mark, but otherwise.
fn remade(otherwise: &str) -> String {
    format!(
        "DO $$ DECLARE mark text; was text; BEGIN
           SELECT obj_description(oid, 'pg_policy'), pg_get_expr(polqual, polrelid) INTO mark, was FROM pg_policy
             WHERE polrelid = 'walled.owned'::regclass;
           DROP POLICY mine ON walled.owned;
           EXECUTE 'CREATE POLICY mine ON walled.owned {otherwise} USING (' || was || ')';
           EXECUTE format('COMMENT ON POLICY mine ON walled.owned IS %L', mark);
         END $$"
    )
}

/// All that the catalogue has of the one policy, and the flags of its table.
async fn policy(target: &mut PgConnection) -> String {
    text(
        target,
        "SELECT concat_ws(' ', polpermissive, polcmd, polroles, pg_get_expr(polqual, polrelid),
                pg_get_expr(polwithcheck, polrelid), obj_description(p.oid, 'pg_policy'), relrowsecurity,
                relforcerowsecurity)
         FROM pg_policy p JOIN pg_class c ON c.oid = polrelid WHERE polrelid = 'walled.owned'::regclass",
    )
    .await
}

#[tokio::test]
async fn what_a_file_no_longer_says_is_dropped_and_the_wall_stays() {
    let world = world_on(shared().await).await;
    let shop = world.shop();
    apply(&world, &in_world(&world, OWNED)).await;
    let foreign = "CREATE POLICY theirs ON walled.owned FOR SELECT USING (id = 1)";
    world.target.run(&shop, &[foreign]).await;
    let other = in_world(&world, OWNED).replace("\"mine\"", "\"renamed\"");
    let applied = statements(&apply(&world, &other).await);
    assert!(
        applied[0].starts_with("DROP POLICY \"mine\"") && applied[1].contains("\"renamed\""),
        "{applied:?}"
    );

    let applied = apply(&world, "").await;
    assert_eq!(statements(&applied), ["DROP POLICY \"renamed\" ON \"walled\".\"owned\""]);
    let told = notes(&applied).join("; ");
    assert!(
        told.contains("walled.owned is no longer named")
            && told.contains("DISABLE ROW LEVEL SECURITY"),
        "{told}"
    );
    let mut target = world.on_target().await;
    let left =
        "SELECT string_agg(polname, ' ') FROM pg_policy WHERE polrelid = 'walled.owned'::regclass";
    assert_eq!(text(&mut target, left).await, "theirs");
    let is_on = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'walled.owned'::regclass";
    assert_eq!(text(&mut target, is_on).await, "true");
    world.finish().await;
}
