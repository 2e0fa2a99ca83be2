//! Mail, by SMTP to one server of ours. The connection is protected unless the settings say that it need not be; what
//! stands in a header is encoded by the library, and is one line before.

use std::{sync::Arc, time::Duration};

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
        extension::ClientId,
    },
};

use crate::{
    causes::causes,
    config::{MailConfig, MailProtection},
    domain::notice::Notice,
    ids::{AuditId, NoticeId},
    notify::Sent,
};

/// How long the server may take for one step, and for all of them.
const STEP: Duration = Duration::from_secs(10);
const ALL: Duration = Duration::from_secs(20);

/// The server, and from whom mail is.
#[derive(Debug)]
pub struct Server {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// One recipient.
#[derive(Debug)]
pub struct Mail {
    /// By which server.
    pub server: Arc<Server>,
    /// To whom.
    pub to: Address,
}

impl Server {
    /// Makes what mail is sent with. Connects when something is sent.
    ///
    /// # Errors
    /// If its certificates cannot be read, or there is no TLS to be had.
    pub fn new(config: &MailConfig) -> Result<Self, lettre::transport::smtp::Error> {
        let mut parameters = TlsParameters::builder(config.host.clone());
        if let Some(pem) = &config.ca {
            parameters = parameters
                .certificate_store(CertificateStore::None)
                .add_root_certificate(Certificate::from_pem(pem.as_bytes())?);
        }
        let tls = match config.protection {
            MailProtection::Tls => Tls::Wrapper(parameters.build_rustls()?),
            MailProtection::StartTls => Tls::Required(parameters.build_rustls()?),
            MailProtection::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
            .port(config.port)
            .tls(tls)
            .hello_name(ClientId::Domain(config.from.email.domain().to_owned()))
            .timeout(Some(STEP));
        if let (Some(user), Some(password)) = (&config.user, &config.password) {
            builder =
                builder.credentials(Credentials::new(user.clone(), password.expose().clone()));
        }
        Ok(Self { transport: builder.build(), from: config.from.clone() })
    }
}

impl Mail {
    /// Sends a notice.
    pub async fn send(
        &self,
        id: NoticeId,
        audit_id: AuditId,
        notice: &Notice,
        url: Option<String>,
    ) -> Sent {
        let message = match self.message(id, audit_id, notice, url) {
            Ok(message) => message,
            Err(error) => return Sent::Never { why: causes(&error) },
        };
        match tokio::time::timeout(ALL, self.server.transport.send(message)).await {
            Ok(Ok(_)) => Sent::Told,
            Ok(Err(error)) => judged(&error),
            Err(_) => Sent::Later { why: "the mail server took too long".to_owned(), after: None },
        }
    }

    /// The same each time it is sent: `Message-ID` is made of the notice's id, so that a repetition can be told. What is of
    /// one subject is shown together.
    fn message(
        &self,
        id: NoticeId,
        audit_id: AuditId,
        notice: &Notice,
        url: Option<String>,
    ) -> Result<Message, lettre::error::Error> {
        let domain = self.server.from.email.domain();
        let in_id = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let subject: String = notice.subject.chars().map(in_id).collect();
        let link = url.map_or(String::new(), |url| format!("{url}\n"));
        let at = notice.at.format("%Y-%m-%d %H:%M:%S UTC");
        let (by, kind, text) = (&notice.by, &notice.kind, notice.text.trim_end());
        let text = if text.is_empty() { String::new() } else { format!("{text}\n") };
        let body = format!(
            "{}\n\n{text}{link}\n-- \n{kind} by {by} at {at}\n{audit_id} {id}\n",
            notice.title
        );
        Message::builder()
            .from(self.server.from.clone())
            .to(Mailbox::new(None, self.to.clone()))
            .subject(format!("[pgvalet] {}", notice.title))
            .message_id(Some(format!("<{id}@{domain}>")))
            .references(format!("<{subject}@{domain}>"))
            .date(notice.at.into())
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN)
            .body(body)
    }
}

/// What the server says for good is not asked again, but for who we are: that is put right in the settings.
fn judged(error: &lettre::transport::smtp::Error) -> Sent {
    let Some(code) = error.status() else {
        return Sent::Later { why: causes(error), after: None };
    };
    let code = code.to_string();
    let why = format!("the mail server answered {code}");
    if error.is_permanent() && code.starts_with("55") {
        Sent::Never { why }
    } else {
        Sent::Later { why, after: None }
    }
}

/// Nobody who is away answers it (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::notice::{ChannelName, Notice};

    #[tokio::test]
    async fn a_title_begins_no_header_and_a_text_ends_no_mail() {
        let config = MailConfig {
            host: "127.0.0.1".to_owned(),
            port: 1,
            protection: MailProtection::None,
            user: None,
            password: None,
            ca: None,
            from: "pgvalet <pgvalet@example.org>".parse().unwrap(),
            to: Vec::new(),
        };
        let to = "dba@example.org".parse().unwrap();
        let mail = Mail { server: Arc::new(Server::new(&config).unwrap()), to };
        let at = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let mut notice = Notice::test(&ChannelName::Slack, "person:alice", at);
        notice.title = "x\r\nBcc: evil@example.org\r\n\r\nbody".to_owned();
        notice.subject = "x>\r\nBcc: evil@example.org".to_owned();
        notice.text = "a\r\n.\r\nMAIL FROM:<evil@example.org>".to_owned();
        let (id, audit_id) = (NoticeId::new(), AuditId::new());
        let message = mail.message(id, audit_id, &notice, None).unwrap();
        let text = String::from_utf8(message.formatted()).unwrap();
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert_eq!(message.envelope().to().len(), 1);
        let again = mail.message(id, audit_id, &notice, None).unwrap();
        assert_eq!(String::from_utf8(again.formatted()).unwrap(), text, "the same each time");
    }
}
