//! A record that an earlier release wrote is brought up to date, with what stands in it.

use std::path::Path;

use sqlx::{Connection as _, migrate::Migrator};

use crate::support::postgres::shared;

/// The latest migration of the release before.
const BEFORE: i64 = 12;

#[tokio::test]
async fn what_an_earlier_release_recorded_is_brought_up_to_date() {
    let (postgres, name) = (shared().await, "upgrading_from_0012");
    let password = postgres.make_state(name).await;
    let mut owner = postgres.connect(name, name, password.as_str()).await.unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let whole = Migrator::new(folder).await.unwrap();
    whole.run_to(BEFORE, &mut owner).await.unwrap();
    postgres.run(name, &[include_str!("from_0012.sql")]).await;

    whole.run(&mut owner).await.unwrap();
    let text = async |owner: &mut sqlx::PgConnection, query: &'static str| -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(owner).await.unwrap()
    };
    // What somebody agreed to who was shut out since counts no more; what was used is over.
    let states = "SELECT state || CASE WHEN ended_at IS NULL THEN '' ELSE ', over' END FROM request ORDER BY id";
    assert_eq!(text(&mut owner, states).await, ["pending", "pending", "pending", "claimed, over"]);
    let void = "SELECT (void_at IS NOT NULL)::text FROM vote ORDER BY request_id";
    assert_eq!(text(&mut owner, void).await, ["true", "true", "true", "false"]);
    // Of whom the token is not known that was asked with, whoever made any of theirs does not decide.
    let makers = "SELECT DISTINCT cardinality(asker_makers)::text FROM request";
    assert_eq!(text(&mut owner, makers).await, ["1"]);
    let makers = "SELECT subject FROM principal WHERE id = ANY (token_makers_of(
                      '00000000-0000-7000-8000-000000000001')) ORDER BY 1";
    assert_eq!(text(&mut owner, makers).await, ["boss", "bot"]);
    // Somebody was leaving who knows a password that was not replaced yet.
    let known = "SELECT lease_id || ' ' || (kept_at IS NOT NULL) FROM standing_reading";
    let known = text(&mut owner, known).await;
    assert_eq!(known, ["00000000-0000-7000-a000-000000000003 true"]);
    owner.close().await.unwrap();
    postgres.drop_database(name).await;
    postgres.run("postgres", &[&format!("DROP ROLE {name}")]).await;
}
