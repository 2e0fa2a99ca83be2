//! Which addresses are called: Slack's own, or one server on this very machine that stands for it. What Slack sends
//! us has addresses in it; one that leads elsewhere would make us a way into other people's networks.

use reqwest::Url;

use crate::domain::network::is_this_machine;

const API: &str = "https://slack.com/api";
const ANSWERS: &str = "hooks.slack.com";

/// Slack, or what stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts(Option<Url>);

/// An address that does not stand for Slack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not on this machine: leave it out to speak to Slack itself")]
pub struct NotHere;

impl Hosts {
    /// Slack itself.
    pub const SLACK: Self = Self(None);

    /// A server on this machine, by the address of its API.
    ///
    /// # Errors
    /// If it is elsewhere.
    pub fn standing_for_slack(api: &str) -> Result<Self, NotHere> {
        let url = Url::parse(api).map_err(|_| NotHere)?;
        let is_here = url.host_str().is_some_and(is_this_machine);
        if url.scheme() != "http" || !is_here || url.query().is_some() {
            return Err(NotHere);
        }
        Ok(Self(Some(url)))
    }

    /// The address of the API, as it is set; none is Slack's own.
    #[must_use]
    pub fn simulator(&self) -> Option<&str> {
        self.0.as_ref().map(Url::as_str)
    }

    /// Where a method of the API is.
    #[must_use]
    pub fn api(&self, method: &str) -> String {
        let base = self.0.as_ref().map_or(API, Url::as_str);
        format!("{}/{method}", base.trim_end_matches('/'))
    }

    /// The address of an answer, if it is Slack's.
    #[must_use]
    pub fn answer(&self, reply_to: &str) -> Option<Url> {
        let url = Url::parse(reply_to).ok()?;
        let bare = url.username().is_empty() && url.password().is_none();
        let is_theirs = match &self.0 {
            None => {
                url.scheme() == "https" && url.host_str() == Some(ANSWERS) && url.port().is_none()
            }
            Some(api) => url.origin() == api.origin(),
        };
        (bare && is_theirs).then_some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_to_slack_alone() {
        let ours = "https://hooks.slack.com/commands/T1/2/3";
        assert_eq!(Hosts::SLACK.answer(ours).map(String::from).as_deref(), Some(ours));
        for foreign in [
            "http://hooks.slack.com/commands/T1",
            "https://hooks.slack.com.evil.example/",
            "https://evil.example/https://hooks.slack.com/",
            "https://hooks.slack.com@evil.example/",
            "https://a:b@hooks.slack.com/",
            "https://hooks.slack.com:8443/",
            "https://slack.com/",
            "http://127.0.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "hooks.slack.com",
            "",
        ] {
            assert_eq!(Hosts::SLACK.answer(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_stands_for_slack_is_on_this_machine() {
        let simulator = Hosts::standing_for_slack("http://127.0.0.1:1234/api").unwrap();
        assert_eq!(simulator.api("chat.update"), "http://127.0.0.1:1234/api/chat.update");
        assert!(simulator.answer("http://127.0.0.1:1234/answers/1").is_some());
        for foreign in [
            "http://127.0.0.1:1235/answers/1",
            "https://hooks.slack.com/x",
            "http://127.0.0.2:1234/",
        ] {
            assert_eq!(simulator.answer(foreign), None, "{foreign}");
        }
        for foreign in
            ["https://slack.example/api", "http://10.0.0.1/api", "http://localhost.evil/api", "x"]
        {
            assert_eq!(Hosts::standing_for_slack(foreign), Err(NotHere), "{foreign}");
        }
        assert_eq!(Hosts::SLACK.api("auth.test"), "https://slack.com/api/auth.test");
    }
}
