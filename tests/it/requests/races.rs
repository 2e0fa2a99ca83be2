//! Whoever is first decides, and nobody else: at most one decision, and at most one lease.

use futures_util::future::{join, join_all, join3};
use serde_json::json;

use crate::{
    requests::{approve, approver, claim, deny, guarded, request, state},
    support::world::World,
};

/// As many rounds as `PGVALET_TEST_ROUNDS` says, for those who have the time.
fn rounds() -> usize {
    let asked = std::env::var("PGVALET_TEST_ROUNDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(60)
}

#[tokio::test]
async fn two_who_agree_and_one_who_does_not_make_one_decision_and_at_most_one_lease() {
    let world = World::start().await;
    guarded(&world).await;
    let profile = world.profile("guarded");
    let (dora, dan, dave) = (
        approver(&world, "dora", &["dba"]).await,
        approver(&world, "dan", &["dba"]).await,
        approver(&world, "dave", &["dba"]).await,
    );
    let mut asking = Vec::new();
    for n in 0..4 {
        asking.push(world.person(&format!("asker-{n}"), &[]).await);
    }
    let each = rounds().div_ceil(asking.len());
    let one_after_the_other = |ann: crate::support::people::Person| {
        let (profile, dora, dan, dave) = (&profile, &dora, &dan, &dave);
        async move {
            let mut fetched = 0;
            for _ in 0..each {
                let id = request(&ann, profile, json!({ "ttl": "1m" })).await;
                let said = join3(approve(dora, &id), deny(dave, &id), approve(dan, &id)).await;
                let said = [said.0, said.1, said.2];
                let first = said.iter().filter(|answer| answer.status == 200).count();
                assert_eq!(first, 1, "{said:?}");
                for late in said.iter().filter(|answer| answer.status != 200) {
                    assert_eq!(late.body["code"], "request_over", "{}", late.text);
                }
                let denied = said[1].status == 200;
                let (one, other) = join(claim(&ann, &id), claim(&ann, &id)).await;
                let leases = [&one, &other].iter().filter(|answer| answer.status == 201).count();
                assert_eq!(leases, usize::from(!denied), "{} {}", one.text, other.text);
                assert_eq!(state(&ann, &id).await, if denied { "denied" } else { "claimed" });
                let lease = [one, other].into_iter().find(|answer| answer.status == 201);
                if let Some(lease) = lease {
                    fetched += 1;
                    let id = crate::support::people::lease_id(&lease.body);
                    ann.revoke(&id).await;
                }
            }
            fetched
        }
    };
    let fetched: usize = join_all(asking.into_iter().map(one_after_the_other)).await.iter().sum();
    let mut state = world.on_state().await;
    let count = "SELECT count(*) FROM lease WHERE cause IS DISTINCT FROM 'failed'";
    let recorded: i64 = sqlx::query_scalar(count).fetch_one(&mut state).await.unwrap();
    assert_eq!(usize::try_from(recorded).unwrap(), fetched);
    world.finish().await;
}
