use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use tempfile::TempDir;

use super::*;

fn folder(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pgvalet.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    let (_dir, path) = folder(text);
    let pairs = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::load(Some(&path), pairs)
}

/// The faults, without the folder that the file is in.
fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let faults = load(text, variables).unwrap_err().into_iter();
    let lines = faults.map(|fault| fault.to_string());
    lines
        .map(|line| line.rsplit_once("pgvalet.toml:").map_or(line.clone(), |(_, l)| l.to_owned()))
        .collect()
}

fn key(seed: u8) -> [u8; 32] {
    std::array::from_fn(|index| seed.wrapping_add(u8::try_from(index).unwrap()))
}

fn key_file(dir: &TempDir, text: &str, mode: u32) -> PathBuf {
    let path = dir.path().join("keys");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = load("", &[("XDG_STATE_HOME", "/home/x/state")]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8432");
    assert!(config.state.url.is_none() && config.master_keys.is_none());
    assert_eq!(config.state.max_connections, 16);
    assert_eq!(config.throttle.failures_per_minute.get(), 20);
    assert_eq!(config.http.max_body_bytes, 262_144);
    assert_eq!(config.lease.issue_deadline, Duration::from_secs(10));
    let own = !rustix::process::geteuid().is_root();
    let expected = if own { "/home/x/state/pgvalet" } else { "/var/lib/pgvalet" };
    assert_eq!(config.data_dir, Path::new(expected));
}

#[test]
fn the_environment_lies_over_the_file() {
    let text = "listen = '127.0.0.1:1'\ndata_dir = 'data'\n[log]\nfilter = 'warn'\nformat = 'text'\n\
                [state]\nurl = 'postgres://file'\n[lease]\nrotation_grace = '1m'\n";
    let (dir, path) = folder(text);
    let variables = [
        ("PGVALET_LISTEN", "[::1]:0"),
        ("PGVALET_LOG", "debug"),
        ("PGVALET_LOG_FORMAT", ""),
        ("PGVALET_STATE_URL", "postgres://environment"),
        ("PGVALET_TOKEN", "the client's"),
    ];
    let pairs = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::load(Some(&path), pairs).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:0");
    assert_eq!(config.log, LogConfig { format: LogFormat::Text, filter: "debug".to_owned() });
    assert_eq!(config.state.url.unwrap().expose(), "postgres://environment");
    assert_eq!(config.data_dir, dir.path().join("data"), "from the folder of the file");
    assert_eq!(config.lease.rotation_grace, Duration::from_secs(60));
    assert_eq!(config.lease.nudge, "*/10 * * * * *");
}

#[test]
fn all_faults_come_at_once() {
    let text = "listn = 'x'\npublic_url = 'ftp://hunter2'\n[state]\nurl = 'mysql://root:hunter2@x'\n\
                max_connections = 1\n[log]\nformat = 'jsn'\nfilter = 'a=b=c'\n[lease]\n\
                issue_deadline = '5m'\nnudge = '* * * * *'\n[throttle]\nfailures_per_minute = 0\n\
                [http]\nmax_body_bytes = '1MiB'\n";
    let variables = [
        ("PGVALET_LISTN", "x"),
        ("PGVALET_LISTEN", "hier"),
        ("PGVALET_NEW_SETTING", "x"),
        ("PGVALET_MASTER_KEY", "hunter2"),
        ("PGVALET_STATE_URL", "hunter2"),
        ("PATH", "/bin"),
    ];
    let found = faults(text, &variables);
    let begins = [
        "1:1: unknown key `listn`; did you mean `listen`?",
        "2:14: `public_url` cannot be used; write",
        "4:7: `url` in [state]: the value cannot be used; write",
        "5:19: `max_connections = 1` in [state] is out of range; write a whole number from 2 to 200",
        "7:10: `format = \"jsn\"` in [log] is not known; write one of \"auto\", \"text\", \"json\"; did you mean `json`?",
        "8:10: `filter = \"a=b=c\"` in [log] cannot be used",
        "10:18: `issue_deadline = \"5m\"` in [lease] is out of range; write from \"1s\" to \"1m\"",
        "11:9: `nudge = \"* * * * *\"` in [lease] cannot be used (it does not have six fields)",
        "13:23: `failures_per_minute = 0` in [throttle] is out of range",
        "15:18: `max_body_bytes` in [http] is a string; write a whole number from 1024 to 67108864",
        "environment: PGVALET_LISTN: unknown variable; did you mean `PGVALET_LISTEN`?",
        "environment: PGVALET_NEW_SETTING: unknown variable",
        "environment: PGVALET_LISTEN: \"hier\" (invalid socket address syntax) cannot be used; write",
        "environment: PGVALET_STATE_URL: the value cannot be used; write an address such as",
        "environment: PGVALET_MASTER_KEY: line 1 is no key; write 32 bytes in base64",
    ];
    for begin in begins {
        assert!(found.iter().any(|line| line.starts_with(begin)), "{begin}\n{found:#?}");
    }
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    assert!(!found.join("\n").contains("hunter2"), "{found:#?}");
}

#[test]
fn plain_http_beyond_loopback_must_be_meant() {
    let found = faults("listen = '0.0.0.0:8432'", &[]);
    assert!(found[0].contains("put a TLS proxy in front"), "{found:?}");
    assert_eq!(faults("", &[("PGVALET_LISTEN", "10.0.0.1:80")]).len(), 1);
    assert!(load("listen = '0.0.0.0:8432'\nallow_plaintext = true", &[]).is_ok());
    assert!(load("listen = '0.0.0.0:1'", &[("PGVALET_ALLOW_PLAINTEXT", "true")]).is_ok());
}

#[test]
fn a_request_has_the_time_to_make_a_login() {
    let found = faults("[lease]\nissue_deadline = '20s'\n[http]\nrequest_timeout = '24s'", &[]);
    let expected = " `request_timeout = \"24s\"` in [http] is too short for `issue_deadline = \"20s\"` \
                    in [lease]: a request could be given up while its login is made; write at least \"25s\"";
    assert_eq!(found, [expected]);
    assert_eq!(faults("[lease]\nissue_deadline = '26s'", &[]).len(), 1, "the default counts");
    assert!(load("[lease]\nissue_deadline = '5s'\n[http]\nrequest_timeout = '10s'", &[]).is_ok());
}

#[test]
fn a_named_file_must_exist() {
    let found = Config::load(Some(Path::new("/nonexistent/x.toml")), []).unwrap_err();
    assert!(found.to_string().contains("x.toml: this file cannot be read"), "{found}");
    let pairs = [("PGVALET_CONFIG".to_owned(), "/nonexistent/y.toml".to_owned())];
    assert!(Config::load(None, pairs).unwrap_err().to_string().contains("y.toml"));
}

#[test]
fn the_state_url_may_be_in_a_file() {
    let (dir, path) = folder("[state]\nurl = { file = 'url.secret' }");
    let missing = Config::load(Some(&path), []).unwrap_err();
    assert!(missing.to_string().contains("url.secret cannot be read"), "{missing}");
    fs::write(dir.path().join("url.secret"), "postgres://a:b@c/d\n").unwrap();
    let config = Config::load(Some(&path), []).unwrap();
    assert_eq!(config.state.url.unwrap().expose(), "postgres://a:b@c/d");
    let both = [("PGVALET_STATE_URL", "postgres://x"), ("PGVALET_STATE_URL_FILE", "/x")];
    assert!(faults("", &both)[0].contains("PGVALET_STATE_URL_FILE is set as well"));
}

#[test]
fn keys_are_read_in_every_writing() {
    let hex: String = key(9).iter().map(|byte| format!("{byte:02X}")).collect();
    let text = format!(
        "# mine\n\n{}\n {hex} \n{}\n",
        STANDARD.encode(key(1)),
        STANDARD.encode(key(0xf0)).replace('+', "-").replace('/', "_").trim_end_matches('=')
    );
    let keys = MasterKeys::parse(&text).unwrap();
    let bytes: Vec<_> = keys.all().map(|key| *key.bytes.expose()).collect();
    assert_eq!(bytes, [key(1), key(9), key(0xf0)]);
    assert_eq!(keys.sealing().bytes.expose(), &key(1));
    let second = keys.all().nth(1).unwrap();
    assert_eq!(keys.find(second.id), Some(second));
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &key(9));
    assert_eq!(second.id, digest.as_ref()[..4]);
}

