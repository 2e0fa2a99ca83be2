//! What somebody is answered who wrote or clicked. Only they see it. Each answer says what is, and what to do next.

use chrono::{DateTime, Utc};

use crate::{
    domain::slack::{
        Message,
        message::section,
        text::{self, LINE},
    },
    ids::{AccessRequestId, LeaseId},
};

/// The longest answer: what is said of it is cut before.
const LONGEST: usize = 2500;

/// The most leases and requests that are listed of each.
const MOST_LISTED: usize = 6;

/// An answer of one piece, whose parts were made safe where they come from.
fn answer(words: &str) -> Message {
    Message { text: words.to_owned(), blocks: vec![section(words)] }
}

/// What can be written.
#[must_use]
pub fn help() -> Message {
    answer(
        "Ask for a login to a database that is yours alone and ends by itself:\n\
         • `/pgvalet shop-read 30m because INC-123 shows a wrong total` asks for the profile `shop-read`; `ticket INC-123` names the ticket\n\
         • `/pgvalet request`, or nothing behind it, opens a form\n\
         • `/pgvalet mine` shows your requests and leases\n\
         • `/pgvalet withdraw` takes a request back, `/pgvalet give-back` ends a lease; name it if you have several\n\
         No password ever comes through Slack: an approved request is claimed with `pgvalet claim` in your terminal, or on its page.",
    )
}

/// Something went wrong, or cannot be: in words of ours that may quote theirs.
#[must_use]
pub fn sorry(words: &str) -> Message {
    answer(&format!(":warning: {}", text::line(words, LONGEST)))
}

/// A command that cannot be read.
#[must_use]
pub fn unclear(why: &str) -> Message {
    let why = text::line(why, LONGEST);
    answer(&format!(":warning: {why}. `/pgvalet help` shows what can be written."))
}

/// We do not know who they are: how to say so.
#[must_use]
pub fn stranger(link: &str) -> Message {
    answer(&format!(
        "pgvalet does not know yet who you are here. {}: you sign in, and say yes. The link is for you alone and holds for ten minutes; then write your command again.",
        text::link(link, "Link this Slack account to yourself")
    ))
}

/// Too long ago did they sign in: Slack's word alone does not count.
#[must_use]
pub fn sign_in_again(here: &str) -> Message {
    answer(&format!(
        "It is a while since you signed in: {} once, then write or click again.",
        text::link(&format!("{here}/sign-in"), "sign in")
    ))
}

/// A request waits.
#[must_use]
pub fn waits(id: AccessRequestId, page: &str, until: DateTime<Utc>) -> Message {
    answer(&format!(
        ":hourglass_flowing_sand: Your request {} waits for an answer until {}. You will be told here. {}",
        text::code(&id.to_string(), LINE),
        text::instant(until),
        text::link(page, "Its page")
    ))
}

/// A request may be claimed.
#[must_use]
pub fn claimable(id: AccessRequestId, page: &str) -> Message {
    answer(&format!(
        ":white_check_mark: Claim it with {} in your terminal, or on {}",
        text::code(&format!("pgvalet claim {id}"), LINE),
        text::link(page, "its page")
    ))
}

/// Nobody has to agree: so nothing is to be waited for, and the login is fetched where it is used.
#[must_use]
pub fn at_once(profile: &str, more: &str) -> Message {
    let command = format!("pgvalet connect {profile}{more}");
    answer(&format!(
        "Nobody has to agree to {}: run {} in your terminal.",
        text::code(profile, LINE),
        text::code(&command, 1500)
    ))
}

/// A notice of what happened, with its page if it has one.
#[must_use]
pub fn notice(title: &str, words: &str, page: Option<&str>) -> Message {
    let mut said = format!("*{}*", text::line(&title.replace('*', " "), 300));
    if !words.trim().is_empty() {
        said.push('\n');
        said.push_str(&text::block(words, 2000));
    }
    if let Some(page) = page {
        said.push('\n');
        said.push_str(&text::link(page, "Its page"));
    }
    Message { text: text::line(title, 300), blocks: vec![section(&said)] }
}

/// They agreed, or said no.
#[must_use]
pub fn noted(words: &str) -> Message {
    answer(&text::line(words, LONGEST))
}

/// A lease ends.
#[must_use]
pub fn given_back(id: LeaseId) -> Message {
    answer(&format!("{} ends now.", text::code(&id.to_string(), LINE)))
}

/// A request as it is listed.
#[derive(Debug)]
pub struct ListedRequest<'a> {
    /// Which.
    pub id: AccessRequestId,
    /// Under which profile.
    pub profile: &'a str,
    /// How it stands, in a word.
    pub state: &'a str,
    /// Until when it stands like that.
    pub until: DateTime<Utc>,
}

/// A lease as it is listed.
#[derive(Debug)]
pub struct ListedLease<'a> {
    /// Which.
    pub id: LeaseId,
    /// Under which profile.
    pub profile: &'a str,
    /// When it ends.
    pub until: DateTime<Utc>,
}

/// What somebody has.
#[must_use]
pub fn mine(requests: &[ListedRequest<'_>], leases: &[ListedLease<'_>]) -> Message {
    if requests.is_empty() && leases.is_empty() {
        return answer("You have no open requests and no live leases.");
    }
    let mut lines = Vec::new();
    for ListedRequest { id, profile, state, until } in requests.iter().take(MOST_LISTED) {
        let (id, profile) = (text::code(&id.to_string(), LINE), text::code(profile, 60));
        lines.push(format!(
            "• request {id} for {profile}: {state}, until {}",
            text::instant(*until)
        ));
    }
    for ListedLease { id, profile, until } in leases.iter().take(MOST_LISTED) {
        let (id, profile) = (text::code(&id.to_string(), LINE), text::code(profile, 60));
        lines.push(format!("• lease {id} of {profile}: ends {}", text::instant(*until)));
    }
    answer(&lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_fit_and_quote_nothing_that_has_a_meaning() {
        let now = "2026-11-21T20:00:00Z".parse().unwrap();
        let long = "<!channel>`".repeat(2000);
        let requests: Vec<_> = (0..50)
            .map(|_| ListedRequest {
                id: AccessRequestId::new(),
                profile: &long,
                state: "pending",
                until: now,
            })
            .collect();
        let leases: Vec<_> = (0..50)
            .map(|_| ListedLease { id: LeaseId::new(), profile: &long, until: now })
            .collect();
        for said in [
            help(),
            sorry(&long),
            unclear(&long),
            noted(&long),
            at_once(&long, &long),
            mine(&requests, &leases),
            stranger("https://pgvalet.example/slack/link?code=x"),
        ] {
            assert!(said.text.encode_utf16().count() <= text::SECTION, "{}", said.text);
            assert!(!said.text.contains("<!channel"), "{}", said.text);
        }
    }
}
