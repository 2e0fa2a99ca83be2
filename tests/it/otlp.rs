//! What is sent by OTLP: one trace from the request to the target, the same numbers as at
//! `/metrics`, the audit, and no secret. And that nobody waits for a receiver.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use reqwest::Method;
use serde_json::json;

use crate::{
    metrics::scrape,
    support::{
        eventually,
        otlp::{Receiver, text, text_of},
        people::lease_id,
        seconds,
        world::{Plan, World},
    },
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

fn of_trace(receiver: &Receiver, trace: &str) -> Vec<Span> {
    receiver.spans().into_iter().filter(|span| hex(&span.trace_id) == trace).collect()
}

/// Every span but `root` hangs below another one of the same trace.
fn assert_joined(spans: &[Span], root: &str) {
    for span in spans.iter().filter(|span| span.name != root) {
        let parent = spans.iter().find(|other| other.span_id == span.parent_span_id);
        assert!(parent.is_some(), "{} hangs in the air: {:?}", span.name, names(spans));
    }
}

#[tokio::test]
async fn one_trace_joins_a_lease_and_another_its_end() {
    let receiver = Receiver::start().await;
    let plan = Plan { environment: receiver.environment(), ..Plan::default() };
    let world = World::with(plan).await;
    let body = json!({ "profile": world.profile("read"), "ttl": "2s", "tool": "psql" });
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [("traceparent", traceparent.as_str())];
    let answer = world.admin.call(Method::POST, "/v1/leases", Some(&body), &headers).await;
    let issued = answer.expect(201);
    let lease = lease_id(&issued);

    // The request, the decision, the store, the target and the audit.
    let root = "POST /v1/leases";
    eventually("the trace of the lease is sent", seconds(20), async || {
        of_trace(&receiver, TRACE).iter().any(|span| span.name == root)
    })
    .await;
    let spans = of_trace(&receiver, TRACE);
    assert_joined(&spans, root);
    for (name, kind) in [
        (root, SpanKind::Server),
        ("decide", SpanKind::Internal),
        ("record intent", SpanKind::Client),
        ("CREATE ROLE", SpanKind::Client),
        ("record activation", SpanKind::Client),
        ("INSERT audit_entry", SpanKind::Client),
    ] {
        let span = spans.iter().find(|span| span.name == name);
        let span = span.unwrap_or_else(|| panic!("no {name} in {:?}", names(&spans)));
        assert_eq!(span.kind(), kind, "{name}");
    }
    let span = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let server = span(root);
    assert_eq!(hex(&server.parent_span_id), PARENT);
    let attribute = |span: &Span, name| text_of(&span.attributes, name).unwrap_or_default();
    assert_eq!(attribute(server, "http.response.status_code"), "201");
    assert_eq!(attribute(server, "http.route"), "/v1/leases");
    assert_eq!(attribute(span("CREATE ROLE"), "db.system.name"), "postgresql");
    assert_eq!(attribute(span("CREATE ROLE"), "server.address"), "127.0.0.1");
    assert_eq!(attribute(span("record intent"), "lease.id"), lease);

    // Its end is a trace of its own, found by the lease's id.
    world.gone(&lease, 20).await;
    let ended = || {
        let spans = receiver.spans().into_iter();
        spans.filter(|span| span.name == "end login").find(|span| {
            let same = text_of(&span.attributes, "lease.id").as_ref() == Some(&lease);
            let trace = of_trace(&receiver, &hex(&span.trace_id));
            same && names(&trace).contains(&"DROP ROLE")
        })
    };
    eventually("the trace of its end is sent", seconds(20), async || ended().is_some()).await;
    let trace = of_trace(&receiver, &hex(&ended().unwrap().trace_id));
    assert_joined(&trace, "end login");
    for name in ["DROP ROLE", "record removal", "INSERT audit_entry"] {
        assert!(names(&trace).contains(&name), "no {name} in {:?}", names(&trace));
    }

    // The audit as logs, and a line of the log that belongs to the trace.
    eventually("the audit is sent", seconds(20), async || {
        let kinds: Vec<_> = receiver
            .logs()
            .into_iter()
            .filter(|log| text_of(&log.attributes, "lease.id").as_ref() == Some(&lease))
            .filter_map(|log| text_of(&log.attributes, "audit.kind"))
            .collect();
        let all = world.admin.audit_of(&lease).await;
        assert!(!all.is_empty());
        kinds == all
    })
    .await;
    let answered = receiver.logs().into_iter().any(|log| {
        hex(&log.trace_id) == TRACE && text(log.body.as_ref()).as_deref() == Some("answered")
    });
    assert!(answered, "no log line has the trace's id");

    assert_same_numbers(&world, &receiver).await;
    assert_eq!(receiver.services(), ["valet-under-test"]);
    let key = |headers: &reqwest::header::HeaderMap| headers["api-key"] == "open sesame";
    assert!(receiver.headers().iter().all(key));
    let secrets = world.secrets.clone();
    world.finish().await;
    assert_eq!(secrets.found_in(&receiver.text()), Vec::<String>::new(), "were sent by OTLP");
}

/// What is sent is what Prometheus reads.
async fn assert_same_numbers(world: &World, receiver: &Receiver) {
    for (sent, read) in [
        ("pgvalet.decisions{rule=\"allowed\"}", "pgvalet_decisions_total{rule=\"allowed\"}"),
        (
            "pgvalet.lease.issue.duration.count{outcome=\"ok\",step=\"target\"}",
            "pgvalet_lease_issue_duration_seconds_count{outcome=\"ok\",step=\"target\"}",
        ),
        ("pgvalet.login.expiry.lag.count", "pgvalet_login_expiry_lag_seconds_count"),
        ("pgvalet.audit.entries", "pgvalet_audit_entries_total"),
    ] {
        eventually(sent, seconds(10), async || {
            let read = scrape(&format!("{}/metrics", world.daemon.url)).await.value(read);
            assert!(read.is_some_and(|value| value >= 1.0), "{sent}: {read:?}");
            receiver.number(sent) == read
        })
        .await;
    }
}

async fn slowest_of_ten(world: &World) -> Duration {
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let began = Instant::now();
        world.issue("read", json!({})).await;
        slowest = slowest.max(began.elapsed());
    }
    slowest
}

