//! What comes in the path, in the query and in `Idempotency-Key`, made valid on the way in. An
//! unknown query parameter is refused by name: a misspelt filter that is ignored would show, or
//! revoke, more than was meant.

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, StatusCode, request::Parts},
};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use utoipa::IntoParams;

use crate::{
    api::{Page, problem::ProblemFault},
    http::problem::Failure,
};

/// One segment of the path.
pub(in crate::http) struct Path<T>(pub(in crate::http) T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: FromStr<Err: Display> + Send,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let axum::extract::Path(text) =
            axum::extract::Path::<String>::from_request_parts(parts, state)
                .await
                .map_err(|e| invalid_id(e.body_text()))?;
        text.parse().map(Self).map_err(|e: T::Err| invalid_id(e.to_string()))
    }
}

fn invalid_id(detail: String) -> Failure {
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_id", detail)
}

/// The query's parameters.
pub(in crate::http) struct Query<T>(pub(in crate::http) T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned + IntoParams,
    S: Send + Sync,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let known = T::into_params(|| None);
        let names: Vec<&str> = known.iter().map(|parameter| parameter.name.as_str()).collect();
        refuse_unknown(parts, &names)?;
        let axum::extract::Query(value) =
            axum::extract::Query::try_from_uri(&parts.uri).map_err(|e| {
                let text =
                    std::error::Error::source(&e).map_or_else(String::new, |e| e.to_string());
                match text.split_once(": ") {
                    Some((at, message)) => Failure::fault(at, message),
                    None => Failure::fault("query", text),
                }
            })?;
        Ok(Self(value))
    }
}

/// No parameters at all.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Nothing {}

fn refuse_unknown(parts: &Parts, known: &[&str]) -> Result<(), Failure> {
    let axum::extract::Query(pairs) =
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|e| Failure::fault("query", e.body_text()))?;
    let mut seen = BTreeSet::new();
    for (name, _) in &pairs {
        if !known.contains(&name.as_str()) {
            return Err(unknown_parameter(name, known));
        }
        if !seen.insert(name) {
            return Err(Failure::fault(name, "is given twice: give it once"));
        }
    }
    Ok(())
}

fn unknown_parameter(name: &str, known: &[&str]) -> Failure {
    let name: String = name.chars().take(64).collect();
    let near = known
        .iter()
        .map(|known| (strsim::jaro_winkler(&name, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let advice = match (near, known) {
        (Some((_, near)), _) => format!("did you mean `{near}`?"),
        (None, []) => "this path takes none".to_owned(),
        (None, known) => format!("known are {}", known.join(", ")),
    };
    let detail = format!("there is no parameter `{name}` here; {advice}");
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, "unknown_parameter", detail)
}

/// How many items a page has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct Limit(u8);

/// A page that a person can still read; more is what `cursor` is for.
const DEFAULT_LIMIT: Limit = Limit(50);

/// More would make one answer large, and one query slow.
const MOST: u8 = 200;

impl Default for Limit {
    fn default() -> Self {
        DEFAULT_LIMIT
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse() {
            Ok(limit @ 1..=MOST) => Ok(Self(limit)),
            _ => Err(D::Error::custom(format!("must be a whole number from 1 to {MOST}"))),
        }
    }
}

impl Limit {
    /// One more than the page holds: it tells whether there is a next page.
    pub(in crate::http) fn with_one_more(self) -> i64 {
        i64::from(self.0) + 1
    }

    /// The page, from as many rows as [`Limit::with_one_more`] asked for. The cursor is the id of
    /// the last item: ids sort by age, so a page stays where it is while new items come.
    pub(in crate::http) fn page<R, T>(
        self,
        mut rows: Vec<R>,
        id: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> Page<T> {
        let most = usize::from(self.0);
        let more = rows.len() > most;
        rows.truncate(most);
        let next_cursor = rows.last().filter(|_| more).map(id);
        Page { items: rows.into_iter().map(show).collect(), next_cursor }
    }
}

/// Where a page of a short list begins and how long it is.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Paging {
    /// `next_cursor` of the page before.
    pub(in crate::http) cursor: Option<String>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    pub(in crate::http) limit: Limit,
}

impl Paging {
    /// A page of a list that is read whole, because it is as short as there are targets.
    pub(in crate::http) fn page<R, T>(
        &self,
        mut rows: Vec<R>,
        id: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> Result<Page<T>, Failure> {
        if let Some(cursor) = &self.cursor {
            let last = rows.iter().position(|row| id(row) == *cursor);
            let last = last.ok_or_else(|| {
                Failure::fault("cursor", "is no item of this list any more: begin without it")
            })?;
            rows.drain(..=last);
        }
        Ok(self.limit.page(rows, id, show))
    }
}

/// `Idempotency-Key`: the same key twice gives the same answer.
pub(in crate::http) struct IdempotencyKey(pub(in crate::http) Option<String>);

/// As a database index can hold it, and longer than any key that is made by a program.
const LONGEST_KEY: usize = 255;

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let name = HeaderName::from_static("idempotency-key");
        let mut values = parts.headers.get_all(&name).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let text = value.to_str().ok().filter(|text| {
            (1..=LONGEST_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        });
        match (text, values.next()) {
            (Some(text), None) => Ok(Self(Some(text.to_owned()))),
            _ => Err(Failure::fault(
                "Idempotency-Key",
                "must be one text of 1 to 255 visible ASCII letters, without spaces",
            )),
        }
    }
}

/// Reads a text of the body into a type that holds; a text that does not is one more fault.
pub(in crate::http) fn parse<T>(
    at: &str,
    text: Option<&str>,
    faults: &mut Vec<ProblemFault>,
) -> Option<T>
where
    T: FromStr<Err: Display>,
{
    text?
        .parse()
        .map_err(|e: T::Err| {
            faults.push(ProblemFault { at: at.to_owned(), message: e.to_string() })
        })
        .ok()
}
