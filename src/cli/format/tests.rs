//! Each format, of plain and of hostile values; what reads them back is in the integration tests.

use super::*;

fn credential(host: &str, database: &str, options: &str) -> ReceivedCredential {
    ReceivedCredential {
        host: host.to_owned(),
        port: 5433,
        database: database.to_owned(),
        user: "pgv_alice".to_owned(),
        password: Secret::new("p_W-1".to_owned()),
        sslmode: "require".to_owned(),
        sslrootcert_pem: None,
        options: options.to_owned(),
        valid_until: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
        uri: Secret::new(String::new()),
    }
}

fn written(
    credential: &ReceivedCredential,
    root_certificate: Option<&str>,
    format: Format,
) -> Result<String, CannotWrite> {
    let lease_id = LeaseId::from(uuid::Uuid::nil());
    let expires_at = credential.valid_until;
    Access { credential, lease_id, profile: "shop-read", expires_at, root_certificate }
        .write(format)
        .map(|secret| secret.expose().clone())
}

/// Everything that one of the formats gives a meaning to.
const HOSTILE: &str = "a b'c\\d:e/f?g#h@i&j=k%l$m\"n`o*ä\u{1f511}";

#[test]
fn every_format_of_a_plain_credential() {
    use clap::ValueEnum;
    let plain = credential("db.internal", "shop", "-c role=pgvg_shop_read");
    let all: Vec<String> = Format::value_variants()
        .iter()
        .map(|format| written(&plain, None, *format).unwrap())
        .collect();
    insta::assert_snapshot!(all.join("---\n"));
}

#[test]
fn every_format_of_a_hostile_credential() {
    use clap::ValueEnum;
    let hostile = credential(HOSTILE, HOSTILE, HOSTILE);
    let all: Vec<String> = Format::value_variants()
        .iter()
        .map(|format| written(&hostile, None, *format).unwrap())
        .collect();
    insta::assert_snapshot!(all.join("---\n"));
}

#[test]
fn the_authority_is_a_file_or_the_systems() {
    let mut c = credential("db", "shop", "");
    for (sslmode, file, uri, jdbc) in [
        ("require", None, false, false),
        ("verify-ca", None, false, true),
        ("verify-full", None, true, true),
        ("verify-full", Some("/a b.pem"), false, false),
    ] {
        c.sslmode = sslmode.to_owned();
        let text = written(&c, file, Format::Uri).unwrap();
        assert_eq!(text.contains("sslrootcert=system"), uri, "{text}");
        assert_eq!(text.contains("sslrootcert=%2Fa%20b.pem"), file.is_some(), "{text}");
        let text = written(&c, file, Format::Jdbc).unwrap();
        assert_eq!(text.contains("sslfactory="), jdbc, "{text}");
    }
}

#[test]
fn addresses_and_sockets_stand_where_their_readers_look() {
    for (host, format, part) in [
        ("::1", Format::Uri, "@[::1]:5433/shop"),
        ("::1", Format::Jdbc, "//[::1]:5433/shop"),
        ("::1", Format::Pgpass, r"\:\:1:5433:shop:"),
        ("/srv/pg", Format::Uri, "postgresql:///shop?host=%2Fsrv%2Fpg&port=5433&user="),
        ("/srv/pg", Format::Kv, "host='/srv/pg' port='5433'"),
        ("/srv/pg", Format::Pgpass, "/srv/pg:5433:"),
        ("/tmp", Format::Pgpass, "localhost:5433:shop:pgv_alice:p_W-1\n/tmp:5433:"),
    ] {
        let text = written(&credential(host, "shop", ""), None, format).unwrap();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused_by_name() {
    let long = "x".repeat(1020);
    for (database, format, key) in [
        ("a\nb", Format::Pgservice, "dbname"),
        ("a\r", Format::Pgservice, "dbname"),
        ("a ", Format::Pgservice, "dbname"),
        (long.as_str(), Format::Pgservice, "dbname"),
        ("a\nb", Format::Pgpass, "dbname"),
    ] {
        let refused = written(&credential("db", database, ""), None, format).unwrap_err();
        assert_eq!(refused.key, key);
    }
    assert!(written(&credential("#db", "shop", ""), None, Format::Pgpass).is_err());
    assert!(written(&credential("db", "*", ""), None, Format::Pgpass).unwrap().contains(r":\*:"));
}

#[test]
fn a_shell_reads_back_what_dotenv_says() {
    let database = format!("{HOSTILE}\nsecond line");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("env");
    let text = written(&credential("db", &database, ""), None, Format::Dotenv).unwrap();
    std::fs::write(&file, text).unwrap();
    let read = std::process::Command::new("sh")
        .args(["-c", r#"set -a; . "$1"; exec sh -c 'printf %s "$PGDATABASE"'"#, "sh"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(read.stdout).unwrap(), database);
}