#[tokio::test]
async fn a_receiver_that_hangs_slows_nothing_and_stops_nothing() {
    let receiver = Receiver::hanging().await;
    let hanging = Plan { environment: receiver.environment(), ..Plan::default() };
    let (quiet, world) = (World::start().await, World::with(hanging).await);
    eventually("the exporters hang", seconds(20), async || receiver.held() >= 3).await;
    let usual = slowest_of_ten(&quiet).await;
    let slowest = slowest_of_ten(&world).await;
    assert!(slowest < usual + seconds(2), "{slowest:?}, and {usual:?} without a receiver");
    quiet.finish().await;

    let mut world = world;
    let began = Instant::now();
    assert!(world.daemon.stop().await.success());
    // 3 s to send the rest, and what the daemon itself needs.
    assert!(began.elapsed() < seconds(8), "{:?}", began.elapsed());
    world.start_daemon().await;
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_is_down_is_only_said() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), format!("http://{free}")),
        ("OTEL_METRIC_EXPORT_INTERVAL".to_owned(), "300".to_owned()),
    ];
    let world = World::with(Plan { environment, ..Plan::default() }).await;
    world.issue("read", json!({})).await;
    eventually("it is said that it is away", seconds(30), async || said(&world, "takes no") == 4)
        .await;
    world.issue("read", json!({})).await;
    // That no line of the log is an error is asserted there.
    world.finish().await;
}

/// How often the log says so of the receiver, as a warning.
fn said(world: &World, what: &str) -> usize {
    let words = format!("the OTLP receiver {what}");
    world.daemon.lines_at("WARN").iter().filter(|line| line.contains(&words)).count()
}

