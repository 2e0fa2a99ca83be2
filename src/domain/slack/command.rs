//! What somebody may write behind `/pgvalet`.

use crate::ids::{AccessRequestId, LeaseId};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Say what can be written.
    Help,
    /// Say what they have.
    Mine,
    /// Ask for access.
    Ask(Wanted),
    /// Show the form to ask with, filled in as far as it goes.
    Form(Wanted),
    /// End a lease; the only one, if none is named.
    GiveBack(Option<LeaseId>),
    /// Take a request back; the only one, if none is named.
    Withdraw(Option<AccessRequestId>),
    /// It cannot be read: why, and what to write instead.
    Unclear(String),
}

/// What somebody wants, as they wrote it: it is not checked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Under which profile.
    pub profile: String,
    /// For how long.
    pub ttl: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// The ticket.
    pub ticket: Option<String>,
}

/// The longest line that is looked at. Slack sends no more than this either.
const LONGEST: usize = 40_000;

/// Reads what stands behind `/pgvalet`.
#[must_use]
pub fn read(text: &str) -> Command {
    if text.len() > LONGEST {
        return Command::Unclear("that is too long for a command".to_owned());
    }
    let (first, rest) = split(text);
    match first.to_lowercase().as_str() {
        "" => Command::Form(Wanted::default()),
        "help" => Command::Help,
        "mine" => Command::Mine,
        "give-back" => named(rest, "give-back", Command::GiveBack),
        "withdraw" => named(rest, "withdraw", Command::Withdraw),
        "request" => match wanted(rest) {
            Ok(wanted) => Command::Form(wanted),
            Err(fault) => Command::Unclear(fault),
        },
        _ => match wanted(text) {
            Ok(wanted) => Command::Ask(wanted),
            Err(fault) => Command::Unclear(fault),
        },
    }
}

/// The first word, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (first, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    (first, rest.trim_start())
}

fn named<T: std::str::FromStr>(
    rest: &str,
    verb: &str,
    command: impl FnOnce(Option<T>) -> Command,
) -> Command {
    if rest.is_empty() {
        return command(None);
    }
    match rest.trim_matches('`').parse() {
        Ok(id) => command(Some(id)),
        Err(_) => Command::Unclear(format!("`{verb}` takes one id, as `/pgvalet mine` shows them")),
    }
}

/// `PROFILE [LENGTH] [ticket TICKET] [because REASON]`
fn wanted(text: &str) -> Result<Wanted, String> {
    let (profile, mut rest) = split(text);
    let mut wanted = Wanted { profile: profile.to_owned(), ..Wanted::default() };
    let mut length: Vec<&str> = Vec::new();
    while !rest.is_empty() {
        let (word, behind) = split(rest);
        rest = behind;
        match word.to_lowercase().as_str() {
            "because" => {
                let reason = rest.trim();
                if reason.is_empty() {
                    return Err("say why behind `because`".to_owned());
                }
                wanted.reason = Some(reason.to_owned());
                break;
            }
            "ticket" => {
                let (ticket, behind) = split(rest);
                if ticket.is_empty() {
                    return Err("name the ticket behind `ticket`".to_owned());
                }
                wanted.ticket = Some(ticket.to_owned());
                rest = behind;
            }
            "for" => {}
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => length.push(word),
            _ => {
                let seen: String = word.chars().take(40).collect();
                return Err(format!(
                    "I cannot read `{seen}`: behind the profile may stand a length such as `30m`, `ticket INC-123`, and `because` with the reason"
                ));
            }
        }
    }
    wanted.ttl = (!length.is_empty()).then(|| length.join(" "));
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(
        profile: &str,
        ttl: Option<&str>,
        ticket: Option<&str>,
        reason: Option<&str>,
    ) -> Command {
        Command::Ask(Wanted {
            profile: profile.to_owned(),
            ttl: ttl.map(str::to_owned),
            ticket: ticket.map(str::to_owned),
            reason: reason.map(str::to_owned),
        })
    }

    #[test]
    fn what_people_write_is_read_as_they_mean_it() {
        let request = AccessRequestId::new();
        let lease = LeaseId::new();
        for (text, wanted) in [
            ("help", Command::Help),
            (" HELP ", Command::Help),
            ("mine", Command::Mine),
            ("", Command::Form(Wanted::default())),
            ("shop-read", asked("shop-read", None, None, None)),
            (
                "shop-read 30m because INC-123",
                asked("shop-read", Some("30m"), None, Some("INC-123")),
            ),
            ("shop-read for 1h 30m", asked("shop-read", Some("1h 30m"), None, None)),
            (
                "shop-read 5m ticket INC-1 Because the  total\nis wrong",
                asked("shop-read", Some("5m"), Some("INC-1"), Some("the  total\nis wrong")),
            ),
            (
                "request shop-read",
                Command::Form(Wanted { profile: "shop-read".to_owned(), ..Wanted::default() }),
            ),
            ("give-back", Command::GiveBack(None)),
            (&format!("give-back `{lease}`"), Command::GiveBack(Some(lease))),
            (&format!("withdraw {request}"), Command::Withdraw(Some(request))),
        ] {
            assert_eq!(read(text), wanted, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_answered_with_what_to_write() {
        for (text, words) in [
            ("shop-read please", "such as `30m`"),
            ("shop-read because", "say why"),
            ("shop-read ticket", "name the ticket"),
            ("give-back all of it", "takes one id"),
            ("withdraw lse_1", "takes one id"),
            (&"x".repeat(50_000), "too long"),
        ] {
            let Command::Unclear(said) = read(text) else { panic!("{text} was read") };
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
