//! A proxy that reads PostgreSQL's protocol on its way: it knows each statement that passes, and a
//! judge says whether it may, and whether its answer may. So anything can be done at a named point,
//! before or after a statement or a commit, without a hook in the product.
//!
//! The formats are those of <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// Which database a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    State,
    Target,
}

/// When, with regard to one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// The server has nothing of it.
    Before,
    /// The server has half of its bytes.
    Within,
    /// The server has done it, and the daemon has not heard.
    After,
}

/// A point in the daemon's work, as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    pub(crate) side: Side,
    /// What kind of statement: `INSERT lease`, `CREATE ROLE LOGIN`, `COMMIT`, `sign in`.
    pub(crate) statement: String,
    pub(crate) moment: Moment,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, moment) = (format!("{:?}", self.side), format!("{:?}", self.moment));
        write!(f, "{} {} `{}`", side.to_lowercase(), moment.to_lowercase(), self.statement)
    }
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// The connection is closed on both sides.
    Cut,
    /// It passes after this time.
    Hold(Duration),
}

/// Asked at every point.
pub(crate) type Judge = Arc<dyn Fn(&Point) -> Verdict + Send + Sync>;

/// A proxy before one port.
pub(crate) struct Wire {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Wire {
    /// Stands before `upstream` on 127.0.0.1.
    pub(crate) async fn before(upstream: u16, side: Side, judge: Judge) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let link = Link { side, judge: Arc::clone(&judge), waiting: Mutex::default() };
                tokio::spawn(carry(client, upstream, Arc::new(link)));
            }
        });
        Self { port, accepting }
    }

    /// Where it listens.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What both directions of a connection share.
struct Link {
    side: Side,
    judge: Judge,
    /// The kinds of the statements whose answers are due, in order; none for what only prepares.
    waiting: Mutex<VecDeque<Option<String>>>,
}

impl Link {
    /// May it pass? Waits if it is to.
    async fn passes(&self, statement: &str, moment: Moment) -> bool {
        let point = Point { side: self.side, statement: statement.to_owned(), moment };
        match (self.judge)(&point) {
            Verdict::Pass => true,
            Verdict::Cut => false,
            Verdict::Hold(time) => {
                tokio::time::sleep(time).await;
                true
            }
        }
    }
}

