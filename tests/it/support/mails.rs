//! A mail server (RFC 5321) that keeps what it is given: over plain TCP, with STARTTLS, or TLS from the first byte.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// How connections are protected.
#[derive(Clone)]
pub(crate) enum Protection {
    None,
    StartTls(Arc<ServerConfig>),
    Tls(Arc<ServerConfig>),
}

/// A mail that came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// As it came, with its header.
    pub(crate) text: String,
    /// Was it over TLS?
    pub(crate) tls: bool,
    /// What came of `AUTH PLAIN`, decoded.
    pub(crate) signed_in: Option<String>,
}

impl Received {
    /// The value of a header, unfolded.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
        let value = |line: &str| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        head.lines().find_map(value)
    }

    /// The names in its header, in their order.
    pub(crate) fn names(&self) -> Vec<String> {
        let head = self.text.split("\r\n\r\n").next().unwrap();
        let lines = head.lines().filter(|line| !line.starts_with([' ', '\t']));
        lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
    }
}

/// The server. It ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Mails {
    pub(crate) port: u16,
    protection: Protection,
    received: Arc<Mutex<Vec<Received>>>,
    /// What is answered to the next mails, in place of `250`.
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Mails {
    pub(crate) async fn start(protection: Protection) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Self { port, protection, received: Arc::default(), answers: Arc::default() };
        let serving = mails.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        mails
    }

    /// Answers the next mails so.
    pub(crate) fn then(&self, answers: &[&'static str]) {
        self.answers.lock().unwrap().extend(answers);
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    async fn serve(self, stream: TcpStream) -> Option<()> {
        match self.protection.clone() {
            Protection::None => {
                let mut stream = BufReader::new(stream);
                self.talk(&mut stream, "220 ready", false, false).await.map(drop)
            }
            Protection::StartTls(config) => {
                let mut plain = BufReader::new(stream);
                self.talk(&mut plain, "220 ready", false, true).await.filter(|more| *more)?;
                let tls = TlsAcceptor::from(config).accept(plain.into_inner()).await.ok()?;
                self.talk(&mut BufReader::new(tls), "", true, false).await.map(drop)
            }
            Protection::Tls(config) => {
                let tls = TlsAcceptor::from(config).accept(stream).await.ok()?;
                self.talk(&mut BufReader::new(tls), "220 ready", true, false).await.map(drop)
            }
        }
    }

    /// One conversation. True if it goes on over TLS.
    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut BufReader<S>,
        greeting: &str,
        tls: bool,
        offers_tls: bool,
    ) -> Option<bool> {
        if !greeting.is_empty() {
            say(stream, greeting).await?;
        }
        let mut mail = Received { tls, ..Received::default() };
        loop {
            let line = hear(stream).await?;
            match line.as_str() {
                "STARTTLS" => {
                    say(stream, "220 go on").await?;
                    return Some(true);
                }
                "QUIT" => {
                    say(stream, "221 bye").await?;
                    return Some(false);
                }
                "DATA" => {
                    say(stream, "354 go on").await?;
                    mail.text = text(stream).await?;
                    let answer = self.answers.lock().unwrap().pop_front();
                    if answer.is_none() {
                        self.received.lock().unwrap().push(mail.clone());
                    }
                    mail = Received { tls, signed_in: mail.signed_in, ..Received::default() };
                    say(stream, answer.unwrap_or("250 taken")).await?;
                }
                line => say(stream, mail.told(line, offers_tls)).await?,
            }
        }
    }
}

impl Received {
    /// Takes what a line says; gives what is answered.
    fn told(&mut self, line: &str, offers_tls: bool) -> &'static str {
        if line.starts_with("EHLO") {
            let tls = "250-here\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250 8BITMIME";
            return if offers_tls { tls } else { "250-here\r\n250-AUTH PLAIN\r\n250 8BITMIME" };
        }
        if let Some(secret) = line.strip_prefix("AUTH PLAIN ") {
            let plain = String::from_utf8(STANDARD.decode(secret).unwrap()).unwrap();
            self.signed_in = Some(plain.replace('\0', " "));
            return "235 it is you";
        }
        if let Some(from) = line.strip_prefix("MAIL FROM:") {
            from.clone_into(&mut self.from);
        } else if let Some(to) = line.strip_prefix("RCPT TO:") {
            self.to.push(to.to_owned());
        }
        "250 yes"
    }
}

/// The lines of a mail up to its end.
async fn text<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut text = String::new();
    loop {
        let line = hear(stream).await?;
        if line == "." {
            return Some(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push_str("\r\n");
    }
}

async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut BufReader<S>,
    line: &str,
) -> Option<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn hear<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> Option<String> {
    let mut line = Vec::new();
    let count = stream.read_until(b'\n', &mut line).await.ok()?;
    let line = String::from_utf8(line).unwrap();
    (count > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}
