//! What can be said and clicked: from a question to a login, and back.

use serde_json::json;

use crate::{
    slack::{Place, buttons, request_in, whole},
    support::{eventually, seconds},
};

#[tokio::test]
async fn somebody_asks_another_agrees_and_the_login_is_claimed_outside_of_slack() {
    let place = Place::start().await;
    let profile = place
        .guarded(
            &["group:globex"],
            json!({ "description": "Read <all> of it", "reason": "required" }),
        )
        .await;
    place.link("U0ADA", "sub-ada").await;
    place.link("U0GUS", "sub-gus").await;

    // Slack sends it three times; it is asked once.
    let sending = place.slack.command("U0ADA", &format!("{profile} 30m because INC-123 & more"));
    let before = place.slack.answers("U0ADA").len();
    for _ in 0..3 {
        assert_eq!(place.slack.send(&sending).await.status, Some(200));
    }
    let said = place.answer_after("U0ADA", before).await;
    assert!(said.contains("waits for an answer"), "{said}");
    let request = request_in(&said);
    let posted = place.shows(&request, "Waits for an answer").await;
    assert_eq!(buttons(&posted), ["approve", "deny", "view"]);
    for words in
        ["person:ada", "Read &lt;all&gt; of it", "30m", "INC-123 &amp; more", "1 of group:globex"]
    {
        assert!(whole(&posted).contains(words), "{words}: {}", whole(&posted));
    }
    let own = place.world.admin.get("/v1/requests?limit=100").await.expect(200);
    assert_eq!(own["items"].as_array().unwrap().len(), 1, "{own}");

    // Nobody agrees to their own; and a second click on what is decided decides nothing.
    let said = place.clicks("U0ADA", &posted.ts, "approve").await;
    assert!(said.starts_with(":warning:"), "{said}");
    let said = place.clicks("U0GUS", &posted.ts, "approve").await;
    assert!(said.contains("is approved now"), "{said}");
    place.clicks("U0GUS", &posted.ts, "approve").await;
    let changed = place.shows(&request, "*Approved*").await;
    assert_eq!(
        (changed.ts.as_str(), buttons(&changed).as_slice()),
        (posted.ts.as_str(), &["view".to_owned()][..])
    );
    assert!(whole(&changed).contains("person:gus"), "{}", whole(&changed));

    // She is told, herself and once, and gets the login where she signed in.
    eventually("ada is told", seconds(20), async || {
        !place.slack.direct_messages("U0ADA").is_empty()
    })
    .await;
    let told = place.slack.direct_messages("U0ADA");
    assert!(whole(&told[0]).contains(&format!("pgvalet claim {request}")), "{}", whole(&told[0]));
    let ada = place.session("sub-ada").await;
    let claimed = ada.post(&format!("/v1/requests/{request}/claim"), &json!({})).await;
    assert!([200, 201].contains(&claimed.status), "{}", claimed.text);
    place.shows(&request, "*claimed*").await;

    let mine = place.says("U0ADA", "mine").await;
    assert!(mine.contains("lse_") && !mine.contains("acc_"), "{mine}");
    let back = place.says("U0ADA", "give-back").await;
    assert!(back.contains("ends now"), "{back}");
    eventually("the lease is over", seconds(20), async || place.world.live().await.is_empty())
        .await;
    assert_eq!(place.about(&request).len(), 1);
    assert_eq!(place.slack.direct_messages("U0ADA").len(), 1);
    place.finish().await;
}