/// Carries one connection until it ends or is cut. Dropping both streams closes them.
async fn carry(client: TcpStream, upstream: u16, link: Arc<Link>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
    let ((mut from_client, to_client), (from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let Some(startup) = read_startup(&mut from_client).await else { return };
    // Leased logins use the same way as the daemon, and are none of its points.
    let is_daemon = !startup.windows(9).any(|bytes| bytes == b"user\0pgv_");
    if is_daemon {
        if !link.passes("sign in", Moment::Before).await {
            return;
        }
        link.waiting.lock().unwrap().push_back(Some("sign in".to_owned()));
    }
    if to_server.write_all(&startup).await.is_err() {
        return;
    }
    let (up, down) = if is_daemon {
        (
            tokio::spawn(send_up(Arc::clone(&link), from_client, to_server)),
            tokio::spawn(send_down(link, from_server, to_client)),
        )
    } else {
        (tokio::spawn(copy(from_client, to_server)), tokio::spawn(copy(from_server, to_client)))
    };
    let (stop_up, stop_down) = (up.abort_handle(), down.abort_handle());
    tokio::select! {
        _ = up => {}
        _ = down => {}
    }
    stop_up.abort();
    stop_down.abort();
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// The first message, which has no type.
async fn read_startup(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let mut message = length.to_be_bytes().to_vec();
    message.resize(usize::try_from(length).ok()?, 0);
    from.read_exact(message.get_mut(4..)?).await.ok()?;
    Some(message)
}

/// One message with its type: the whole of its bytes.
async fn read_message(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let kind = from.read_u8().await.ok()?;
    let length = from.read_u32().await.ok()?;
    let mut message = vec![kind];
    message.extend_from_slice(&length.to_be_bytes());
    message.resize(1 + usize::try_from(length).ok()?, 0);
    from.read_exact(message.get_mut(5..)?).await.ok()?;
    Some(message)
}

async fn send_up(link: Arc<Link>, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut from = BufReader::new(from);
    let mut prepared: HashMap<Vec<u8>, String> = HashMap::new();
    let (mut unit, mut statement) = (Vec::new(), None);
    while let Some(message) = read_message(&mut from).await {
        let mut texts = message[5..].split(|byte| *byte == 0);
        let mut text = || texts.next().unwrap_or_default().to_vec();
        match message[0] {
            b'P' => {
                let (name, sql) = (text(), text());
                prepared.insert(name, kind_of(&String::from_utf8_lossy(&sql)));
            }
            b'B' => {
                let (_portal, name) = (text(), text());
                statement = prepared.get(&name).cloned();
            }
            b'Q' => statement = Some(kind_of(&String::from_utf8_lossy(&text()))),
            _ => {}
        }
        let ends_unit = !matches!(message[0], b'P' | b'B' | b'D' | b'E' | b'C');
        let is_answered = matches!(message[0], b'Q' | b'S');
        unit.extend_from_slice(&message);
        if !ends_unit {
            continue;
        }
        if let Some(statement) = &statement {
            if !link.passes(statement, Moment::Before).await {
                return;
            }
            if !link.passes(statement, Moment::Within).await {
                let _ = to.write_all(&unit[..unit.len() / 2]).await;
                return;
            }
        }
        if is_answered {
            link.waiting.lock().unwrap().push_back(statement.take());
        }
        if to.write_all(&unit).await.is_err() {
            return;
        }
        unit.clear();
    }
}

async fn send_down(link: Arc<Link>, from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut from = BufReader::new(from);
    let (mut answer, mut signed_in) = (Vec::new(), false);
    while let Some(message) = read_message(&mut from).await {
        answer.extend_from_slice(&message);
        let is_ready = message[0] == b'Z';
        if is_ready {
            let statement = link.waiting.lock().unwrap().pop_front().flatten();
            if let Some(statement) = statement
                && !link.passes(&statement, Moment::After).await
            {
                return;
            }
        }
        // An answer is kept together, so that nothing of one that is cut is heard.
        let is_answer = signed_in && !link.waiting.lock().unwrap().is_empty();
        if is_ready || !is_answer {
            if to.write_all(&answer).await.is_err() {
                return;
            }
            answer.clear();
            signed_in |= is_ready;
        }
    }
    // The last words of a server that ends a session.
    let _ = to.write_all(&answer).await;
}

/// What kind of statement this is: its first three keywords, or its verb and its table.
fn kind_of(sql: &str) -> String {
    let bare = |word: &str| -> String {
        word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    // A bound that goes before a statement does not say what it is.
    let parts: Vec<&str> = sql.split(';').collect();
    let is_bound = |part: &&&str| part.trim_start().starts_with("SET LOCAL");
    let named: Vec<&str> = parts.iter().filter(|part| !is_bound(part)).copied().collect();
    let sql = if named.is_empty() { parts } else { named }.join(" ").replace('(', " ");
    let words: Vec<String> = sql.split_whitespace().map(bare).collect();
    let after = |keyword: &str| {
        let at = words.iter().position(|word| word == keyword)?;
        words.get(at + 1)
    };
    let verb = words.iter().find(|word| *word != "WITH").map(String::as_str).unwrap_or_default();
    let is_with = words.first().is_some_and(|word| word == "WITH");
    let named = |verb: &str, table: Option<&String>| {
        let table = table.map(String::as_str).unwrap_or_default();
        format!("{}{verb} {table}", if is_with { "WITH " } else { "" })
    };
    let writes = ["INSERT", "UPDATE", "DELETE"];
    let verb = if is_with {
        words.iter().map(String::as_str).find(|word| writes.contains(word)).unwrap_or("SELECT")
    } else {
        verb
    };
    match verb {
        "INSERT" => named(verb, after("INTO")),
        "UPDATE" => named(verb, after("UPDATE")),
        "SELECT" | "DELETE" => named(verb, after("FROM")),
        _ => {
            let is_keyword =
                |word: &&String| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase());
            words.iter().filter(is_keyword).take(3).cloned().collect::<Vec<_>>().join(" ")
        }
    }
}
