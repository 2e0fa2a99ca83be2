//! One asks, another agrees in a browser of their own, and what was agreed to is fetched once.

use std::process::Command;

use serde_json::json;

use crate::support::{
    browser::{Browser, ada_and_gus, world_with_provider},
    chromium::{Chromium, Window},
    shell::finish,
    world::World,
};

/// Two steps, so that a page shows one that is done and one that is not.
async fn put_guarded(world: &World) -> String {
    let step = |from: &str| json!({ "from": [from], "count": 1 });
    let approval = json!({
        "steps": [step("person:mia"), step("group:globex")], "lapse_after": "1d", "use_within": "1h",
    });
    let differs = json!({
        "description": "Change orders", "reason": "required", "conditions": { "approval": approval },
        "preset": "readwrite",
    });
    world.put_profile("guarded", differs).await;
    world.profile("guarded")
}

async fn asks(window: &Window, profile: &str) -> String {
    window.open(&format!("/ask/{profile}")).await;
    window.fill("reason", "<!channel> the order of a customer\nis missing").await;
    window.press("Ask").await;
    window.says(&format!("Request for {profile}")).await;
    window.path().await
}

/// The password that the page shows.
async fn password(world: &World, window: &Window) -> String {
    let shown = window.driver.script("return document.getElementById('password').value").await;
    let password = shown.as_str().unwrap().to_owned();
    world.secrets.remember(&password);
    password
}

