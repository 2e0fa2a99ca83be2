//! Reading a target: where it is, and where what signs in there comes from.

use std::num::NonZeroU32;

use crate::{
    document::Table,
    domain::{
        admin_source::{AdminSource, AwsRds},
        plan::{DesiredTarget, SentAlong},
        profile_file::{WRITE_SCHEDULE, checked_name},
        schedule::Schedule,
        target::{DEFAULT_SCRAM_ITERATIONS, MAX_SCRAM_ITERATIONS, SslMode, TargetSpec, faults},
    },
};

const WRITE_PASSWORD: &str = "write one of { file = \"…\" } and { env = \"…\" }, which are read by whoever applies and kept sealed, \
     { command = [\"/usr/bin/…\"] }, { daemon_file = \"/…\" }, { aws_rds = { region = \"…\" } }, which the daemon asks whenever it \
     connects, and { client_certificate = true }";

/// Reads `[target.NAME]`.
pub(super) fn read(name: &str, mut table: Table) -> Option<DesiredTarget> {
    let name = checked_name(name, &table);
    table.require(&["host", "admin", "databases"]);
    let environment = table.optional_string("environment").unwrap_or_default();
    let host = table.optional_string("host");
    let port = table.integer_in("port", 1_u16..=u16::MAX).unwrap_or(5432);
    let sslmode = table.one_of("sslmode", &SslMode::ALL);
    let sslmode = sslmode.and_then(SslMode::from_text).unwrap_or(SslMode::VerifyFull);
    let (sslrootcert_pem, ssl_root_cert) = read_certificate(&mut table, "sslrootcert");
    let (sslcert_pem, ssl_cert) = read_certificate(&mut table, "sslcert");
    let ssl_key = read_sent(&mut table, "sslkey");
    let databases = table.strings("databases");
    let max_live = table.integer_in("max_live", 1..=1_000_000);
    let iterations = table.integer_in("scram_iterations", 1..=MAX_SCRAM_ITERATIONS);
    let rotate_admin = table.parsed("rotate_admin", WRITE_SCHEDULE, str::parse::<Schedule>);
    let (mut admin_user, mut password, mut admin_source) = (None, None, None);
    if let Some(mut admin) = table.table("admin") {
        admin_user = admin.required_string("user");
        (password, admin_source) = read_password(&mut admin);
    }
    let never = admin_source.as_ref().map(|_| Schedule::Never);
    let spec = TargetSpec {
        name: name?,
        environment,
        host: host?,
        port,
        sslmode,
        sslrootcert_pem,
        sslcert_pem,
        admin_user: admin_user?,
        admin_source,
        databases: databases?,
        max_live,
        scram_iterations: iterations.and_then(NonZeroU32::new).unwrap_or(DEFAULT_SCRAM_ITERATIONS),
        rotate_admin: rotate_admin.or(never).unwrap_or_else(Schedule::ninety_days),
    };
    let sent = SentAlong { password, ssl_key, ssl_cert, ssl_root_cert };
    let shows_certificate = spec.sslcert_pem.is_some() || sent.ssl_cert.is_some();
    if sent.ssl_key.is_some() && !shows_certificate {
        table.fault("sslkey", "is the key of no certificate: write `sslcert` too");
    }
    // What is sent along is not there yet: the whole target is looked at again when it is.
    let has_all = sent.ssl_cert.is_none() && sent.ssl_root_cert.is_none();
    if has_all {
        for (key, message) in faults(&spec) {
            table.fault(key, &message);
        }
    }
    Some(DesiredTarget { spec, sent })
}

/// A certificate: written in the file, or sent along by whoever sends the file.
fn read_certificate(table: &mut Table, key: &'static str) -> (Option<String>, Option<String>) {
    if table.is_table(key) {
        (None, read_sent(table, key))
    } else {
        (table.optional_string(key), None)
    }
}

/// `{ file = "…" }` or `{ env = "…" }`: read by whoever sends the file, never written in it.
fn read_sent(table: &mut Table, key: &'static str) -> Option<String> {
    if !table.has(key) {
        return None;
    }
    let mut source = table.table(key)?;
    let sent = sent_name(&mut source);
    if sent.is_none() {
        source.fault("file", "write either { file = \"…\" } or { env = \"…\" }");
    }
    sent
}

/// The name under which it is sent along; none unless the table says exactly one.
fn sent_name(source: &mut Table) -> Option<String> {
    let file = source.optional_string("file").map(|path| format!("file:{path}"));
    let variable = source.optional_string("env").map(|variable| format!("env:{variable}"));
    if file.is_some() && variable.is_some() { None } else { file.or(variable) }
}

/// The admin's password: sent along, or asked for by the daemon whenever it connects.
fn read_password(admin: &mut Table) -> (Option<String>, Option<AdminSource>) {
    if !admin.has("password") {
        return (None, None);
    }
    let Some(mut table) = admin.table("password") else { return (None, None) };
    let mut all = Vec::new();
    all.extend(table.strings("command").map(AdminSource::Command));
    all.extend(table.optional_string("daemon_file").map(AdminSource::DaemonFile));
    if let Some(mut aws) = table.table("aws_rds") {
        let region = aws.required_string("region");
        all.extend(region.map(|region| AdminSource::AwsRds(AwsRds { region })));
    }
    if table.boolean("client_certificate") == Some(true) {
        all.push(AdminSource::ClientCertificate);
    }
    let sent = sent_name(&mut table);
    if all.len() + usize::from(sent.is_some()) != 1 {
        table.fault("", WRITE_PASSWORD);
    }
    (sent, all.pop())
}