#[test]
fn what_is_no_key_is_refused_by_its_line() {
    let good = STANDARD.encode(key(1));
    let cases = [
        (String::new(), "there is no key"),
        ("# only a comment".to_owned(), "there is no key"),
        (format!("{good}\nhunter2"), "line 2 is no key"),
        (STANDARD.encode(&key(1)[..31]), "line 1 is no key"),
        ("z".repeat(64), "line 1 is no key"),
        ("0".repeat(64), "line 1 is a placeholder"),
        (format!("{good}\n#\n{good}"), "line 3 repeats"),
    ];
    for (text, begin) in cases {
        let error = MasterKeys::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with(begin), "{text}: {error}");
        assert!(!error.contains("hunter2"));
    }
}

#[test]
fn a_key_file_is_its_owners_alone() {
    let dir = TempDir::new().unwrap();
    let good = STANDARD.encode(key(1));
    let path = key_file(&dir, &good, 0o640);
    let error = MasterKeys::read(&path).unwrap_err().to_string();
    assert!(error.ends_with(&format!("run: chmod 600 {}", path.display())), "{error}");
    for mode in [0o600, 0o400] {
        assert!(MasterKeys::read(&key_file(&dir, &good, mode)).is_ok());
    }
    let link = dir.path().join("link");
    key_file(&dir, &good, 0o604);
    symlink(&path, &link).unwrap();
    assert!(matches!(MasterKeys::read(&link), Err(KeyFault::Exposed { .. })));
    assert!(matches!(MasterKeys::read(dir.path()), Err(KeyFault::NotAKeyFile(_))));
}

