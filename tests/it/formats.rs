//! Values that are hostile to each format, written by pgvalet and read back by those whom the format is for:
//! libpq itself, a shell, Java's driver.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use pgvalet::{
    api::leases::ReceivedCredential,
    cli::format::{Access, Format},
    ids::LeaseId,
    secret::Secret,
};
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::{Value, json};

/// How many credentials are tried.
const TRIES: usize = 300;

/// Letters that one of the formats gives a meaning to, and others.
const LETTERS: &str = "[ -~äß\u{1f511}\t\n'\"\\\\:/?#@&=%$`*]{1,24}";

/// What libpq makes of what it is given: each format in the way in which a program hands it over.
const LIBPQ: &str = r#"
import ctypes, json, os, sys
libpq = ctypes.CDLL("libpq.so.5")
class Option(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in
        ("keyword", "envvar", "compiled", "val", "label", "dispchar")] + [("dispsize", ctypes.c_int)]
for name in ("PQconninfoParse", "PQconndefaults"):
    getattr(libpq, name).restype = ctypes.POINTER(Option)
libpq.PQconnectStartParams.restype = ctypes.c_void_p
libpq.PQpass.restype = ctypes.c_char_p
libpq.PQpass.argtypes = libpq.PQfinish.argtypes = [ctypes.c_void_p]
libpq.PQconninfoFree.argtypes = [ctypes.POINTER(Option)]

def values(options):
    found, n = {}, 0
    while options and options[n].keyword:
        if options[n].val is not None:
            found[options[n].keyword.decode()] = options[n].val.decode()
        n += 1
    if options:
        libpq.PQconninfoFree(options)
    return found

def parsed(text):
    return values(libpq.PQconninfoParse(text.encode(), None))

def service(text, name):
    with open("service", "w") as file:
        file.write(text)
    os.environ.update(PGSERVICEFILE="service", PGSERVICE=name)
    found = values(libpq.PQconndefaults())
    del os.environ["PGSERVICE"]
    return found

def password(text, c):
    with open(os.open("pass", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    given = {"host": c["host"], "port": str(c["port"]), "dbname": c["database"], "user": c["user"], "passfile": "pass"}
    if not c["host"].startswith(("/", "@")):
        given["hostaddr"] = "127.0.0.1"
    strings = lambda texts: (ctypes.c_char_p * (len(texts) + 1))(*[text.encode() for text in texts], None)
    connection = libpq.PQconnectStartParams(strings(given.keys()), strings(given.values()), 0)
    found = libpq.PQpass(connection).decode()
    libpq.PQfinish(connection)
    return found

answers = []
for case in json.load(sys.stdin):
    answer = {"uri": parsed(case["uri"]), "kv": parsed(case["kv"]), "bare": parsed(case["bare"])}
    if case["pgservice"] is not None:
        answer["pgservice"] = service(case["pgservice"], case["service"])
    if case["pgpass"] is not None:
        answer["pgpass"] = password(case["pgpass"], case)
    answers.append(answer)
json.dump(answers, sys.stdout)
"#;

/// pgjdbc's own reading of an URL, one line of JSON each. Strings are told in hexadecimal.
const JDBC: &str = r#"
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;

class Read {
    public static void main(String[] arguments) throws Exception {
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            byte[] url = HexFormat.of().parseHex(line);
            Properties read = org.postgresql.Driver.parseURL(new String(url, StandardCharsets.UTF_8), null);
            StringJoiner told = new StringJoiner(" ");
            for (String key : List.of("user", "password", "PGDBNAME", "options", "ApplicationName", "PGPORT")) {
                String value = read == null ? "" : read.getProperty(key, "");
                told.add(HexFormat.of().formatHex(value.getBytes(StandardCharsets.UTF_8)));
            }
            System.out.println(told);
        }
    }
}
"#;

/// Where Debian's package has pgjdbc.
pub(crate) const PGJDBC: &str = "/usr/share/java/postgresql.jar";

fn credentials() -> Vec<ReceivedCredential> {
    let host = prop_oneof![
        Just("db.internal".to_owned()),
        Just("10.0.0.7".to_owned()),
        Just("2001:db8::7".to_owned()),
        Just("::1".to_owned()),
        Just("/tmp".to_owned()),
        Just("/no such/folder:5432".to_owned()),
        Just("@abstract".to_owned()),
        // A comma would be two hosts.
        LETTERS.prop_map(|text| text.replace(',', ";")),
    ];
    let options = prop_oneof![
        Just("-c role=pgvg_shop_read".to_owned()),
        Just(r"-c role=an\ odd\\\ one".to_owned()),
        LETTERS,
    ];
    let strategy = (host, 1_u16.., LETTERS, LETTERS, LETTERS, options);
    let mut runner = TestRunner::deterministic();
    let mut next = || {
        let (host, port, database, user, password, options) =
            strategy.new_tree(&mut runner).unwrap().current();
        ReceivedCredential {
            host,
            port,
            database,
            user,
            password: Secret::new(password),
            sslmode: "disable".to_owned(),
            sslrootcert_pem: None,
            options,
            valid_until: chrono::DateTime::from_timestamp(1_900_000_000, 0).unwrap(),
            uri: Secret::new(String::new()),
        }
    };
    (0..TRIES).map(|_| next()).collect()
}

fn access(credential: &ReceivedCredential) -> Access<'_> {
    let lease_id = "lse_0190c5d3e1a27c41b1f5d0c2a1b3c4d5".parse::<LeaseId>().unwrap();
    let expires_at = credential.valid_until;
    Access { credential, lease_id, profile: "shop-read", expires_at, root_certificate: None }
}

