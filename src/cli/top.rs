//! A live view: leases, queues, targets with their health, rates, the last events.
//!
//! On a terminal each look is drawn over the one before, without clearing: what did not change does not
//! flicker. The screen is a second one of the terminal, so that what was there before is there after,
//! however this ends. Without a terminal one look is printed.

use std::{fmt::Write as _, time::Duration};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    api::status::Status,
    cli::{
        Globals, Io,
        admin_arguments::Top,
        audit,
        child::Signals,
        client::Client,
        failure::Failure,
        output::{self, plain, watched},
        session,
    },
};

/// The second screen, without a cursor; and back.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A look is drawn whole (terminals that do not know this ignore it), from the top left.
const BEGIN: &str = "\u{1b}[?2026h\u{1b}[H";
const END: &str = "\u{1b}[J\u{1b}[?2026l";

/// A terminal that does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };

/// Events of a printed look.
const PRINTED_EVENTS: usize = 10;

/// How often keys are asked for: before a person thinks that it hangs.
const KEYS_EVERY: Duration = Duration::from_millis(100);

/// Characters of an event.
const LONGEST_EVENT: usize = 160;

/// How large a terminal is.
#[derive(Debug, Clone, Copy)]
struct Size {
    columns: usize,
    rows: usize,
}

/// One look at the daemon.
struct Look {
    status: Status,
    /// Newest first.
    events: Vec<Value>,
}

/// `pgvalet top`.
///
/// # Errors
/// If the daemon is unavailable at the first look, or refuses.
pub async fn top(given: Top, globals: &Globals, io: &mut Io<'_>) -> Result<u8, Failure> {
    let client = session::sign_in(globals, io)?;
    let once = given.once || globals.json || !io.terminals.out;
    let first = watched(io, "asking the daemon", look(&client, given.events)).await?;
    if globals.json {
        output::json(io, &serde_json::json!({ "status": first.status, "events": first.events }))?;
        return Ok(0);
    }
    if once {
        for line in lines(client.url(), &first, PRINTED_EVENTS) {
            writeln!(io.out, "{}", line.trim_end())?;
        }
        return Ok(0);
    }
    let screen = Screen::open(io)?;
    let ended = Box::pin(watch(&client, &given, first, screen.before.is_some(), io)).await;
    screen.close(io);
    ended.map(|()| 0)
}

async fn look(client: &Client, events: usize) -> Result<Look, Failure> {
    let status = client.status().await?.value;
    let events = if events == 0 { Vec::new() } else { client.list("audit", &[], events).await? };
    Ok(Look { status, events })
}

/// Draws look after look until somebody ends it.
async fn watch(
    client: &Client,
    given: &Top,
    first: Look,
    keys: bool,
    io: &mut Io<'_>,
) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let mut resized = signal(SignalKind::window_change())?;
    let (mut latest, mut fault) = (first, None);
    let mut ticks = tokio::time::interval(given.interval.0);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        draw(client.url(), &latest, fault.as_deref(), io)?;
        tokio::select! {
            () = signals.any() => return Ok(()),
            () = ended_by_key(keys) => return Ok(()),
            _ = resized.recv() => {}
            _ = ticks.tick() => {
                // A daemon that hangs must not keep the keys from being heard.
                let looked = tokio::select! {
                    () = signals.any() => return Ok(()),
                    () = ended_by_key(keys) => return Ok(()),
                    looked = look(client, given.events) => looked,
                };
                match looked {
                    Ok(look) => (latest, fault) = (look, None),
                    // A daemon that restarts is waited for.
                    Err(failure) if failure.is_passing() => fault = Some(failure.to_string()),
                    Err(failure) => return Err(failure),
                }
            }
        }
    }
}

fn draw(url: &str, look: &Look, fault: Option<&str>, io: &mut Io<'_>) -> Result<(), Failure> {
    let size = size();
    let mut drawn = lines(url, look, usize::MAX);
    if let Some(fault) = fault {
        drawn.insert(1, format!("NO ANSWER, what follows is old: {}", plain(fault)));
    }
    // The last column is left free: some terminals wrap once it is written.
    let frame = frame(&drawn, Size { columns: size.columns.saturating_sub(1), ..size });
    io.out.write_all(frame.as_bytes())?;
    Ok(io.out.flush()?)
}

