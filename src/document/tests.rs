use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// The faults of reading `text`, one per line, without the file's name.
fn faults(text: &str, reader: impl FnOnce(&mut Table)) -> Vec<String> {
    let read = Document::parse("x.toml", text).map(|document| document.read(reader).1);
    let faults = read.unwrap_or_else(|faults| faults);
    let lines = faults.to_string();
    lines.lines().map(|line| line.strip_prefix("x.toml:").unwrap_or(line).to_owned()).collect()
}

#[test]
fn what_is_right_is_read() {
    let text = r#"
        port = 5_432
        ttl = "1h 30m"
        deep.inside = true
        list = ["a", "b"]
        tables = "all"
        admin = { file = "x.secret" }
        [target.zebra]
        host = "z"
        [target.ape]
        host = "a"
        [[grant]]
        schema = "one"
        [[grant]]
        schema = "two"
        [settings]
        work_mem = "64MB"
        "odd name" = "x"
    "#;
    let (hosts, faults) = Document::parse("x.toml", text).unwrap().read(|root| {
        assert_eq!(root.integer_in("port", 1_u16..=65535), Some(5432));
        assert_eq!(root.duration("ttl"), Some(Duration::from_secs(5400)));
        assert_eq!(root.table("deep").unwrap().boolean("inside"), Some(true));
        assert_eq!(root.strings("list").unwrap(), ["a", "b"]);
        assert_eq!(root.strings_or("tables", "all"), Some(Choice::Word));
        assert_eq!(root.text_or_file("admin"), Some(TextSource::File("x.secret".to_owned())));
        let schemas = root.tables("grant").into_iter();
        let schemas: Vec<_> = schemas.map(|mut grant| grant.required_string("schema")).collect();
        assert_eq!(schemas, [Some("one".to_owned()), Some("two".to_owned())]);
        let settings = root.strings_by_name("settings").unwrap();
        assert_eq!(settings[1], ("odd name".to_owned(), "x".to_owned()));
        let targets = root.map_of_tables("target").into_iter();
        targets.map(|(name, mut t)| (name, t.required_string("host").unwrap())).collect::<Vec<_>>()
    });
    assert_eq!(faults, Faults::default());
    let expected = [("zebra".to_owned(), "z".to_owned()), ("ape".to_owned(), "a".to_owned())];
    assert_eq!(hosts, expected, "in the order in which they are written");
}

/// A text, what is asked of it, and the one fault that must come of it.
type Case = (&'static str, fn(&mut Table), &'static str);

const CASES: &[Case] = &[
    (
        "ttll = 1",
        |t| {
            t.duration("ttl");
        },
        "1:1: unknown key `ttll`; did you mean `ttl`?",
    ),
    (
        "zzz = 1",
        |t| {
            t.duration("ttl");
        },
        "1:1: unknown key `zzz`",
    ),
    (
        "",
        |t| {
            t.required_string("host");
        },
        "1:1: `host` is missing",
    ),
    (
        "host = ' '",
        |t| {
            t.required_string("host");
        },
        "1:8: `host` is empty; write a value or leave it out",
    ),
    (
        "host = 1",
        |t| {
            t.optional_string("host");
        },
        "1:8: `host` is a whole number; write a string, in quotes",
    ),
    (
        "port = 70000",
        |t| {
            t.integer_in("port", 1_u16..=65535);
        },
        "1:8: `port = 70000` is out of range; write a whole number from 1 to 65535",
    ),
    (
        "port = '1'",
        |t| {
            t.integer_in("port", 1_u16..=65535);
        },
        "1:8: `port` is a string; write a whole number from 1 to 65535",
    ),
    (
        "port = 1.5",
        |t| {
            t.integer_in("port", 1_u16..=9);
        },
        "1:8: `port` is a number with a fraction; write a whole number from 1 to 9",
    ),
    (
        "ttl = 30",
        |t| {
            t.duration("ttl");
        },
        "1:7: `ttl` is a whole number; write a length of time: \"30s\"",
    ),
    (
        "ttl = 'soon'",
        |t| {
            t.duration("ttl");
        },
        "1:7: `ttl = \"soon\"` is no length of time; write for example \"30s\", \"1h\" or \"1h 30m\"",
    ),
    (
        "ttl = '2m'",
        |t| {
            t.duration_in("ttl", Duration::from_secs(1)..=Duration::from_secs(60));
        },
        "1:7: `ttl = \"2m\"` is out of range; write from \"1s\" to \"1m\"",
    ),
    (
        "on = 'yes'",
        |t| {
            t.boolean("on");
        },
        "1:6: `on` is a string; write true or false, without quotes",
    ),
    (
        "preset = 'readnly'",
        |t| {
            t.one_of("preset", &["readonly", "admin"]);
        },
        "1:10: `preset = \"readnly\"` is not known; write one of \"readonly\", \"admin\"; did you mean `readonly`?",
    ),
    (
        "list = ['a', 2]",
        |t| {
            t.strings("list");
        },
        "1:14: `list` has a whole number in it; write a list of strings, such as [\"a\", \"b\"]",
    ),
    (
        "list = 'a'",
        |t| {
            t.strings_or("list", "all");
        },
        "1:8: `list` is a string; write \"all\" or a list of strings, such as [\"a\", \"b\"]",
    ),
    (
        "admin = 1",
        |t| {
            t.table("admin");
        },
        "1:9: `admin` is a whole number; write a table",
    ),
    (
        "grant = 1",
        |t| {
            t.tables("grant");
        },
        "1:9: `grant` is a whole number; write a table headed [[grant]]",
    ),
    (
        "target = 1",
        |t| {
            t.map_of_tables("target");
        },
        "1:10: `target` is a whole number; write a table headed [target.NAME]",
    ),
    (
        "s = { a = 1 }",
        |t| {
            t.strings_by_name("s");
        },
        "1:11: `s.a` is a whole number; write a string, in quotes",
    ),
    (
        "columns = 1",
        |t| t.not_yet("columns", "column grants come later"),
        "1:1: `columns` is not supported yet: column grants come later; leave it out",
    ),
    (
        "addr = 'x'",
        |t| {
            t.parsed("addr", "an address", |_| Err::<(), _>("no port"));
        },
        "1:8: `addr = \"x\"` cannot be used (no port); write an address",
    ),
    (
        "user = 'x'",
        |t| {
            t.optional_string("user");
            t.fault("user", "no such person")
        },
        "1:8: `user`: no such person",
    ),
];