fn written(credential: &ReceivedCredential, format: Format) -> Option<String> {
    let text = access(credential).write(format).ok()?;
    Some(text.expose().strip_suffix('\n').unwrap().to_owned())
}

fn has(program: &str, arguments: &[&str]) -> bool {
    let tried = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let is_there = tried.is_ok_and(|output| output.status.success());
    if !is_there {
        // Not by a macro: what those write, the test runner keeps to itself.
        let said = format!("what {program} reads of the formats is not tried: it is not here\n");
        std::io::stderr().write_all(said.as_bytes()).unwrap();
    }
    is_there
}

fn ask(mut command: Command, folder: &Path, input: &str) -> Vec<u8> {
    fs::write(folder.join("input"), input).unwrap();
    command.current_dir(folder).stdin(fs::File::open(folder.join("input")).unwrap());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = command.env("PYTHONUTF8", "1").env("HOME", folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn libpq_reads_back_what_was_written() {
    if !has("python3", &["-c", "import ctypes; ctypes.CDLL('libpq.so.5')"]) {
        return;
    }
    let credentials = credentials();
    let case = |c: &ReceivedCredential| {
        json!({
            "host": c.host, "port": c.port, "database": c.database, "user": c.user,
            "uri": written(c, Format::Uri), "kv": written(c, Format::Kv),
            "bare": access(c).uri_without_password(), "service": access(c).service_name(),
            "pgservice": access(c).write(Format::Pgservice).ok().map(|text| text.expose().clone()),
            "pgpass": access(c).write(Format::Pgpass).ok().map(|text| text.expose().clone()),
        })
    };
    let cases: Vec<Value> = credentials.iter().map(case).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.args(["-c", LIBPQ]);
    let answers = ask(command, folder.path(), &json!(cases).to_string());
    let answers: Vec<Value> = serde_json::from_slice(&answers).unwrap();
    assert_eq!(answers.len(), TRIES);
    let (mut services, mut passwords) = (0, 0);
    for ((c, case), answer) in credentials.iter().zip(&cases).zip(&answers) {
        for form in ["uri", "kv", "pgservice", "bare"] {
            if form == "pgservice" && case[form].is_null() {
                let broken = [&c.host, &c.database, &c.user, c.password.expose(), &c.options];
                let cannot = |text: &&String| text.contains('\n') || text.ends_with([' ', '\t']);
                assert!(broken.iter().any(cannot), "refused without need: {case}");
                continue;
            }
            let read = &answer[form];
            let password = (form != "bare").then(|| c.password.expose().as_str());
            assert_eq!(read["host"], c.host, "{form}: {case}");
            assert_eq!(read["port"], c.port.to_string(), "{form}: {case}");
            assert_eq!(read["dbname"], c.database, "{form}: {case}");
            assert_eq!(read["user"], c.user, "{form}: {case}");
            assert_eq!(read["password"].as_str(), password, "{form}: {case}");
            assert_eq!(read["options"], c.options, "{form}: {case}");
            assert_eq!(read["application_name"], "pgvalet/shop-read", "{form}: {case}");
            services += usize::from(form == "pgservice");
        }
        if !case["pgpass"].is_null() {
            assert_eq!(answer["pgpass"], c.password.expose().as_str(), "{case}");
            passwords += 1;
        }
    }
    assert!(services > TRIES / 10 && passwords > TRIES / 10, "{services}, {passwords}");
}

#[test]
fn a_shell_reads_back_what_was_written() {
    let credentials = credentials();
    let folder = tempfile::tempdir().unwrap();
    let mut script = String::new();
    for (n, c) in credentials.iter().enumerate() {
        fs::write(folder.path().join(n.to_string()), written(c, Format::Dotenv).unwrap()).unwrap();
        script.push_str(&format!(
            "( set -a; . ./{n}; exec printf '%s\\0' \"$PGHOST\" \"$PGDATABASE\" \"$PGUSER\" \"$PGPASSWORD\" \"$PGOPTIONS\" )\n"
        ));
    }
    let read = String::from_utf8(ask(Command::new("sh"), folder.path(), &script)).unwrap();
    let read: Vec<&str> = read.split_terminator('\0').collect();
    assert_eq!(read.len(), 5 * TRIES);
    for (c, read) in credentials.iter().zip(read.chunks(5)) {
        assert_eq!(read, [&c.host, &c.database, &c.user, c.password.expose(), &c.options]);
    }
}

#[test]
fn pgjdbc_reads_back_what_was_written() {
    if !Path::new(PGJDBC).exists() || !has("javac", &["-version"]) {
        return;
    }
    let credentials = credentials();
    let hexadecimal = |text: &str| -> String { text.bytes().map(|b| format!("{b:02x}")).collect() };
    let urls: String = credentials
        .iter()
        .map(|c| hexadecimal(&written(c, Format::Jdbc).unwrap()) + "\n")
        .collect();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("Read.java"), JDBC).unwrap();
    let mut command = Command::new("java");
    command.args(["-cp", PGJDBC, "Read.java", "input"]);
    let read = String::from_utf8(ask(command, folder.path(), &urls)).unwrap();
    assert_eq!(read.lines().count(), TRIES);
    for (c, line) in credentials.iter().zip(read.lines()) {
        let values = [
            &c.user,
            c.password.expose(),
            &c.database,
            &c.options,
            &"pgvalet/shop-read".to_owned(),
            &c.port.to_string(),
        ];
        let values: Vec<String> = values.into_iter().map(|text| hexadecimal(text)).collect();
        assert_eq!(line, values.join(" "), "{c:?}");
    }
}
