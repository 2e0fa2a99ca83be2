//! Slack: what it is told.

use crate::{app::App, domain::notice::Notice, ids::NoticeId, notify::Sent};

impl App {
    /// Tells Slack.
    pub(in crate::app) async fn tell_slack(&self, id: NoticeId, notice: &Notice) -> Sent {
        let _ = (id, notice);
        std::future::ready(Sent::Never { why: "Slack is not set up".to_owned() }).await
    }
}