#[tokio::test]
async fn what_two_others_agree_to_in_their_browsers_is_fetched_once_and_works() {
    let Some(chromium) = Chromium::start().await else { return };
    let (world, _provider) = world_with_provider("").await;
    let guarded = put_guarded(&world).await;
    let mut faults = Vec::new();
    let ada = chromium.window(&world.daemon.url).await;
    ada.sign_in("ada").await;
    world.secrets.remember(&ada.session().await);
    let request = asks(&ada, &guarded).await;
    ada.says("It waits for person:mia").await;
    ada.says("nobody agrees to their own request").await;
    assert!(!ada.has("Approve").await && !ada.has("Deny").await && ada.has("Withdraw").await);
    faults.extend(ada.faults("request-own").await);

    // The link that a chat carries: opened by somebody who is not signed in.
    let mia = chromium.window(&world.daemon.url).await;
    mia.open(&request).await;
    mia.says("Sign in to go on").await;
    mia.by_keyboard("Sign in").await;
    mia.says("pgvalet asks who you are").await;
    mia.by_keyboard("mia").await;
    mia.says("Your decision").await;
    world.secrets.remember(&mia.session().await);
    assert_eq!(mia.path().await, request);
    mia.says("Read, add, change and delete rows of every table in schema public").await;
    mia.says("<!channel> the order of a customer\nis missing").await;
    faults.extend(mia.faults("request-decide").await);
    mia.open("/").await;
    mia.says("What waits for your decision").await;
    faults.extend(mia.faults("front-decide").await);
    mia.by_keyboard(&guarded).await;
    mia.says("Your decision").await;
    mia.fill("ttl", "10m").await;
    mia.fill("approve-comment", "as on the phone").await;
    mia.by_keyboard("Approve").await;
    mia.says("It waits for group:globex").await;
    assert!(!mia.has("Approve").await, "nobody agrees twice");

    ada.open(&format!("{request}/claim")).await;
    ada.says("It waits for group:globex").await;
    assert!(!ada.has("Make the login and show it").await);

    let gus = chromium.window(&world.daemon.url).await;
    gus.sign_in("gus").await;
    world.secrets.remember(&gus.session().await);
    gus.open(&request).await;
    gus.says("as on the phone").await;
    gus.press("Approve").await;
    gus.says("It was agreed to.").await;
    faults.extend(gus.faults("request-agreed").await);
    gus.open(&format!("{request}/claim")).await;
    gus.says("Only person:ada may fetch it").await;

    // To open the page uses nothing up, however often.
    for _ in 0..2 {
        ada.open(&request).await;
        ada.by_keyboard("Fetch the login").await;
        ada.says("The login is made when you press the button, lasts 10m").await;
    }
    faults.extend(ada.faults("claim").await);
    assert_eq!(world.live().await.len(), 0);
    ada.by_keyboard("Make the login and show it").await;
    ada.says("It is shown once").await;
    let line = ada.driver.script("return document.querySelector('textarea').value").await;
    let password = password(&world, &ada).await;
    let uri = line.as_str().unwrap().trim_start_matches("psql '").trim_end_matches('\'').to_owned();
    let mut psql = Command::new("psql");
    psql.args([&uri, "-Atc", "select current_user"]);
    assert_eq!(finish(psql).await.expect(0).trim(), format!("pgvg_{}_guarded", world.name));

    ada.reload().await;
    ada.says("its password was shown once").await;
    assert!(!ada.source().await.contains(&password));
    ada.open(&format!("{request}/claim")).await;
    ada.says("its password was shown once").await;
    assert_eq!(world.live().await.len(), 1);
    ada.open("/").await;
    ada.says("It was agreed to and fetched.").await;
    faults.extend(ada.faults("front-both").await);
    for window in [ada, mia, gus] {
        window.close().await;
    }
    assert_eq!(faults, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_no_needs_a_reason_which_whoever_asked_reads_and_what_is_withdrawn_is_over() {
    let Some(chromium) = Chromium::start().await else { return };
    let (world, _provider) = world_with_provider("").await;
    let guarded = put_guarded(&world).await;
    let (ada, mia) =
        (chromium.window(&world.daemon.url).await, chromium.window(&world.daemon.url).await);
    ada.sign_in("ada").await;
    mia.sign_in("mia").await;
    for window in [&ada, &mia] {
        world.secrets.remember(&window.session().await);
    }
    let request = asks(&ada, &guarded).await;
    mia.open(&request).await;
    // The browser itself asks for what must not be empty; and so does the daemon.
    mia.press("Deny").await;
    assert_eq!(mia.driver.script("return document.activeElement.id").await, "deny-comment");
    mia.driver.script("document.getElementById('deny-comment').required = false").await;
    mia.press("Deny").await;
    mia.says("Something is missing or wrong").await;
    mia.says("comment: say why, so that they know what to change").await;
    // What was written is back in the form that was refused, and in no other.
    mia.driver.script("document.getElementById('ttl').pattern = '.*'").await;
    mia.fill("ttl", "a while").await;
    mia.fill("approve-comment", "as on <b>the phone</b>").await;
    mia.press("Approve").await;
    mia.says("ttl: ").await;
    let kept = "return ['ttl', 'approve-comment', 'deny-comment'].map(id => document.getElementById(id).value)";
    let kept = mia.driver.script(kept).await;
    assert_eq!(kept, json!(["a while", "as on <b>the phone</b>", ""]));
    mia.fill("deny-comment", "shop-read will do").await;
    mia.press("Deny").await;
    mia.says("person:mia said no.").await;
    ada.open(&request).await;
    ada.says("shop-read will do").await;
    assert!(ada.has("Ask again").await && !ada.has("Withdraw").await);
    let mut faults = ada.faults("request-denied").await;

    let request = asks(&ada, &guarded).await;
    mia.open(&request).await;
    ada.press("Withdraw").await;
    ada.says("It was withdrawn.").await;
    // Who was about to decide hears what it became.
    mia.press("Approve").await;
    mia.says("Something is in the way").await;
    mia.says("the request is withdrawn").await;
    faults.extend(mia.faults("too-late").await);
    for window in [ada, mia] {
        window.close().await;
    }
    assert_eq!(faults, Vec::<String>::new());
    world.finish().await;
}

#[tokio::test]
async fn a_form_that_the_page_does_not_offer_is_refused_where_it_is_decided() {
    let (world, _provider) = world_with_provider("").await;
    let guarded = put_guarded(&world).await;
    let ours = [("sec-fetch-site", "same-origin")];
    let (ada, gus) = ada_and_gus(&world).await;
    let (of_ada, of_gus) = (ada.form_token().await, gus.form_token().await);
    let fields = [("form_token", of_ada.as_str()), ("reason", "a test"), ("once", "one")];
    let asked = ada.post(&format!("/ask/{guarded}"), &fields, &ours).await;
    assert_eq!(asked.status, 303, "{}", asked.text);
    let request = asked.location.unwrap();
    // The same form, sent again, asks for nothing more.
    let again = ada.post(&format!("/ask/{guarded}"), &fields, &ours).await;
    assert_eq!(again.location.as_deref(), Some(request.as_str()), "{}", again.text);

    let send = async |browser: &Browser, path: &str, token: &str, what: &str| {
        let fields = [("form_token", token), ("do", what), ("comment", "a test")];
        browser.post(path, &fields, &ours).await
    };
    let own = send(&ada, &request, &of_ada, "approve").await;
    assert_eq!(own.status, 403, "{}", own.text);
    assert!(own.text.contains("Nobody agrees to their own request"), "{}", own.text);
    let not_yet = send(&gus, &request, &of_gus, "approve").await;
    assert_eq!(not_yet.status, 403, "the open step names another: {}", not_yet.text);
    let others = send(&gus, &request, &of_gus, "withdraw").await;
    assert_eq!(others.status, 403, "{}", others.text);
    let another_session = send(&ada, &request, &of_gus, "withdraw").await;
    assert!(another_session.text.contains("Open the page again"), "{}", another_session.text);
    assert_eq!(send(&ada, &request, &of_ada, "everything").await.status, 422);
    let claim = format!("{request}/claim");
    assert_eq!(send(&ada, &claim, &of_ada, "").await.status, 409, "nobody agreed to it");
    let page = ada.get(&request).await;
    assert!(page.text.contains("It waits for person:mia"), "{}", page.text);
    assert_eq!(world.live().await.len(), 0);
    world.finish().await;
}
