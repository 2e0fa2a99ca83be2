//! `pgvalet review walk`: what waits in a review, one item after the other, for somebody at a terminal. Each answer is
//! sent at once, so that whoever stops in the middle goes on there.

use std::io::{BufRead as _, Read as _};

use crate::{
    api::reviews::{AccessReviewItem, AccessReviewProfile, Decide},
    cli::{
        Io,
        client::Client,
        failure::Failure,
        output::{self, instant, plain},
        reviews::{fetch, fetch_profiles, send},
    },
    domain::{
        duration::Seconds,
        review::{NotTheirs, ReviewVerdict},
    },
    ids::ReviewId,
};

/// The longest line that is read as an answer.
const LONGEST_ANSWER: u64 = 2000;

/// What somebody says of one item.
enum Answer {
    Verdict(ReviewVerdict),
    Skip,
    Quit,
}

/// Goes through what waits.
///
/// # Errors
/// If the daemon is unavailable, or refuses anything but an item that is another's to decide.
pub(in crate::cli) async fn walk(
    id: ReviewId,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let waiting = fetch(id, &[("undecided", Some("true"))], client, io).await?;
    let items = output::read_items::<AccessReviewItem>(waiting)?;
    let profiles = fetch_profiles(id, client, io).await?;
    let (all, mut decided, mut last_reason) = (items.len(), 0_usize, String::new());
    for (n, item) in items.iter().enumerate() {
        show(item, (n + 1, all), io)?;
        show_exercise(item, &profiles, io)?;
        let (verdict, max_ttl) = match answer(io)? {
            Answer::Quit => break,
            Answer::Skip => continue,
            Answer::Verdict(ReviewVerdict::Narrow) => match longest(io)? {
                Some(ttl) => (ReviewVerdict::Narrow, Some(ttl)),
                None => break,
            },
            Answer::Verdict(verdict) => (verdict, None),
        };
        let Some(reason) = reason(&last_reason, io)? else { break };
        let body = Decide {
            items: Some(vec![item.id]),
            principal: None,
            profile: None,
            never_used: false,
            all: false,
            verdict,
            max_ttl,
            reason: reason.clone(),
        };
        match send(id, &body, client, io).await {
            Ok(_) => decided += 1,
            // Theirs, somebody was faster, or not so: the others can be decided all the same.
            Err(Failure::Refused(problem)) if is_of_the_item(&problem.code) => {
                writeln!(io.err, "not decided: {}", plain(&problem.detail))?;
            }
            Err(other) => return Err(other),
        }
        last_reason = reason;
    }
    writeln!(io.out, "{decided} of {all} decided")?;
    if decided == all {
        writeln!(io.err, "answer for it with `pgvalet review sign-off {id}`")?;
    } else {
        writeln!(io.err, "{} wait: `pgvalet review walk {id}` goes on there", all - decided)?;
    }
    Ok(0)
}

fn is_of_the_item(code: &str) -> bool {
    let of_the_item =
        [NotTheirs::Own, NotTheirs::ActsForThem, NotTheirs::OwnToken, NotTheirs::Decided];
    of_the_item.iter().any(|why| why.as_str() == code) || code == "invalid_request"
}

fn show(item: &AccessReviewItem, (n, all): (usize, usize), io: &mut Io<'_>) -> Result<(), Failure> {
    let facts = item.facts;
    let used = facts.last_used.map_or_else(
        || "never used".to_owned(),
        |at| format!("last used {}, leases in 90 days: {}", instant(at), facts.leases),
    );
    let live = if facts.live > 0 { format!(", {} live", facts.live) } else { String::new() };
    writeln!(io.out, "[{n}/{all}] {} -> {}", plain(&item.principal), plain(&item.profile))?;
    writeln!(io.out, "        by {}; {used}{live}", plain(&item.rule))?;
    Ok(())
}

/// What is known of the profile's grants, below what is known of whoever may use them.
fn show_exercise(
    item: &AccessReviewItem,
    profiles: &[AccessReviewProfile],
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let of = profiles.iter().find(|of| of.profile == item.profile);
    if let Some(exercise) = of.and_then(|of| of.exercise.as_ref()) {
        writeln!(io.out, "        all of the profile's leases: {}", plain(&exercise.in_words()))?;
    }
    Ok(())
}

/// A line of what was typed; none at the end.
fn ask(question: &str, io: &mut Io<'_>) -> Result<Option<String>, Failure> {
    write!(io.err, "{question} ")?;
    io.err.flush()?;
    let mut line = String::new();
    let count = io.input.take(LONGEST_ANSWER).read_line(&mut line)?;
    Ok((count > 0).then(|| line.trim().to_owned()))
}

fn answer(io: &mut Io<'_>) -> Result<Answer, Failure> {
    loop {
        let Some(text) = ask("[k]eep [n]arrow [r]emove [s]kip [q]uit?", io)? else {
            return Ok(Answer::Quit);
        };
        match text.as_str() {
            "k" | "keep" => return Ok(Answer::Verdict(ReviewVerdict::Keep)),
            "n" | "narrow" => return Ok(Answer::Verdict(ReviewVerdict::Narrow)),
            "r" | "remove" => return Ok(Answer::Verdict(ReviewVerdict::Remove)),
            "s" | "skip" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            _ => writeln!(io.err, "one of k, n, r, s, q")?,
        }
    }
}

fn longest(io: &mut Io<'_>) -> Result<Option<Seconds>, Failure> {
    loop {
        let Some(text) = ask("for how long at most, such as 15m?", io)? else { return Ok(None) };
        match text.parse() {
            Ok(ttl) => return Ok(Some(ttl)),
            Err(fault) => writeln!(io.err, "{fault}")?,
        }
    }
}

/// The reason; an empty line means the one before.
fn reason(last: &str, io: &mut Io<'_>) -> Result<Option<String>, Failure> {
    loop {
        let question = if last.is_empty() { "why?" } else { "why? (Enter: as before)" };
        let Some(text) = ask(question, io)? else { return Ok(None) };
        match (text.is_empty(), last.is_empty()) {
            (false, _) => return Ok(Some(text)),
            (true, false) => return Ok(Some(last.to_owned())),
            (true, true) => writeln!(io.err, "a reason is needed: it is read at the next review")?,
        }
    }
}
