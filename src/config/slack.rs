//! Slack: which workspaces are listened to, and what speaks there.

use std::{path::Path, time::Duration};

use crate::{
    config::{
        load::{HOUR, SECOND},
        notices::read_topics,
        secrets,
    },
    document::Table,
    domain::{notice::Topic, slack::is_id},
    secret::Secret,
    slack::hosts::Hosts,
};

/// A Slack app of one's own, and where it writes.
#[derive(Debug)]
pub struct SlackConfig {
    /// The workspaces whose people are listened to.
    pub teams: Vec<String>,
    /// What Slack signs with.
    pub signing_secret: Secret<String>,
    /// What the bot speaks with.
    pub bot_token: Secret<String>,
    /// The channel in which requests are decided.
    pub channel: String,
    /// How long it counts that somebody signed in at the identity provider: after that, Slack's word does not.
    pub sign_in_every: Duration,
    /// What it is told of.
    pub topics: Vec<Topic>,
    /// Slack itself, or a server on this machine that stands for it.
    pub hosts: Hosts,
}

/// Reads `[slack]`. None if it is not sound: its faults are reported.
pub(in crate::config) fn read(table: &mut Table, folder: &Path) -> Option<SlackConfig> {
    table.require(&["teams", "signing_secret", "bot_token", "channel"]);
    let teams = table.strings("teams");
    if let Some(teams) = &teams {
        if teams.is_empty() {
            table.fault("teams", "it names no workspace; write its id, such as [\"T0123ABCD\"]");
        }
        for team in teams.iter().filter(|team| !is_id(team) || !team.starts_with('T')) {
            let message = format!(
                "`{team}` is no id of a workspace; write it as it stands in the address of Slack in a browser, such as \"T0123ABCD\""
            );
            table.fault("teams", &message);
        }
    }
    let signing_secret = secrets::read(table, "signing_secret", folder);
    let bot_token = secrets::read(table, "bot_token", folder);
    if bot_token.as_ref().is_some_and(|token| !token.expose().starts_with("xoxb-")) {
        table.fault("bot_token", "it is no token of a bot: such a token begins with \"xoxb-\"");
    }
    let write =
        "the id of the channel, such as \"C0123ABCD\" (at the foot of its details in Slack)";
    let channel = table.parsed("channel", write, parse_channel);
    let write = "the address of a simulator's API on this machine, such as \"http://127.0.0.1:9000/api\", or leave it out to speak to Slack itself";
    let simulator = table.parsed("api_url", write, Hosts::standing_for_slack);
    let topics = read_topics(table);
    let sign_in_every = table.duration_in("sign_in_every", SECOND..=365 * 24 * HOUR);
    Some(SlackConfig {
        teams: teams?,
        signing_secret: signing_secret?,
        bot_token: bot_token?,
        channel: channel?,
        sign_in_every: sign_in_every.unwrap_or(30 * 24 * HOUR),
        topics: topics.unwrap_or_else(|| vec![Topic::Requests, Topic::Emergencies]),
        hosts: simulator.unwrap_or(Hosts::SLACK),
    })
}

fn parse_channel(text: &str) -> Result<String, &'static str> {
    match is_id(text) && text.starts_with(['C', 'G']) {
        true => Ok(text.to_owned()),
        false => Err("it is no id of a channel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, document::Faults};

    fn load(lines: &str) -> Result<Config, Faults> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("pgvalet.toml");
        let oidc = "[oidc]\nissuer = 'https://id.example.org'\nclient_id = 'pgvalet'";
        std::fs::write(&path, format!("[slack]\n{lines}\n{oidc}\n")).unwrap();
        std::fs::write(folder.path().join("signing"), "hunter2\n").unwrap();
        std::fs::write(folder.path().join("bot"), "xoxb-hunter3\n").unwrap();
        Config::load(Some(&path), [])
    }

    const SOUND: &str = "teams = ['T0123ABCD']\nsigning_secret = { file = 'signing' }\n\
                         bot_token = { file = 'bot' }\nchannel = 'C0123ABCD'";

    #[test]
    fn four_lines_are_enough_and_no_secret_is_shown() {
        let config = load(SOUND).unwrap();
        let shown = config.describe();
        assert!(!shown.contains("hunter") && shown.contains("channel = \"C0123ABCD\""), "{shown}");
        let slack = config.slack.unwrap();
        assert_eq!(slack.bot_token.expose(), "xoxb-hunter3");
        assert_eq!(slack.teams, ["T0123ABCD"]);
        assert_eq!(slack.hosts, Hosts::SLACK);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_to_write_instead() {
        for (from, to, words) in [
            ("teams = ['T0123ABCD']", "", "`teams` in [slack] is missing"),
            ("['T0123ABCD']", "[]", "names no workspace"),
            ("T0123ABCD", "acme", "no id of a workspace"),
            ("C0123ABCD", "#access", "no id of a channel"),
            ("'bot'", "'signing'", "begins with \"xoxb-\""),
            ("channel =", "api_url = 'https://slack.example'\nchannel =", "leave it out"),
            ("channel =", "chanel =", "did you mean `channel`?"),
        ] {
            let faults = load(&SOUND.replace(from, to)).unwrap_err().to_string();
            assert!(faults.contains(words), "{to}: {faults}");
        }
    }
}
