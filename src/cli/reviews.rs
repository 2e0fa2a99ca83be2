//! `pgvalet review`: access reviews, listed, decided, signed off, exported. `review_walk.rs` goes through one in a terminal.

use crate::{
    api::{
        admin::Profile,
        reviews::{
            AccessReview, AccessReviewItem, AccessReviewProfile, AccessReviewProfiles,
            Decide as DecideBody, OpenReview, Restore, ReviewDecided, SignOff,
        },
    },
    cli::{
        Globals, Io,
        call::Call,
        client::Client,
        failure::Failure,
        output::{self, ends_in, facts, instant, plain, watched},
        review_arguments::{Decide, Items, Review, ReviewCommand},
        review_walk, session,
    },
    domain::review::{ANYONE, ReviewState, ReviewVerdict, exercise::Exercise},
    ids::ReviewId,
};

/// Reviews that are listed: a quarter each, and those of people who moved.
const LISTED: usize = 100;

/// Items are listed all at once; this bounds a daemon that never stops.
const MOST: usize = 1_000_000;

/// Of a profile whose target is asked in a moment.
const NOT_ASKED: &str = "its target was not asked yet";

/// `pgvalet review`.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub async fn review(given: Review, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    match given.command {
        ReviewCommand::List => return list(&client, globals, io).await,
        ReviewCommand::Items(given) => return items(given, &client, globals, io).await,
        ReviewCommand::Profiles { id } => return profiles(id, &client, globals, io).await,
        ReviewCommand::Decide(given) => return decide(given, &client, globals, io).await,
        ReviewCommand::Walk { id } => return review_walk::walk(id, &client, io).await,
        ReviewCommand::Export { id, format } => {
            let id = id.to_string();
            let path = ["v1", "reviews", &id, "export"];
            let call = Call { query: vec![("format", format)], ..Call::get(&path) };
            let text = watched(io, "asking the daemon", client.text(call)).await?;
            write!(io.out, "{text}")?;
        }
        ReviewCommand::Open { person } => {
            let body = OpenReview { principal: person.map(|person| principal(&person)) };
            let call = Call::post(&["v1", "reviews"], &body)?;
            let asked = client.read::<AccessReview>(call);
            let review = watched(io, "opening a review", asked).await?.value;
            print(&review, globals, io)?;
        }
        ReviewCommand::Show { id } => {
            let id = id.to_string();
            let asked = client.record::<AccessReview>("reviews", &id);
            let review = watched(io, "asking the daemon", asked).await?.value;
            print(&review, globals, io)?;
        }
        ReviewCommand::SignOff { id, comment } => {
            let id = id.to_string();
            let body = SignOff { comment };
            let asked = client.act::<AccessReview, _>(["reviews", &id, "sign-off"], &body);
            let review = watched(io, "signing off", asked).await?.value;
            print(&review, globals, io)?;
        }
        ReviewCommand::Restore { principal: whom, profile, reason } => {
            let body = Restore { principal: principal(&whom), reason };
            let path = ["profiles", profile.as_str(), "restore"];
            let asked = client.act::<Profile, _>(path, &body);
            let restored = watched(io, "giving it back", asked).await?.value;
            if globals.json {
                output::json(io, &restored)?;
            } else {
                writeln!(io.err, "{} may ask for {profile} as its file says", body.principal)?;
            }
        }
    }
    Ok(0)
}

/// A principal in words: who says no kind means a person.
fn principal(text: &str) -> String {
    if text.contains(':') || text == ANYONE { text.to_owned() } else { format!("person:{text}") }
}

