//! `/metrics`: strictly what Prometheus reads, no series for what callers think of, and the names
//! that the dashboard and the alerts in `deploy/` ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::{
    eventually, seconds,
    world::{Plan, World},
};

/// A scrape that held to the text format (version 0.0.4).
#[derive(Debug)]
pub(crate) struct Scrape {
    /// Each series, as it is written, and its value.
    series: BTreeMap<String, f64>,
    /// Each family and its type.
    families: BTreeMap<String, String>,
    text: String,
}

impl Scrape {
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// The names of series, with `_bucket`, `_sum` and `_count`.
    fn names(&self) -> BTreeSet<&str> {
        self.series.keys().map(|series| series.split('{').next().unwrap()).collect()
    }

    /// The names of the labels that series of this name have.
    fn labels(&self, name: &str) -> BTreeSet<&str> {
        let of_name = |series: &&String| series.split('{').next() == Some(name);
        let labels = self.series.keys().filter(of_name).filter_map(|series| series.split_once('{'));
        let pairs = labels.flat_map(|(_, labels)| labels.split("\","));
        pairs.filter_map(|pair| Some(pair.split_once('=')?.0)).collect()
    }
}

/// Reads `/metrics` from an address, strictly.
pub(crate) async fn scrape(url: &str) -> Scrape {
    let answer = reqwest::get(url).await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    parse(answer.text().await.unwrap())
}

fn parse(text: String) -> Scrape {
    let mut scrape = Scrape { series: BTreeMap::new(), families: BTreeMap::new(), text };
    let mut family: Option<(String, String)> = None;
    let mut helped = BTreeSet::new();
    assert!(scrape.text.ends_with('\n'));
    for line in scrape.text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(is_name(name) && !help.is_empty(), "{line}");
            assert!(helped.insert(name.to_owned()), "{name} is helped twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(helped.contains(name), "{name} has no help");
            let known = scrape.families.insert(name.to_owned(), kind.to_owned());
            assert!(known.is_none(), "{name} is twice");
            family = Some((name.to_owned(), kind.to_owned()));
        } else {
            assert!(!line.is_empty() && !line.starts_with('#'), "{line:?}");
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let value: f64 = value.replace("Inf", "inf").parse().expect("a number");
            let (family, kind) = family.as_ref().expect("a type before the series");
            check_series(series, family, kind, value);
            assert!(scrape.series.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
    }
    check_histograms(&scrape);
    scrape
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == ':')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

fn check_series(series: &str, family: &str, kind: &str, value: f64) {
    let (name, labels) = match series.split_once('{') {
        None => (series, ""),
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("a closing brace")),
    };
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{name} is not of {family}"));
    let fits = match kind {
        "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
        _ => suffix.is_empty(),
    };
    assert!(fits, "{series} is no series of the {kind} {family}");
    if kind == "counter" {
        assert!(family.ends_with("_total") && value >= 0.0, "{series} {value}");
    }
    let mut seen = BTreeSet::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("a label");
        assert!(is_name(label) && seen.insert(label), "{series}");
        let end = (0..after.len())
            .find(|&i| after[i..].starts_with('"') && !after[..i].ends_with('\\'))
            .expect("the end of a value");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Buckets grow, and the last one is the count.
fn check_histograms(scrape: &Scrape) {
    let mut last: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for family in scrape.families.iter().filter(|(_, kind)| *kind == "histogram") {
        let prefix = format!("{}_bucket{{", family.0);
        for line in scrape.text.lines().filter(|line| line.starts_with(&prefix)) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap();
            let le = series.split("le=\"").nth(1).unwrap().split('"').next().unwrap();
            let bound: f64 = le.replace("Inf", "inf").parse().unwrap();
            let others = series.replace(&format!("le=\"{le}\""), "");
            let key = others.replace("_bucket", "_count").replace(",}", "}").replace("{}", "");
            if let Some((bound_before, value_before)) = last.insert(key, (bound, value)) {
                assert!(bound > bound_before && value >= value_before, "{line}");
            }
        }
    }
    for (key, (bound, value)) in last {
        assert!(bound.is_infinite(), "{key} has no bucket for the rest");
        assert_eq!(scrape.value(&key), Some(value), "{key}");
    }
}