#[test]
fn every_kind_of_fault_says_where_and_what_to_write() {
    for (text, reader, expected) in CASES {
        assert_eq!(faults(text, reader), [*expected], "{text}");
    }
}

#[test]
fn all_faults_come_at_once_by_position() {
    let text = "port = 0\n\n[profile.x]\nttll = \"1h\"\n\"öl\" = { a = 1 } # ö\npreset = \"a\"\n\
                [[profile.x.grant]]\n[[profile.x.grant]]\nschema = 1\n";
    let found = faults(text, |root| {
        for (_, mut profile) in root.map_of_tables("profile") {
            profile.duration("ttl");
            profile.one_of("preset", &["b"]);
            for mut grant in profile.tables("grant") {
                grant.required_string("schema");
            }
            profile.required_string("target");
        }
        root.integer_in("port", 1_u8..=9);
    });
    let expected = [
        "1:8: `port = 0` is out of range; write a whole number from 1 to 9",
        "3:10: `target` in [profile.x] is missing",
        "4:1: unknown key `ttll` in [profile.x]; did you mean `ttl`?",
        "5:1: unknown key `\"öl\"` in [profile.x]",
        "6:10: `preset = \"a\"` in [profile.x] is not known; write one of \"b\"; did you mean `b`?",
        "7:1: `schema` in [profile.x.grant[0]] is missing",
        "9:10: `schema` in [profile.x.grant[1]] is a whole number; write a string, in quotes",
    ];
    assert_eq!(found, expected);
}

#[test]
fn every_syntax_fault_is_reported() {
    let found = faults("a = \nb = 1\nb = 2\n[c\n", |_| ());
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found.iter().all(|line| line.contains("this is not TOML")), "{found:#?}");
}

#[test]
fn no_fault_shows_a_secret() {
    let text = "password = 'hunter2'\nurl = 'hunter2'\napi_key = 42424242\ntoken = 'hunter2'\n\
                [secret]\nttl = 'hunter2'\nkind = 'hunter2'";
    let found = faults(text, |root| {
        root.parsed("password", "a password", |text| Err::<(), _>(text.to_owned()));
        root.one_of("url", &["hunter3"]);
        root.integer_in("api_key", 1_u8..=9);
        root.duration("token");
        let mut inside = root.table("secret").unwrap();
        inside.duration("ttl");
        inside.one_of("kind", &["hunter3"]);
    });
    assert_eq!(found.len(), 6, "{found:#?}");
    let all = found.join("\n").replace("\"hunter3\"", "");
    assert!(!all.contains("hunter") && !all.contains("4242"), "{all}");
    assert_eq!(format!("{:?}", TextSource::Inline("hunter2".to_owned().into())), "Inline(…)");
}

#[test]
fn a_fault_is_data() {
    let fault = Source::new("a.toml", "x\nyy").fault(3, "k".to_owned(), "no".to_owned());
    let json = serde_json::to_string(&fault).unwrap();
    assert_eq!(json, r#"{"file":"a.toml","line":2,"column":2,"key":"k","message":"no"}"#);
    let plain = Fault::without_position("environment", "X", "no".to_owned());
    assert_eq!(plain.to_string(), "environment: no");
    assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), fault);
}

proptest! {
    /// Whatever is written, reading it neither panics nor accepts a key that nobody asked for.
    #[test]
    fn unasked_keys_never_pass(keys in proptest::collection::btree_set("[a-d]{1,2}", 1..5)) {
        let text: String = keys.iter().map(|key| format!("{key} = 1\n")).collect();
        let found = faults(&text, |root| { root.integer_in("a", 0_u8..=9); });
        prop_assert_eq!(found.len(), keys.iter().filter(|key| *key != "a").count());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a\\[\\]{}=\"'\n#.,1 é-]{0,40}") {
        faults(&text, |root| { root.table("a"); });
    }
}
