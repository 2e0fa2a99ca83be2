//! Mail: over TLS or not at all, with a header that nobody else writes.

use std::sync::Arc;

use serde_json::json;
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};

use crate::notices::{in_and_out, listed, world_with};
use crate::support::{
    certificates::Authority,
    eventually,
    mails::{Mails, Protection, Received},
    seconds,
    world::World,
};

fn tls(authority: &Authority) -> Arc<ServerConfig> {
    let pair = authority.for_loopback();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.der()], key)
        .unwrap();
    Arc::new(config)
}

/// The settings of mail to two people, one of whom wants it all.
fn settings(url: &str, more: &str) -> String {
    format!(
        "[mail]\nurl = \"{url}\"\nfrom = \"pgvalet <pgvalet@example.org>\"\n{more}\n\
         [[mail.to]]\naddress = \"people@example.org\"\ntopics = [\"people\"]\n\
         [[mail.to]]\naddress = \"drift@example.org\"\ntopics = [\"drift\"]\n"
    )
}

async fn received(mails: &Mails, count: usize) -> Vec<Received> {
    eventually("mail comes", seconds(30), async || mails.received().len() >= count).await;
    mails.received()
}

/// The file of an authority's certificate, for as long as the test runs.
fn ca_file(authority: &Authority) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.pem()).unwrap();
    file
}

async fn told_over(protection: Protection, scheme: &str, ca: &tempfile::NamedTempFile) -> World {
    let mails = Mails::start(protection).await;
    let more = format!("ca = {:?}\npassword = \"open sesame\"", ca.path());
    let world =
        world_with(settings(&format!("{scheme}://me@localhost:{}", mails.port), &more)).await;
    world.secrets.remember("open sesame");
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    let came = received(&mails, 2).await;
    assert_eq!(came.len(), 2);
    for (mail, what) in came.iter().zip(["was shut out", "was let in again"]) {
        assert!(mail.tls && mail.from.contains("pgvalet@example.org"), "{mail:?}");
        assert_eq!(mail.to, ["<people@example.org>"]);
        assert_eq!(mail.signed_in.as_deref(), Some(" me open sesame"));
        let subject = mail.header("Subject").unwrap();
        assert!(
            subject.starts_with("[pgvalet] person:alice") && subject.contains(what),
            "{subject}"
        );
        assert_eq!(mail.header("Auto-Submitted").unwrap(), "auto-generated");
        assert_eq!(mail.header("References").unwrap(), "<principal-person-alice@example.org>");
    }
    let notices = listed(&world, "channel=mail:people@example.org").await;
    let ids: Vec<_> = came.iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    for (notice, id) in notices.iter().rev().zip(ids) {
        assert_eq!(id, format!("<{}@example.org>", notice["id"].as_str().unwrap()));
    }
    world
}

#[tokio::test]
async fn mail_goes_over_tls_from_the_first_byte_or_by_starttls() {
    let authority = Authority::new("mail");
    let ca = ca_file(&authority);
    for (protection, scheme) in [
        (Protection::Tls(tls(&authority)), "smtps"),
        (Protection::StartTls(tls(&authority)), "smtp"),
    ] {
        told_over(protection, scheme, &ca).await.finish().await;
    }
}

/// A server without TLS, or one that somebody else stands in for, is told nothing.
#[tokio::test]
async fn without_tls_that_holds_nothing_is_said() {
    let (authority, stranger) = (Authority::new("mail"), Authority::new("stranger"));
    let ca = ca_file(&authority);
    for protection in [Protection::None, Protection::StartTls(tls(&stranger))] {
        let mails = Mails::start(protection).await;
        let more = format!("ca = {:?}\npassword = \"open sesame\"", ca.path());
        let world =
            world_with(settings(&format!("smtp://me@localhost:{}", mails.port), &more)).await;
        let body = json!({ "channel": "mail:people@example.org" });
        let tried = world.admin.post("/v1/notices/test", &body).await.expect(200);
        assert_eq!(tried["told"], false, "{tried}");
        assert!(!tried.to_string().contains("open sesame"), "{tried}");
        assert_eq!(mails.received().len(), 0);
        world.finish().await;
    }
}

#[tokio::test]
async fn what_people_write_is_no_header_and_a_server_that_is_busy_is_asked_again() {
    let mails = Mails::start(Protection::None).await;
    mails.then(&["451 later", "421 busy"]);
    let url = format!("smtp://127.0.0.1:{}", mails.port);
    let world = world_with(settings(&url, "allow_plaintext = true")).await;
    world
        .put_profile(
            "write",
            json!({ "preset": "break-glass", "reason": "required", "ttl": "10m", "max_ttl": "1h" }),
        )
        .await;
    let reason = "x\nBcc: evil@example.org\n\n.\nMAIL FROM:<evil@example.org>\nx";
    world.admin.ask(&world.profile("write"), json!({ "reason": reason })).await.expect(201);
    let came = received(&mails, 2).await;
    for mail in &came {
        assert_eq!(mail.to.len(), 1, "{mail:?}");
        for name in mail.names() {
            let ours = [
                "From",
                "To",
                "Subject",
                "Message-ID",
                "References",
                "Date",
                "Auto-Submitted",
                "Content-Type",
                "Content-Transfer-Encoding",
                "MIME-Version",
            ];
            assert!(ours.contains(&name.as_str()), "{name}: {}", mail.text);
        }
    }
    let ids: std::collections::BTreeSet<_> =
        came.iter().map(|mail| mail.header("Message-ID").unwrap()).collect();
    assert_eq!((came.len(), ids.len()), (2, 2), "to each once, though two were asked for again");
    // For good: it is not asked again.
    mails.then(&["550 no such mailbox"]);
    drop(world.person("alice", &[]).await);
    in_and_out(&world.admin, "alice", 1).await;
    drop(received(&mails, 3).await);
    let dead = listed(&world, "state=dead").await;
    assert_eq!(dead[0]["last_error"], "the mail server answered 550", "{dead:?}");
    world.finish().await;
}