#[test]
fn a_made_key_file_is_private_and_never_overwritten() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("master.key");
    let made = MasterKeys::generate_file(&path, key(3)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(MasterKeys::read(&path).unwrap(), made);
    assert!(matches!(MasterKeys::generate_file(&path, key(4)), Err(KeyFault::Io { .. })));
    assert_eq!(MasterKeys::read(&path).unwrap(), made);
}

#[test]
fn keys_come_from_one_place_only() {
    let (dir, path) = folder("[master_key]\nfile = 'keys'");
    key_file(&dir, &STANDARD.encode(key(1)), 0o600);
    assert!(Config::load(Some(&path), []).unwrap().master_keys.is_some());
    let pair = ("PGVALET_MASTER_KEY".to_owned(), STANDARD.encode(key(2)));
    let error = Config::load(Some(&path), [pair]).unwrap_err().to_string();
    assert!(error.contains("has a [master_key] as well"), "{error}");
    key_file(&dir, &STANDARD.encode(key(1)), 0o644);
    let error = Config::load(Some(&path), []).unwrap_err().to_string();
    assert!(error.contains("run: chmod 600"), "{error}");
}

#[test]
fn what_is_printed_has_no_secret_in_it() {
    let secret = STANDARD.encode(key(1));
    let variables =
        [("PGVALET_STATE_URL", "postgres://u:hunter2@h/d"), ("PGVALET_MASTER_KEY", &secret)];
    let config = load("", &variables).unwrap();
    let shown = format!("{config:?}\n{config:#?}\n{}", config.describe());
    assert!(!shown.contains("hunter2") && !shown.contains(&secret), "{shown}");
    assert!(shown.contains("# url = (set)"), "{shown}");
    let (_dir, path) = folder(&config.describe().replace("[master_key]", ""));
    let again = Config::load(Some(&path), []).unwrap();
    assert_eq!((again.listen, again.log, again.http), (config.listen, config.log, config.http));
}

/// The example that is shipped holds as it is, and with every key switched on names no unknown one.
#[test]
fn the_example_holds() {
    let example = include_str!("../../deploy/pgvalet.toml");
    let config = load(example, &[]).unwrap();
    assert_eq!(config.describe(), load("", &[]).unwrap().describe());
    let switched: Vec<_> = example
        .lines()
        .filter(|line| !line.starts_with("#url = \"postgres"))
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line))
        .collect();
    let (dir, path) = folder(&switched.join("\n"));
    fs::write(dir.path().join("state-url.secret"), "postgres://x").unwrap();
    fs::write(dir.path().join("client.secret"), "s3cr3t").unwrap();
    fs::write(dir.path().join("mail.secret"), "s3cr3t").unwrap();
    fs::write(dir.path().join("slack-signing.secret"), "s3cr3t").unwrap();
    fs::write(dir.path().join("slack-bot.token"), "xoxb-s3cr3t").unwrap();
    let signs = format!("whsec_{}", "A".repeat(40));
    fs::write(dir.path().join("pager.secret"), signs).unwrap();
    MasterKeys::generate_file(&dir.path().join("master.key"), key(1)).unwrap();
    let issuer = rcgen::KeyPair::generate().unwrap();
    let issuer = rcgen::CertifiedIssuer::self_signed(authority(), issuer).unwrap();
    for authority in ["clients-ca.pem", "hooks-ca.pem", "mail-ca.pem"] {
        fs::write(dir.path().join(authority), issuer.pem()).unwrap();
    }
    fs::write(dir.path().join("clients.crl"), revoked(&issuer)).unwrap();
    let own = rcgen::generate_simple_self_signed(["pgvalet.example".to_owned()]).unwrap();
    fs::write(dir.path().join("tls.crt"), own.cert.pem()).unwrap();
    let tls_key = dir.path().join("tls.key");
    fs::write(&tls_key, own.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&tls_key, fs::Permissions::from_mode(0o600)).unwrap();
    let variables = [("AWS_ROLE_ARN".to_owned(), "arn".to_owned())];
    let full = Config::load(Some(&path), variables).unwrap();
    assert_eq!(full.lease, config.lease);
    assert_eq!(full.http, config.http);
}

fn authority() -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
    params
}

fn revoked(by: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>) -> String {
    let params = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2021, 1, 1),
        next_update: rcgen::date_time_ymd(2090, 1, 1),
        crl_number: rcgen::SerialNumber::from_slice(&[1]),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(by).unwrap().pem().unwrap()
}

#[test]
fn slack_needs_a_provider() {
    let text = "[slack]\nteams = ['T0123ABCD']\nsigning_secret = 'x'\nbot_token = 'xoxb-x'\nchannel = 'C0123ABCD'\n";
    let found = faults(text, &[]);
    assert!(matches!(&found[..], [one] if one.contains("[oidc] is not set")), "{found:?}");
}