#[tokio::test]
async fn an_outage_of_the_receiver_is_said_once_and_its_end_once() {
    let receiver = Receiver::start().await;
    receiver.refuse(true);
    let plan = Plan { environment: receiver.environment(), ..Plan::default() };
    let world = World::with(plan).await;
    eventually("it is said of each signal", seconds(30), async || said(&world, "takes no") == 4)
        .await;
    let before = receiver.refused();
    eventually("it is tried again and again", seconds(30), async || {
        receiver.refused() >= before + 12
    })
    .await;
    receiver.refuse(false);
    eventually("it takes all again", seconds(30), async || {
        world.issue("read", json!({})).await;
        ["traces", "metrics", "logs", "audit entries"]
            .iter()
            .all(|signal| said(&world, &format!("takes {signal} again")) == 1)
    })
    .await;
    assert_eq!(said(&world, "takes no"), 4);
    // Nor does the SDK say it in its own words.
    let log = world.daemon.log();
    assert!(!log.contains("ExportError"), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn one_trace_joins_a_pipeline_the_daemon_and_the_program_that_runs() {
    let receiver = Receiver::start().await;
    let plan = Plan { environment: receiver.environment(), ..Plan::default() };
    let world = World::with(plan).await;
    let home = tempfile::TempDir::new().unwrap();
    let traceparent = format!("00-{TRACE}-{PARENT}-01");
    let mut command = crate::support::daemon::binary();
    command.env("HOME", home.path()).stdin(std::process::Stdio::null());
    command.env("PGVALET_URL", &world.admin.url).env("PGVALET_TOKEN", &world.admin.token);
    command.env("TRACEPARENT", &traceparent).env("TRACESTATE", "ci=job7");
    command.args(["run", &world.profile("read"), "--", "sh", "-c"]);
    command.arg(r#"printf '%s %s' "$TRACEPARENT" "$TRACESTATE""#);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{traceparent} ci=job7"));

    let requests = ["POST /v1/leases", "DELETE /v1/leases/{id}"];
    eventually("both requests are sent", seconds(20), async || {
        let spans = of_trace(&receiver, TRACE);
        requests.iter().all(|name| names(&spans).contains(name))
    })
    .await;
    let spans = of_trace(&receiver, TRACE);
    for span in spans.iter().filter(|span| requests.contains(&span.name.as_str())) {
        assert_eq!(hex(&span.parent_span_id), PARENT, "{}", span.name);
        assert_eq!(span.trace_state, "ci=job7", "{}", span.name);
    }
    assert!(names(&spans).contains(&"CREATE ROLE"), "{:?}", names(&spans));
    world.finish().await;
}

#[tokio::test]
async fn the_audit_log_goes_on_in_a_new_file_after_a_hangup() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("audit.jsonl");
    let settings = format!("[audit_log]\nfile = \"{}\"\n", path.display());
    let world = World::with(Plan { settings: settings.leak(), ..Plan::default() }).await;
    let first = lease_id(&world.issue("read", json!({})).await);
    let has = |path: &std::path::Path, lease: &str, kind: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().any(|line| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap();
            entry["event"]["lease_id"] == lease && entry["event"]["kind"] == kind
        })
    };
    eventually("the lease is told", seconds(20), async || has(&path, &first, "lease.activated"))
        .await;
    let moved = folder.path().join("audit.jsonl.1");
    std::fs::rename(&path, &moved).unwrap();
    world.daemon.signal(rustix::process::Signal::HUP);
    eventually("the file is opened anew", seconds(20), async || path.exists()).await;
    let second = lease_id(&world.issue("read", json!({})).await);
    eventually("the second one too", seconds(20), async || has(&path, &second, "lease.activated"))
        .await;
    assert!(!has(&moved, &second, "lease.activated"));
    let text = std::fs::read_to_string(&path).unwrap() + &std::fs::read_to_string(&moved).unwrap();
    assert_eq!(world.secrets.found_in(&text), Vec::<String>::new());
    world.finish().await;
}