#[tokio::test]
async fn a_no_has_its_reason_and_words_that_are_missing_are_asked_for() {
    let place = Place::start().await;
    let profile = place.guarded(&["group:globex"], json!({ "reason": "required" })).await;
    place.link("U0ADA", "sub-ada").await;
    place.link("U0GUS", "sub-gus").await;

    // Without a reason there is a form, which begins with what was written.
    assert_eq!(place.slack.write("U0ADA", &format!("{profile} 20m")).await.status, Some(200));
    let mut forms = Vec::new();
    eventually("a form", seconds(20), async || {
        forms = place.slack.forms("U0ADA");
        !forms.is_empty()
    })
    .await;
    let view = forms[0].view.to_string();
    assert!(view.contains(&profile) && view.contains("20m"), "{view}");
    let before = place.slack.answers("U0ADA").len();
    let fields = [("profile", profile.as_str()), ("ttl", "20m"), ("reason", "the total is wrong")];
    assert_eq!(place.slack.fill_in(&forms[0].id, &fields).await.status, Some(200));
    let request = request_in(&place.answer_after("U0ADA", before).await);
    let posted = place.shows(&request, "the total is wrong").await;

    assert_eq!(place.slack.click("U0GUS", &posted.ts, "deny").await.status, Some(200));
    eventually("a form to say why", seconds(20), async || !place.slack.forms("U0GUS").is_empty())
        .await;
    assert_eq!(place.state(&request).await, "pending");
    let form = place.slack.forms("U0GUS").remove(0);
    let before = place.slack.answers("U0GUS").len();
    place.slack.fill_in(&form.id, &[("comment", "use <!channel> instead")]).await;
    assert!(place.answer_after("U0GUS", before).await.contains("is denied now"));
    let changed = place.shows(&request, "*denied*").await;
    assert!(whole(&changed).contains("use &lt;!channel&gt; instead"), "{}", whole(&changed));
    eventually("ada is told", seconds(20), async || {
        place
            .slack
            .direct_messages("U0ADA")
            .iter()
            .any(|told| whole(told).contains("use &lt;!channel&gt;"))
    })
    .await;
    place.finish().await;
}

#[tokio::test]
async fn what_is_decided_elsewhere_is_shown_and_what_is_sensitive_is_not_decided_here() {
    let place = Place::start().await;
    let profile = place.guarded(&["group:globex"], json!({})).await;
    place.link("U0ADA", "sub-ada").await;
    place.link("U0GUS", "sub-gus").await;
    let request = request_in(&place.says("U0ADA", &profile).await);
    place.shows(&request, "Waits for an answer").await;
    let gus = place.session("sub-gus").await;
    let comment = json!({ "comment": "not today" });
    gus.post(&format!("/v1/requests/{request}/deny"), &comment).await.expect(200);
    let changed = place.shows(&request, "*denied*").await;
    assert_eq!(buttons(&changed), ["view"]);
    assert!(whole(&changed).contains("not today"));

    // She takes one back herself.
    let request = request_in(&place.says("U0ADA", &profile).await);
    assert!(place.says("U0ADA", "withdraw").await.contains("is withdrawn"));
    place.shows(&request, "*withdrawn*").await;

    // With a link alone, a button that somebody makes up is no way either.
    let link = json!({ "conditions": { "approval": {
        "steps": [{ "from": ["group:globex"], "count": 1 }], "lapse_after": "4h", "use_within": "1h",
        "in_chat": "link",
    } } });
    place.guarded(&["group:globex"], link).await;
    let request = request_in(&place.says("U0ADA", &profile).await);
    let sensitive = place.shows(&request, "Waits for an answer").await;
    assert_eq!(buttons(&sensitive), ["view"]);
    let before = place.slack.answers("U0GUS").len();
    place.slack.send(&place.slack.pressed("U0GUS", "approve", &request)).await;
    let said = place.answer_after("U0GUS", before).await;
    assert!(said.starts_with(":warning:"), "{said}");
    assert_eq!(place.state(&request).await, "pending");

    // To what nobody has to agree, there is nothing to wait for, and no credential comes this way.
    let said =
        place.says("U0ADA", &format!("{} 10m because why not", place.world.profile("read"))).await;
    assert!(said.contains("pgvalet connect") && said.contains("--ttl 10m"), "{said}");
    assert!(place.world.live().await.is_empty());
    assert!(place.says("U0ADA", "help").await.contains("/pgvalet mine"));
    assert!(place.says("U0ADA", &format!("{profile} please")).await.contains("I cannot read"));
    assert!(place.says("U0ADA", "no-such-profile").await.contains("no-such-profile"));
    place.finish().await;
}
