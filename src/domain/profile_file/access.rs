//! Reading who may ask under which conditions, and who may administer.

use std::fmt::Display;

use crate::{
    document::Table,
    domain::{
        administration::{Administration, Role},
        approval::{InChat, Needs, Step},
        conditions::{Conditions, Day, Hours},
        duration::Seconds,
        profile::Reason,
        profile_file::read_rules,
    },
};

/// The conditions beside `allow` and `reason`.
pub(super) fn read_conditions(access: &mut Table) -> Conditions {
    let networks = access.strings("networks").unwrap_or_default();
    let networks = networks.iter().filter_map(|text| {
        let read = text.parse().map_err(|_| {
            format!("`{text}` is no network: write an address and a mask, such as \"10.0.0.0/8\" or \"203.0.113.7/32\"")
        });
        ok_or_fault(access, "networks", read)
    });
    let networks = networks.collect();
    let max_live = access.integer_in("max_live", 1..=1_000_000);
    let max_live_each = access.integer_in("max_live_each", 1..=1_000_000);
    let rate = access.parsed("rate", "how many in how long, such as \"10/1h\"", str::parse);
    let hours = access.tables("hours").into_iter().filter_map(read_hours).collect();
    let ticket = access.one_of("ticket", Reason::ALL).and_then(Reason::from_text);
    let approval = access.table("approval").map(read_approval);
    let ticket = ticket.unwrap_or_default();
    Conditions { networks, hours, max_live, max_live_each, rate, ticket, approval }
}

/// `from` and `count` stand for one step; more than one are `steps`.
fn read_approval(mut table: Table) -> Needs {
    let mut steps: Vec<Step> = table.tables("steps").into_iter().map(read_step).collect();
    if table.has("from") || table.has("count") {
        if !steps.is_empty() {
            table.fault("from", "belongs into one of the `steps` when there are some");
        }
        let from = read_rules(&mut table, "from");
        let count = table.integer_in("count", 1..=1000);
        steps.insert(0, Step { from, count: count.unwrap_or(1) });
    }
    let mut length =
        |key| table.parsed(key, "a length of time such as \"4h\"", str::parse::<Seconds>);
    let (lapse_after, use_within) = (length("lapse_after"), length("use_within"));
    let in_chat = table.one_of("in_chat", InChat::ALL).and_then(InChat::from_text);
    Needs {
        steps,
        lapse_after: lapse_after.unwrap_or(Seconds::FOUR_HOURS),
        use_within: use_within.unwrap_or(Seconds::HOUR),
        in_chat: in_chat.unwrap_or_default(),
    }
}

fn read_step(mut table: Table) -> Step {
    let from = read_rules(&mut table, "from");
    let count = table.integer_in("count", 1..=1000);
    Step { from, count: count.unwrap_or(1) }
}

fn read_hours(mut table: Table) -> Option<Hours> {
    table.require(&["from", "to", "timezone"]);
    let days = table.strings("days").unwrap_or_default();
    let days = days.iter().filter_map(|text| {
        let read = Day::from_text(text)
            .ok_or_else(|| format!("`{text}` is no day: write one of {}", Day::ALL.join(", ")));
        ok_or_fault(&table, "days", read)
    });
    let days = days.collect();
    let mut time = |key| table.parsed(key, "hours and minutes, such as \"08:00\"", str::parse);
    let (from, to) = (time("from"), time("to"));
    let timezone = table.parsed("timezone", "a name such as \"Europe/Berlin\"", str::parse);
    Some(Hours { days, from: from?, to: to?, timezone: timezone? })
}

/// `[administration]`: for each role, who holds it. None if the file does not say.
pub(super) fn read_administration(root: &mut Table) -> Option<Administration> {
    let mut table = root.table("administration")?;
    let roles = Role::VALUES.iter().filter(|role| table.has(role.as_str()));
    let roles: Vec<Role> = roles.copied().collect();
    let rules = |role: Role| (role, read_rules(&mut table, role.as_str()));
    Some(Administration(roles.into_iter().map(rules).collect()))
}

fn ok_or_fault<T>(table: &Table, key: &str, read: Result<T, impl Display>) -> Option<T> {
    read.map_err(|message| table.fault(key, &message.to_string())).ok()
}