async fn list(client: &Client, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let items = watched(io, "asking the daemon", client.list("reviews", &[], LISTED)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let reviews = output::read_items::<AccessReview>(items)?;
    if reviews.is_empty() {
        writeln!(io.err, "no reviews (`pgvalet review open` opens one)")?;
        return Ok(0);
    }
    let row = |review: &AccessReview| {
        let of = review.principal.clone().unwrap_or_else(|| "everybody".to_owned());
        let due = match review.state {
            ReviewState::Open => ends_in(review.due_at, io.clock.now()),
            ReviewState::SignedOff => String::new(),
        };
        let left = format!("{} of {}", review.counts.undecided, review.counts.items);
        let (state, cause) = (review.state.as_str(), review.cause.as_str());
        vec![review.id.to_string(), state.to_owned(), of, cause.to_owned(), left, due]
    };
    let rows = reviews.iter().map(row).collect();
    output::table(io, &["id", "state", "of", "because", "undecided", "due in"], rows)?;
    Ok(0)
}

/// Items of a review, all that meet the filter.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub(in crate::cli) async fn fetch(
    id: ReviewId,
    filter: &[(&'static str, Option<&str>)],
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Vec<serde_json::Value>, Failure> {
    let id = id.to_string();
    let path = ["v1", "reviews", &id, "items"];
    watched(io, "asking the daemon", client.list_at(&path, filter, MOST)).await
}

async fn items(
    given: Items,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let person = given.person.as_deref().map(principal);
    let filter = [
        ("undecided", given.undecided.then_some("true")),
        ("profile", given.profile.as_ref().map(|name| name.as_str())),
        ("principal", person.as_deref()),
        ("never_used", given.never_used.then_some("true")),
    ];
    let items = fetch(given.id, &filter, client, io).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": items }))?;
        return Ok(0);
    }
    let items = output::read_items::<AccessReviewItem>(items)?;
    if items.is_empty() {
        writeln!(io.err, "no such items")?;
        return Ok(0);
    }
    let row = |item: &AccessReviewItem| {
        let decided = item.decision.as_ref().map(|decision| match decision.max_ttl {
            Some(ttl) => format!("{} to {ttl}: {}", decision.verdict.as_str(), decision.reason),
            None => format!("{}: {}", decision.verdict.as_str(), decision.reason),
        });
        vec![
            item.id.to_string(),
            item.principal.clone(),
            item.profile.clone(),
            item.rule.clone(),
            item.facts.leases.to_string(),
            item.facts.last_used.map_or_else(|| "never".to_owned(), instant),
            decided.unwrap_or_default(),
        ]
    };
    let rows = items.iter().map(row).collect();
    let header = ["id", "who", "profile", "rule", "leases (90 d)", "last used", "decided"];
    output::table(io, &header, rows)?;
    Ok(0)
}

/// The profiles of a review, and how their grants were exercised.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub(in crate::cli) async fn fetch_profiles(
    id: ReviewId,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<Vec<AccessReviewProfile>, Failure> {
    let id = id.to_string();
    let path = ["v1", "reviews", &id, "profiles"];
    let asked = client.read::<AccessReviewProfiles>(Call::get(&path));
    Ok(watched(io, "asking the daemon", asked).await?.value.items)
}

async fn profiles(
    id: ReviewId,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let profiles = fetch_profiles(id, client, io).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "items": profiles }))?;
        return Ok(0);
    }
    for AccessReviewProfile { profile, exercise } in profiles {
        let words = exercise.as_ref().map_or_else(|| NOT_ASKED.to_owned(), Exercise::in_words);
        writeln!(io.out, "{}: {}", plain(&profile), plain(&words))?;
        let Some(Exercise::Known(known)) = exercise else { continue };
        for line in known.never_in_words() {
            writeln!(io.out, "  {}", plain(&line))?;
        }
    }
    Ok(0)
}

async fn decide(
    given: Decide,
    client: &Client,
    globals: &Globals,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let verdict = match (given.narrow, given.remove) {
        (Some(_), _) => ReviewVerdict::Narrow,
        (None, true) => ReviewVerdict::Remove,
        (None, false) => ReviewVerdict::Keep,
    };
    let body = DecideBody {
        items: (!given.items.is_empty()).then_some(given.items),
        principal: given.person.as_deref().map(principal),
        profile: given.profile,
        never_used: given.never_used,
        all: given.all,
        verdict,
        max_ttl: given.narrow,
        reason: given.reason,
    };
    let done = send(given.id, &body, client, io).await?;
    if globals.json {
        output::json(io, &done)?;
        return Ok(0);
    }
    let left = done.review.counts.undecided;
    writeln!(io.out, "{} decided ({}), {left} wait", done.decided, verdict.as_str())?;
    if done.unfit > 0 {
        let n = done.unfit;
        writeln!(
            io.err,
            "{n} left as they are: no longer than that already, or their profile was replaced"
        )?;
    }
    if done.left_out > 0 {
        let n = done.left_out;
        writeln!(
            io.err,
            "{n} left out: they are what you reach yourself, and another's to decide"
        )?;
    }
    Ok(0)
}

/// Sends decisions.
///
/// # Errors
/// If the daemon is unavailable, or refuses.
pub(in crate::cli) async fn send(
    id: ReviewId,
    body: &DecideBody,
    client: &Client,
    io: &mut Io<'_>,
) -> Result<ReviewDecided, Failure> {
    let id = id.to_string();
    let asked = client.act::<ReviewDecided, _>(["reviews", &id, "decisions"], body);
    Ok(watched(io, "deciding", asked).await?.value)
}

fn print(review: &AccessReview, globals: &Globals, io: &mut Io<'_>) -> Result<(), Failure> {
    if globals.json {
        return output::json(io, review);
    }
    let at = |at: Option<chrono::DateTime<chrono::Utc>>| at.map(instant).unwrap_or_default();
    let counts = review.counts;
    let lines = [
        ("id", review.id.to_string()),
        ("state", review.state.as_str().to_owned()),
        ("of", review.principal.clone().unwrap_or_else(|| "everybody".to_owned())),
        ("because", review.cause.as_str().to_owned()),
        ("opened", instant(review.opened_at)),
        ("due", instant(review.due_at)),
        ("announced", at(review.announced_at)),
        ("at due", review.on_due.map(|then| then.as_str().to_owned()).unwrap_or_default()),
        ("time was over", at(review.settled_at)),
        ("signed off", at(review.signed_off_at)),
        ("by", review.signed_off_by.clone().unwrap_or_default()),
        ("items", counts.items.to_string()),
        ("kept", counts.kept.to_string()),
        ("narrowed", counts.narrowed.to_string()),
        ("removed", counts.removed.to_string()),
        ("undecided", counts.undecided.to_string()),
    ];
    Ok(facts(io, &lines)?)
}