/// The counts of housekeeping come with its first pass.
async fn first_levels(url: &str) -> Scrape {
    eventually("housekeeping has counted", seconds(30), async || {
        scrape(url).await.value("pgvalet_targets{ready=\"true\"}").is_some()
    })
    .await;
    scrape(url).await
}

#[tokio::test]
async fn what_callers_send_makes_no_new_series() {
    let world = World::start().await;
    let url = format!("{}/metrics", world.daemon.url);
    let ask = async |n: u32| {
        let person = world.person(&format!("somebody{n}"), &[]).await;
        let more = json!({ "tool": format!("tool{n}"), "reason": format!("reason{n}") });
        person.ask(&world.profile("read"), more).await.expect(201);
        person.get(&format!("/v1/none/{n}")).await.expect(404);
        world.admin.ask(&format!("no-profile-{n}"), json!({})).await.expect(404);
        let method = reqwest::Method::from_bytes(format!("M{n}").as_bytes()).unwrap();
        world.admin.call(method, "/v1/leases", None, &[]).await.expect(405);
    };
    ask(0).await;
    let before: BTreeSet<String> = first_levels(&url).await.series.into_keys().collect();
    for n in 1..=200 {
        ask(n).await;
    }
    let after = scrape(&url).await;
    let new: Vec<_> = after.series.keys().filter(|series| !before.contains(*series)).collect();
    let from_callers = ["somebody", "tool1", "reason1", "no-profile", "M1", &world.name];
    // Labels of a few words each; a queue is first seen when the daemon first makes logins together, a loop when its
    // schedule first comes.
    for series in &new {
        let bounded =
            ["step=", "route=", "queue=", "loop="].iter().any(|label| series.contains(label));
        assert!(bounded, "{series} is new");
    }
    // Slack for a status or an outcome that had not come up before; not for two hundred of anything.
    assert!(new.len() < 80, "{new:?}");
    for word in from_callers {
        assert!(!after.text.contains(word), "{word} is in a label");
    }
    assert_eq!(world.secrets.found_in(&after.text), Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn metrics_can_have_an_address_of_their_own() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let world = World::with(Plan { settings: settings.leak(), ..Plan::default() }).await;
    world.admin.get("/metrics").await.expect(404);
    let scrape = scrape(&format!("http://127.0.0.1:{port}/metrics")).await;
    assert!(scrape.names().contains("pgvalet_build_info"));
    world.finish().await;
}

/// The names of metrics in an expression: words with our prefixes.
fn names_in(expression: &str) -> BTreeSet<String> {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("pgvalet_") || word.starts_with("http_server_"))
        .map(str::to_owned)
        .collect()
}

