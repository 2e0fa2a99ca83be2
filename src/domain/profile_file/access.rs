//! Reading who may ask under which conditions, and who may administer.

use std::fmt::Display;

use crate::{
    document::Table,
    domain::{
        administration::{Administration, Role},
        conditions::{Conditions, Day, Hours},
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
    Conditions { networks, hours, max_live, max_live_each, rate }
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