/// The bytes that draw these lines, cut to what fits; the last row says how to end.
fn frame(lines: &[String], size: Size) -> String {
    let mut frame = BEGIN.to_owned();
    let fitting = lines.iter().take(size.rows.saturating_sub(1));
    for line in fitting {
        frame.extend(line.chars().take(size.columns));
        frame.push_str("\u{1b}[K\r\n");
    }
    frame.extend("q ends".chars().take(size.columns));
    frame.push_str("\u{1b}[K");
    frame.push_str(END);
    frame
}

/// What a look says, line by line.
fn lines(url: &str, look: &Look, events: usize) -> Vec<String> {
    let Look { status, events: entries } = look;
    let mut lines = Vec::new();
    let unready = status.parts.iter().filter(|part| !part.ready).count()
        + status.targets.iter().filter(|target| !target.ready).count();
    let health = if unready == 0 { "ready".to_owned() } else { format!("{unready} NOT READY") };
    let at = status.at.format("%Y-%m-%d %H:%M:%S UTC");
    lines.push(format!("pgvalet {} at {}  {at}  {health}", plain(&status.version), plain(url)));
    let leases = &status.leases;
    lines.push(format!(
        "leases       active {}  provisioning {}  revoking {}  overdue logins {}  stuck {}",
        leases.active,
        leases.provisioning,
        leases.revoking,
        status.logins_overdue,
        status.logins_stuck
    ));
    let last = &status.last_minute;
    lines.push(format!(
        "last minute  issued {}  removed {}  renewed {}  rotated {}  refused {}  failed {}",
        rate(last.issued),
        rate(last.removed),
        last.renewed,
        last.rotated,
        last.refused,
        last.failed
    ));
    let mut queues = "waiting     ".to_owned();
    for depth in &status.queues {
        // Writing to a text cannot fail.
        let _ = write!(queues, " {} {} ", plain(&depth.queue), depth.waiting);
    }
    lines.push(queues);
    lines.push(format!(
        "audit        unsealed {}  untold {}",
        status.audit_unsealed, status.audit_untold
    ));
    for part in status.parts.iter().filter(|part| !part.ready) {
        lines.push(format!("NOT READY    {}: {}", plain(&part.name), plain(&part.detail)));
    }
    lines.push(String::new());
    lines.extend(targets(status));
    if events > 0 && !entries.is_empty() {
        lines.push(String::new());
        lines.extend(entries.iter().take(events).map(|e| shortened(&audit::entry_line(e))));
    }
    lines
}

fn targets(status: &Status) -> Vec<String> {
    let wide = |shown: usize, name: &str| shown.max(name.chars().count());
    let width = status.targets.iter().map(|target| target.name.as_str()).fold(6, wide);
    let mut lines =
        vec![format!("{:width$}  {:>8}  {:9}  {}", "target", "leases", "state", "detail")];
    for target in &status.targets {
        let state = if target.ready { "ready" } else { "NOT READY" };
        let (name, detail) = (plain(&target.name), plain(&target.detail));
        lines.push(format!("{name:width$}  {:>8}  {state:9}  {detail}", target.leases));
    }
    lines
}

/// A minute's count, and how many a second that is.
fn rate(count: i64) -> String {
    // In tenths, without a floating point number that could not hold the count.
    let tenths = count.saturating_mul(10).saturating_add(30) / 60;
    format!("{count} ({}.{}/s)", tenths / 10, tenths % 10)
}

/// The beginning of an event: some hold whole statements.
fn shortened(line: &str) -> String {
    let mut shown: String = line.chars().take(LONGEST_EVENT).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    shown
}

fn size() -> Size {
    let size = termios::tcgetwinsize(std::io::stdout());
    size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0).map_or(USUAL, |size| Size {
        columns: usize::from(size.ws_col),
        rows: usize::from(size.ws_row),
    })
}

/// The second screen, with keys that are not shown.
struct Screen {
    /// How the terminal was; none if there is nothing to read keys from.
    before: Option<Termios>,
}

impl Screen {
    fn open(io: &mut Io<'_>) -> Result<Self, Failure> {
        let before =
            if io.terminals.input { termios::tcgetattr(std::io::stdin()).ok() } else { None };
        let screen = Self { before };
        if let Some(before) = &screen.before {
            let mut silent = before.clone();
            // Ctrl-C stays a signal.
            silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
            // A read gives what there is, and does not wait.
            silent.special_codes[SpecialCodeIndex::VMIN] = 0;
            silent.special_codes[SpecialCodeIndex::VTIME] = 0;
            termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &silent)
                .map_err(|e| Failure::file("silence the terminal")(e.into()))?;
        }
        io.out.write_all(ENTER.as_bytes())?;
        Ok(screen)
    }

    /// Puts the terminal back.
    fn close(self, io: &mut Io<'_>) {
        // A terminal that is gone needs nothing more.
        let _ = io.out.write_all(LEAVE.as_bytes()).and_then(|()| io.out.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Flush, before);
        }
    }
}

