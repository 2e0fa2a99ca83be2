//! A browser as far as signing in needs one: it keeps cookies, says where a request comes from, and follows a
//! redirect when it is told to. And a person's hands at the identity provider.

use std::{cell::RefCell, collections::BTreeMap};

use pgvalet::dev::provider::Provider;
use reqwest::{Method, Url, header};
use serde_json::{Value, json};

use crate::support::{
    people::Person,
    seconds,
    world::{Plan, World},
};

/// A world whose people sign in at a provider, with more lines of its settings.
pub(crate) async fn world_with_provider(more: &str) -> (World, Provider) {
    let provider = Provider::start().await.unwrap();
    let settings = format!("{}\n[throttle]\nfailures_per_minute = 10000", provider.settings(more));
    let plan = Plan { settings: String::leak(settings), ..Plan::default() };
    (World::with(plan).await, provider)
}

/// Two persons of the provider, signed in, each in a browser of their own.
pub(crate) async fn ada_and_gus(world: &World) -> (Browser, Browser) {
    let (ada, gus) = (Browser::new(&world.daemon.url), Browser::new(&world.daemon.url));
    ada.sign_in("sub-ada", "/").await;
    gus.sign_in("sub-gus", "/").await;
    for browser in [&ada, &gus] {
        world.secrets.remember(&browser.session().unwrap());
    }
    (ada, gus)
}

/// Somebody without a token.
pub(crate) fn nobody(world: &World) -> Person {
    world.admin.with_token("pgv_nobody_has-no-token-at-all")
}

/// Says to the provider who is at the device that shows this code; nobody says no.
pub(crate) async fn click_device(provider: &Provider, user_code: &str, subject: &str) {
    let body = form(&[("user_code", user_code), ("person", subject)]);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let sent = http.post(format!("{}/device", provider.issuer())).body(body).send().await.unwrap();
    assert_eq!(sent.status(), 200);
}

/// A person signs in on another device, at the daemon of `at`; gives their session.
pub(crate) async fn device_session(at: &Person, provider: &Provider, subject: &str) -> Person {
    let begun = at.post("/v1/sign-in/device", &json!({})).await.expect(200);
    click_device(provider, begun["user_code"].as_str().unwrap(), subject).await;
    let done = poll(at, &begun).await.expect(200);
    at.with_token(done["secret"].as_str().unwrap_or_else(|| panic!("no session: {done}")))
}

/// Asks how a device's sign-in stands.
pub(crate) async fn poll(at: &Person, begun: &Value) -> crate::support::people::Answer {
    at.post("/v1/sign-in/device/poll", &json!({ "secret": begun["secret"] })).await
}

pub(crate) fn form(pairs: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://form.invalid").unwrap();
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap().to_owned()
}

/// A browser.
pub(crate) struct Browser {
    http: reqwest::Client,
    base: String,
    pub(crate) cookies: RefCell<BTreeMap<String, String>>,
}

/// What it shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) location: Option<String>,
    pub(crate) headers: header::HeaderMap,
}

impl Browser {
    pub(crate) fn new(base: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(seconds(30));
        let http = http.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { http, base: base.to_owned(), cookies: RefCell::default() }
    }

    /// Its session, if it has one.
    pub(crate) fn session(&self) -> Option<String> {
        self.cookies.borrow().get("pgvalet").cloned()
    }

    pub(crate) async fn get(&self, path: &str) -> Shown {
        self.send(Method::GET, path, &[("sec-fetch-site", "none")]).await
    }

    /// A request of ours or of anybody's: the headers say whose page it comes from.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Shown {
        let url =
            if path.starts_with('/') { format!("{}{path}", self.base) } else { path.to_owned() };
        self.carry_out(self.http.request(method, url), headers).await
    }

    async fn carry_out(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[(&'static str, &str)],
    ) -> Shown {
        let cookies: Vec<_> =
            self.cookies.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        for set in answer.headers().get_all(header::SET_COOKIE) {
            let text = set.to_str().unwrap();
            assert!(text.contains("HttpOnly") && text.contains("SameSite=Lax"), "{text}");
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.borrow_mut().remove(name);
            } else {
                self.cookies.borrow_mut().insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let location = headers.get(header::LOCATION).map(|to| to.to_str().unwrap().to_owned());
        Shown { status, text: answer.text().await.unwrap(), location, headers }
    }

    /// Sends a form as a page of ours does, or as one that only says so.
    pub(crate) async fn post(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Shown {
        let request = self.http.post(format!("{}{path}", self.base)).body(form(fields));
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.carry_out(request, headers).await
    }

    /// What the forms of its pages carry.
    pub(crate) async fn form_token(&self) -> String {
        let front = self.get("/").await.text;
        let (_, behind) = front.split_once("name=\"form_token\" value=\"").unwrap();
        behind.split('"').next().unwrap().to_owned()
    }

    /// Sets out to sign in; gives where the provider was asked.
    pub(crate) async fn set_out(&self, next: &str) -> Url {
        let sent = self.get(&format!("/sign-in?{}", form(&[("next", next)]))).await;
        assert_eq!(sent.status, 303, "{}", sent.text);
        sent.location.unwrap().parse().unwrap()
    }

    /// Clicks on somebody at the provider; gives the way back.
    pub(crate) async fn click(&self, asked: &Url, subject: &str) -> Url {
        let mut body = asked.query().unwrap().to_owned();
        body.push_str(&format!("&person={subject}"));
        let page = format!("{}://{}/authorize", asked.scheme(), asked.authority());
        let answer = self.http.post(page).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 303);
        answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap()
    }

    /// Signs in as somebody; gives where it ends up.
    pub(crate) async fn sign_in(&self, subject: &str, next: &str) -> Shown {
        let asked = self.set_out(next).await;
        let back = self.click(&asked, subject).await;
        self.get(back.as_str()).await
    }
}
