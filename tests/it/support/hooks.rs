//! A receiver of webhooks that can misbehave: it answers as it is told to, or with bytes that are no HTTP, or not at all.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// This status, with these lines in the header.
    Status(u16, &'static str),
    /// What is no HTTP.
    Garbage,
    /// Nothing, and the connection stays open.
    Nothing,
    /// Nothing, and the connection ends.
    HangUp,
}

/// What came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// The receiver. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Hooks {
    pub(crate) port: u16,
    next: Arc<Mutex<VecDeque<Answer>>>,
    /// What is answered when nothing else is said.
    usual: Arc<Mutex<Answer>>,
    calls: Arc<Mutex<Vec<(Call, Answer)>>>,
    connections: Arc<AtomicUsize>,
}

impl Hooks {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hooks = Self {
            port: listener.local_addr().unwrap().port(),
            next: Arc::default(),
            usual: Arc::new(Mutex::new(Answer::Status(204, ""))),
            calls: Arc::default(),
            connections: Arc::default(),
        };
        let serving = hooks.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        hooks
    }

    /// The settings of a webhook that leads here: its secret is 32 bytes of this value.
    pub(crate) fn settings(&self, name: &str, secret: u8, more: &str) -> String {
        let (port, secret) = (self.port, STANDARD.encode([secret; 32]));
        format!(
            "[[webhook]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{port}/{name}\"\nsecret = \"whsec_{secret}\"\n\
             allow_private = true\n{more}\n"
        )
    }

    /// Answers so, once each, and then as usual.
    pub(crate) fn then(&self, answers: &[Answer]) {
        self.next.lock().unwrap().extend(answers.iter().cloned());
    }

    /// Answers so from now on.
    pub(crate) fn always(&self, answer: Answer) {
        *self.usual.lock().unwrap() = answer;
    }

    /// Connections that began.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// All that came.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().iter().map(|(call, _)| call.clone()).collect()
    }

    /// Those that were answered with success.
    pub(crate) fn taken(&self) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        let good = |answer: &Answer| matches!(answer, Answer::Status(200..=299, _));
        calls.iter().filter(|(_, answer)| good(answer)).map(|(call, _)| call.clone()).collect()
    }

    async fn serve(self, mut stream: TcpStream) {
        while let Some(call) = read(&mut stream).await {
            let next = self.next.lock().unwrap().pop_front();
            let answer = next.unwrap_or_else(|| self.usual.lock().unwrap().clone());
            self.calls.lock().unwrap().push((call, answer.clone()));
            let bytes = match answer {
                Answer::Status(status, lines) => {
                    format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{lines}\r\n")
                }
                Answer::Garbage => "\u{1}\u{2} no HTTP at all\r\n\r\n".to_owned(),
                Answer::Nothing => return std::future::pending().await,
                Answer::HangUp => return,
            };
            if stream.write_all(bytes.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Call> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: BTreeMap<_, _> = lines.filter_map(pair).collect();
    let length: usize = headers["content-length"].parse().unwrap();
    let mut body = bytes.split_off(end);
    while body.len() < length {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&part[..count]);
    }
    Some(Call { path, headers, body: String::from_utf8(body).unwrap() })
}

impl Call {
    /// The notice's id.
    pub(crate) fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// The name of the event.
    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// Is it signed by 32 bytes of this value, as the specification has it?
    pub(crate) fn is_signed_by(&self, secret: u8) -> bool {
        let signed = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body);
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[secret; 32]);
        self.headers["webhook-signature"].split(' ').any(|signature| {
            let (version, value) = signature.split_once(',').unwrap();
            let tag = STANDARD.decode(value).unwrap();
            version == "v1" && hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
        })
    }
}
