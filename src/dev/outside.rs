//! What the playground's daemon finds outside, where it is asked for: an identity provider, a Slack.

use crate::{
    cli::daemon_arguments::Dev,
    dev::{provider::Provider, slack::Simulator},
};

/// A profile to which somebody else must agree.
const PROFILES: &str = include_str!("slack/profiles.toml");

/// The servers that stand in for other people's.
#[derive(Debug)]
pub struct Outside {
    provider: Option<Provider>,
    slack: Option<Simulator>,
}

impl Outside {
    /// Starts what is asked for. With Slack there is a provider, too: people say there which account is theirs.
    ///
    /// # Errors
    /// If there is no port, or no randomness.
    pub async fn start(given: &Dev) -> anyhow::Result<Self> {
        let with_provider = given.with_idp || given.with_slack;
        let provider = if with_provider { Some(Provider::start().await?) } else { None };
        let slack = if given.with_slack { Some(Simulator::start().await?) } else { None };
        Ok(Self { provider, slack })
    }

    /// The identity provider.
    #[must_use]
    pub const fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    /// Slack.
    #[must_use]
    pub const fn slack(&self) -> Option<&Simulator> {
        self.slack.as_ref()
    }

    /// What the daemon's settings say of them.
    #[must_use]
    pub fn settings(&self) -> String {
        let provider =
            self.provider.as_ref().map(|provider| provider.settings("recheck = \"5s\"\n"));
        let slack = self.slack.as_ref().map(Simulator::settings);
        [provider, slack].into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// The profiles that they are tried with.
    #[must_use]
    pub const fn profiles(&self) -> &'static str {
        match self.slack {
            Some(_) => PROFILES,
            None => "",
        }
    }
}