/// Waits for `q`, or the end of the terminal. Its keys are asked for now and then: a read that blocks
/// could not be given up when something else ends the view.
async fn ended_by_key(keys_are_read: bool) {
    if !keys_are_read {
        return std::future::pending().await;
    }
    loop {
        let mut keys = [0_u8; 16];
        match rustix::io::read(std::io::stdin(), &mut keys) {
            Ok(count) if keys.iter().take(count).any(|key| matches!(key, b'q' | b'Q' | 0x04)) => {
                return;
            }
            Ok(_) => tokio::time::sleep(KEYS_EVERY).await,
            Err(_) => return,
        }
    }
}

/// How long between two looks: at least a fifth of a second, so that nobody keeps a daemon busy.
#[derive(Debug, Clone, Copy)]
pub struct Interval(Duration);

impl std::str::FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => humantime::parse_duration(text).map_err(|e| e.to_string())?,
        };
        let within = (Duration::from_millis(200)..=Duration::from_secs(3600)).contains(&length);
        if within { Ok(Self(length)) } else { Err("write 200ms to 1h".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::{LastMinute, LeaseCounts, PartStatus, QueueDepth, TargetStatus};

    fn example() -> Look {
        let target = |name: &str, leases, ready, detail: &str| TargetStatus {
            name: name.to_owned(),
            leases,
            ready,
            detail: detail.to_owned(),
        };
        Look {
            status: Status {
                at: "2026-11-21T07:50:12Z".parse().unwrap(),
                version: "0.1.0".to_owned(),
                leases: LeaseCounts { provisioning: 2, active: 9_998, revoking: 1 },
                logins_overdue: 0,
                logins_stuck: 1,
                audit_unsealed: 0,
                audit_untold: 3,
                last_minute: LastMinute {
                    issued: 611,
                    refused: 1,
                    failed: 0,
                    renewed: 60,
                    rotated: 0,
                    removed: 5,
                },
                queues: vec![QueueDepth { queue: "creations".to_owned(), waiting: 2 }],
                targets: vec![
                    target("orders-prod", 9_000, true, "PostgreSQL 15"),
                    target("shop", 1_001, false, "target_unreachable\u{1b}[2J"),
                ],
                parts: vec![
                    PartStatus {
                        name: "loop leases".to_owned(),
                        ready: true,
                        detail: "runs".to_owned(),
                    },
                    PartStatus {
                        name: "loop audit".to_owned(),
                        ready: false,
                        detail: "no answer".to_owned(),
                    },
                ],
            },
            events: vec![serde_json::json!({"entry": {
                "at": "2026-11-21T07:50:11Z", "actor": {"by": "caller", "name": "person:alice"},
                "event": {"kind": "lease.activated", "lease_id": "lse_1"},
            }})],
        }
    }

    #[test]
    fn a_look_in_lines() {
        insta::assert_snapshot!(lines("http://127.0.0.1:8432", &example(), 10).join("\n"));
    }

    #[test]
    fn a_look_fits_any_terminal() {
        let lines = lines("http://127.0.0.1:8432", &example(), 10);
        for size in [
            Size { columns: 20, rows: 5 },
            Size { columns: 1, rows: 1 },
            Size { columns: 200, rows: 60 },
        ] {
            let drawn = frame(&lines, size);
            let shown = drawn.strip_prefix(BEGIN).unwrap().strip_suffix(END).unwrap();
            let rows: Vec<_> =
                shown.split("\r\n").map(|row| row.strip_suffix("\u{1b}[K").unwrap()).collect();
            assert!(rows.len() <= size.rows, "{rows:?}");
            for row in rows {
                assert!(row.chars().count() <= size.columns, "{row}");
                assert!(!row.contains('\u{1b}'), "{row}");
            }
        }
    }

    #[test]
    fn an_interval_is_bounded() {
        for (text, expected) in [
            ("2", Some(2000)),
            ("500ms", Some(500)),
            ("0", None),
            ("1ms", None),
            ("2h", None),
            ("soon", None),
        ] {
            let read = text.parse::<Interval>().ok().map(|Interval(length)| length.as_millis());
            assert_eq!(read, expected, "{text}");
        }
    }
}
