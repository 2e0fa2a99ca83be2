//! `[review]`: when access is looked at again, by whom, and what becomes of what nobody decides.

use std::time::Duration;

use crate::{
    document::Table,
    domain::{principal::AllowRule, review::OnDue, schedule::Schedule},
};

const WRITE_SCHEDULE: &str = "a cron expression of six fields, a length of time, or \"never\"";

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Access reviews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReviewConfig {
    /// When one of everybody is opened.
    pub schedule: Schedule,
    /// Who decides; those who may say who holds which role, if none.
    pub reviewers: Option<Vec<AllowRule>>,
    /// How long there is to decide.
    pub due_after: Duration,
    /// How long before the end that is said.
    pub announce_before: Duration,
    /// What becomes of what nobody decided.
    pub on_due: OnDue,
}

impl Default for ReviewConfig {
    fn default() -> Self {
        Self {
            // Every quarter, on its first day. What cannot be read would be a fault of ours, and no review is missed
            // silently: every ninety days is the same to most.
            schedule: EVERY_QUARTER.parse().unwrap_or_else(|_| Schedule::ninety_days()),
            reviewers: None,
            due_after: 14 * DAY,
            announce_before: DAY,
            on_due: OnDue::Escalate,
        }
    }
}

const EVERY_QUARTER: &str = "0 0 8 1 1,4,7,10 *";

pub(in crate::config) fn read(mut table: Table) -> ReviewConfig {
    let default = ReviewConfig::default();
    let schedule = table.parsed("schedule", WRITE_SCHEDULE, str::parse::<Schedule>);
    let reviewers = table.strings("reviewers").map(|texts| {
        let read = |text: &String| {
            let rule = text.parse::<AllowRule>().ok().filter(names_persons);
            if rule.is_none() {
                table.fault(
                    "reviewers",
                    &format!(
                        "`{text}` names no persons: write `person:NAME`, `group:NAME` or `anyone`"
                    ),
                );
            }
            rule
        };
        texts.iter().filter_map(read).collect()
    });
    let due_after = table.duration_in("due_after", SECOND..=366 * DAY);
    let announce_before = table.duration_in("announce_before", SECOND..=366 * DAY);
    if let Some(rules) = &reviewers {
        let rules: &Vec<AllowRule> = rules;
        if rules.is_empty() {
            table.fault("reviewers", "names nobody: leave it out, or write who reviews");
        }
    }
    let (due, before) = (
        due_after.unwrap_or(default.due_after),
        announce_before.unwrap_or(default.announce_before),
    );
    if before >= due {
        table.fault(
            "announce_before",
            "must be shorter than `due_after`, which is when a review is due",
        );
    }
    let on_due = table.one_of("on_due", OnDue::ALL).and_then(OnDue::from_text);
    ReviewConfig {
        schedule: schedule.unwrap_or(default.schedule),
        reviewers: reviewers.or(default.reviewers),
        due_after: due,
        announce_before: before,
        on_due: on_due.unwrap_or(default.on_due),
    }
}

const fn names_persons(rule: &AllowRule) -> bool {
    matches!(rule, AllowRule::Person(_) | AllowRule::Group(_) | AllowRule::Anyone)
}
