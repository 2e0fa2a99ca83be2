//! Slack from question to psql, against a simulator that takes what Slack takes: who is believed, what is asked and
//! agreed to there, what the channel shows, and what happens when Slack or our database is slow or gone.

mod deciding;
mod linking;
mod outages;
mod signatures;
mod talking;
mod text;

use pgvalet::dev::{
    provider::Provider,
    slack::{CHANNEL, Posted, Simulator},
};
use serde_json::{Value, json};

use crate::support::{
    browser::Browser,
    eventually,
    people::Person,
    seconds,
    world::{Plan, World},
};

/// A world whose people sign in at a provider and are at Slack.
struct Place {
    world: World,
    provider: Provider,
    slack: Simulator,
}

impl Place {
    async fn start() -> Self {
        Self::with(Plan::default()).await
    }

    async fn with(plan: Plan) -> Self {
        Self::told("", plan).await
    }

    /// With more lines of `[slack]`.
    async fn told(more: &str, plan: Plan) -> Self {
        let (provider, slack) =
            (Provider::start().await.unwrap(), Simulator::start().await.unwrap());
        let settings = format!(
            "{}\n{}{more}\n[throttle]\nfailures_per_minute = 10000",
            provider.settings(""),
            slack.settings()
        );
        let world = World::with(Plan { settings: String::leak(settings), ..plan }).await;
        slack.installed_at(&world.daemon.url);
        Self { world, provider, slack }
    }

    /// A profile `guarded` to which one of these must agree.
    async fn guarded(&self, from: &[&str], differs: Value) -> String {
        let mut spec = json!({ "conditions": { "approval": {
            "steps": [{ "from": from, "count": 1 }], "lapse_after": "4h", "use_within": "1h",
        } } });
        spec.as_object_mut().unwrap().extend(differs.as_object().cloned().unwrap_or_default());
        self.world.put_profile("guarded", spec).await;
        self.world.profile("guarded")
    }

    /// Somebody links their account at Slack to themselves, as a person does.
    async fn link(&self, user: &str, subject: &str) -> Browser {
        let browser = Browser::new(&self.world.daemon.url);
        browser.sign_in(subject, "/").await;
        self.world.secrets.remember(&browser.session().unwrap());
        let path = self.link_for(user).await;
        let code = path.split_once("code=").unwrap().1.to_owned();
        let token = browser.form_token().await;
        let fields = [("form_token", token.as_str()), ("code", &code)];
        let done = browser.post("/slack/link", &fields, &[("sec-fetch-site", "same-origin")]).await;
        assert_eq!(done.status, 200, "{}", done.text);
        browser
    }

    /// The path of the link that somebody is given who is not known yet.
    async fn link_for(&self, user: &str) -> String {
        let said = self.says(user, "mine").await;
        let (_, behind) =
            said.split_once("/slack/link").unwrap_or_else(|| panic!("no link: {said}"));
        format!("/slack/link{}", behind.split('|').next().unwrap())
    }

    /// Somebody writes behind `/pgvalet`: what only they are answered.
    async fn says(&self, user: &str, text: &str) -> String {
        let before = self.slack.answers(user).len();
        let heard = self.slack.write(user, text).await;
        assert_eq!((heard.status, heard.body.as_str()), (Some(200), ""), "{text}");
        self.answer_after(user, before).await
    }

    /// The first answer to somebody after so many.
    async fn answer_after(&self, user: &str, before: usize) -> String {
        let mut answers = Vec::new();
        eventually("an answer at Slack", seconds(30), async || {
            answers = self.slack.answers(user);
            answers.len() > before
        })
        .await;
        answers[before]["text"].as_str().unwrap().to_owned()
    }

    /// Somebody clicks a button of a message: what only they are answered.
    async fn clicks(&self, user: &str, message: &str, action: &str) -> String {
        let before = self.slack.answers(user).len();
        assert_eq!(self.slack.click(user, message, action).await.status, Some(200));
        self.answer_after(user, before).await
    }

    /// The message of the channel about a request, once it says this.
    async fn shows(&self, request: &str, words: &str) -> Posted {
        let mut found = None;
        eventually(&format!("the channel says of {request}: {words}"), seconds(60), async || {
            found = self.about(request).into_iter().find(|posted| whole(posted).contains(words));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// The messages of the channel about a request.
    fn about(&self, request: &str) -> Vec<Posted> {
        let mut all = self.slack.messages(CHANNEL);
        all.retain(|posted| whole(posted).contains(request) && posted.thread.is_none());
        all
    }

    /// Somebody's session on the command line.
    async fn session(&self, subject: &str) -> Person {
        let nobody = crate::support::browser::nobody(&self.world);
        crate::support::browser::device_session(&nobody, &self.provider, subject).await
    }

    async fn state(&self, request: &str) -> String {
        let shown = self.world.admin.get(&format!("/v1/requests/{request}")).await.expect(200);
        shown["state"].as_str().unwrap().to_owned()
    }

    /// Ends the test. No secret that was handed out went to Slack.
    async fn finish(self) {
        let sent = self.slack.bodies();
        assert_eq!(self.world.secrets.found_in(&sent), Vec::<String>::new(), "sent to Slack");
        self.world.finish().await;
    }
}

/// All of a message.
fn whole(posted: &Posted) -> String {
    format!("{} {}", posted.text, Value::Array(posted.blocks.clone()))
}

/// The buttons of a message.
fn buttons(posted: &Posted) -> Vec<String> {
    let all = posted.blocks.iter().filter_map(|block| block["elements"].as_array()).flatten();
    all.filter_map(|one| one["action_id"].as_str()).map(str::to_owned).collect()
}

/// The id of the request that an answer names.
fn request_in(said: &str) -> String {
    let at = said.find("acc_").unwrap_or_else(|| panic!("no request: {said}"));
    said[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}
