//! What people write stays text, however long and whatever Slack would make of it.

use serde_json::json;

use crate::slack::{Place, request_in, whole};

const HOSTILE: &str = "<!channel> <!here> @here <@U0GUS> <https://evil.example|good> https://evil.example ``` *b* &amp; \u{202e}evil ";

#[tokio::test]
async fn twenty_thousand_hostile_characters_mention_nobody_and_link_nowhere() {
    let place = Place::start().await;
    let description = HOSTILE.repeat(5);
    let profile = place.guarded(&["group:globex"], json!({ "description": description })).await;
    place.link("U0ADA", "sub-ada").await;
    place.link("U0GUS", "sub-gus").await;

    // Longer than a reason may be: she is told, and nobody is asked.
    let long = HOSTILE.repeat(200);
    assert!(long.len() > 20_000);
    let said = place.says("U0ADA", &format!("{profile} because {long}")).await;
    assert!(said.starts_with(":warning:") && said.contains("reason"), "{said}");
    let said = place.says("U0ADA", &long).await;
    assert!(said.starts_with(":warning:"), "{said}");
    // As long as it may be.
    let reason: String = long.chars().filter(|c| *c != '\u{202e}').take(990).collect();
    let ticket = "<!channel>`".repeat(10);
    let request = request_in(
        &place.says("U0ADA", &format!("{profile} ticket {ticket} because {reason}")).await,
    );
    let posted = place.shows(&request, "Waits for an answer").await;
    let all = whole(&posted);
    assert!(all.contains("&lt;!channel&gt;") && all.contains("\"verbatim\":true"), "{all}");
    let gus = place.session("sub-gus").await;
    let comment = json!({ "comment": reason });
    gus.post(&format!("/v1/requests/{request}/deny"), &comment).await.expect(200);
    place.shows(&request, "*denied*").await;

    let sent = place.slack.bodies();
    for live in ["<!channel", "<!here", "<@U0GUS", "<https://evil", "\u{202e}"] {
        assert!(!sent.contains(live), "{live} was sent");
    }
    assert!(sent.contains("\"unfurl_links\":false") && !sent.contains("\"unfurl_links\":true"));
    place.finish().await;
}