/// The names of labels in an expression: in its selectors and behind `by`.
fn labels_in(expression: &str) -> BTreeSet<String> {
    let selectors = expression.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let groups = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    let names = selectors.chain(groups).flat_map(|list| list.split(','));
    names.map(|name| name.split(['=', '!']).next().unwrap().trim().to_owned()).collect()
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_ask_for_what_is_there() {
    let world = World::start().await;
    let issued = world.issue("read", json!({ "ttl": "1s" })).await;
    world.gone(issued["lease"]["id"].as_str().unwrap(), 20).await;
    let revoked = world.issue("read", json!({})).await;
    let id = revoked["lease"]["id"].as_str().unwrap();
    world.admin.renew(id, json!({ "ttl": "2h" })).await.expect(200);
    world.admin.rotate(id).await.expect(200);
    world.admin.revoke(id).await;
    let scrape = first_levels(&format!("{}/metrics", world.daemon.url)).await;
    let there = scrape.names();

    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/");
    let text = std::fs::read_to_string(format!("{folder}grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    let rules = std::fs::read_to_string(format!("{folder}prometheus-rules.yml")).unwrap();
    let (mut alerts, mut runbooks) = (0, 0);
    for line in rules.lines().map(str::trim) {
        alerts += usize::from(line.starts_with("- alert: "));
        runbooks += usize::from(line.starts_with("runbook: "));
        expressions.extend(line.strip_prefix("expr: ").map(str::to_owned));
    }
    assert!(alerts >= 5 && alerts == runbooks, "{alerts} alerts, {runbooks} runbook lines");
    assert!(expressions.len() > 15, "{expressions:?}");
    let (mut asked, mut labels) = (BTreeSet::new(), 0);
    for expression in &expressions {
        let names = names_in(expression);
        assert!(!names.is_empty(), "{expression} asks for nothing of ours");
        for name in &names {
            assert!(there.contains(name.as_str()), "{name} is not at /metrics: {expression}");
            let has = scrape.labels(name);
            for label in labels_in(expression) {
                assert!(has.contains(label.as_str()), "{name} has no {label}: {expression}");
                labels += 1;
            }
        }
        asked.extend(names);
    }
    assert!(labels > 30, "{labels} labels are asked for");
    println!("{} names of {} are asked for", asked.len(), there.len());
    world.finish().await;
}

#[tokio::test]
async fn the_status_counts_what_happened() {
    let world = World::start().await;
    let kept = world.issue("read", json!({})).await;
    let ended = world.issue("read", json!({})).await;
    world
        .admin
        .renew(kept["lease"]["id"].as_str().unwrap(), json!({ "ttl": "2h" }))
        .await
        .expect(200);
    world.admin.revoke(ended["lease"]["id"].as_str().unwrap()).await.expect(200);
    let stranger = world.person("stranger", &[]).await;
    world.put_profile("write", json!({ "preset": "readwrite", "allow": ["person:alice"] })).await;
    stranger.ask(&world.profile("write"), json!({})).await;
    let status = world.admin.get("/v1/status").await.expect(200);
    assert_eq!(status["leases"], json!({ "provisioning": 0, "active": 1, "revoking": 0 }));
    let last = &status["last_minute"];
    for (what, count) in
        [("issued", 2), ("removed", 1), ("renewed", 1), ("refused", 1), ("rotated", 0)]
    {
        assert_eq!(last[what], count, "{what}: {last}");
    }
    let target = &status["targets"][0];
    assert_eq!((&target["name"], &target["leases"]), (&json!(world.name), &json!(1)), "{status}");
    assert_eq!(target["ready"], true, "{status}");
    assert!(status["parts"].as_array().unwrap().iter().any(|part| part["name"] == "loop leases"));
    world.finish().await;
}

#[tokio::test]
async fn what_waits_for_others_is_counted_until_it_does_not() {
    let world = World::start().await;
    let approval = json!({
        "steps": [{ "from": ["group:dba"], "count": 1 }], "lapse_after": "1d", "use_within": "1h",
    });
    world.put_profile("guarded", json!({ "conditions": { "approval": approval } })).await;
    let asked = world.admin.ask(&world.profile("guarded"), json!({})).await.expect(202);
    let counted = async |wanted: f64| {
        eventually(&format!("{wanted} requests wait"), seconds(40), async || {
            let scrape = scrape(&format!("{}/metrics", world.daemon.url)).await;
            scrape.value("pgvalet_requests_waiting") == Some(wanted)
        })
        .await;
    };
    counted(1.0).await;
    let path = format!("/v1/requests/{}/withdraw", asked["id"].as_str().unwrap());
    world.admin.post(&path, &json!({})).await.expect(200);
    counted(0.0).await;
    world.finish().await;
}
