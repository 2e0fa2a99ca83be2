//! Signing in, asking for a lease, using it, giving it back.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    browser::{Browser, ada_and_gus, world_with_provider},
    chromium::{Chromium, Window},
    eventually, seconds,
    sessions::try_text,
    shell::finish,
    world::World,
};

fn instant(value: &Value) -> chrono::DateTime<chrono::Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// By the form on its page, for as long as is written; and by the button in the list, for as long as the profile gives.
async fn makes_it_last_longer(world: &World, window: &Window) -> Vec<String> {
    let ends_at = async || instant(&world.live().await[0]["expires_at"]);
    let before = ends_at().await;
    window.fill("ttl", "45m").await;
    window.by_keyboard("Renew").await;
    eventually("it lasts longer", seconds(10), async || {
        ends_at().await - before > chrono::TimeDelta::minutes(20)
    })
    .await;
    // The list has it in short: as long as the profile gives.
    window.open("/").await;
    window.says("Your live leases").await;
    let faults = window.faults("front-lease").await;
    let before = ends_at().await;
    window.by_keyboard("Renew").await;
    window.says("Lease of").await;
    assert!(ends_at().await - before > chrono::TimeDelta::minutes(10));
    faults
}

#[tokio::test]
async fn somebody_without_a_mouse_signs_in_asks_uses_the_login_and_gives_it_back() {
    let Some(chromium) = Chromium::start().await else { return };
    let (world, _provider) = world_with_provider("").await;
    let window = chromium.window(&world.daemon.url).await;
    let mut faults = Vec::new();
    let read = world.profile("read");

    window.open("/").await;
    faults.extend(window.faults("welcome").await);
    window.by_keyboard("Sign in").await;
    window.says("pgvalet asks who you are").await;
    window.by_keyboard("ada").await;
    window.says("You are person:ada, in acme.").await;
    world.secrets.remember(&window.session().await);
    window.says("You have no live leases.").await;
    faults.extend(window.faults("front").await);

    window.by_keyboard(&read).await;
    window.says(&format!("Ask for {read}")).await;
    window.says("Read every table and view in schema public").await;
    faults.extend(window.faults("ask").await);
    // What the browser would not send is refused by the daemon; and what was written is not lost.
    window.driver.script("document.getElementById('ttl').pattern = '.*'").await;
    window.fill("ttl", "soon").await;
    window.fill("reason", "<b>a customer's</b> order").await;
    window.by_keyboard("Ask").await;
    window.says("Something is missing or wrong").await;
    faults.extend(window.faults("ask-refused").await);
    let kept = "return ['ttl', 'reason', 'tool'].map(id => document.getElementById(id).value)";
    let kept = window.driver.script(kept).await;
    assert_eq!(kept, json!(["soon", "<b>a customer's</b> order", "psql"]));
    assert!(window.source().await.contains("&lt;b&gt;a customer's&lt;/b&gt; order"));
    window.fill("ttl", "20m").await;
    window.by_keyboard("Ask").await;
    window.says("It is shown once").await;
    faults.extend(window.faults("credential").await);
    let line = window.driver.script("return document.querySelector('textarea').value").await;
    let uri = line.as_str().unwrap().trim_start_matches("psql '").trim_end_matches('\'').to_owned();
    let password = uri.split([':', '@']).nth(2).unwrap().to_owned();
    world.secrets.remember(&password);
    let mut psql = Command::new("psql");
    psql.args([&uri, "-Atc", "select current_user"]);
    assert_eq!(finish(psql).await.expect(0).trim(), format!("pgvg_{}_read", world.name));

    // Sent again, the form makes no second lease and shows nothing.
    window.reload().await;
    window.says("its password was shown once").await;
    assert!(!window.source().await.contains(&password));
    assert_eq!(world.live().await.len(), 1);
    faults.extend(window.faults("shown-already").await);

    window.by_keyboard("To the lease").await;
    window.says("It is live, until").await;
    window.says("<b>a customer's</b> order").await;
    faults.extend(window.faults("lease").await);
    faults.extend(makes_it_last_longer(&world, &window).await);
    window.by_keyboard("Give back").await;
    window.says("It is gone: it was given back or revoked.").await;
    window.says("is not there any more").await;
    faults.extend(window.faults("lease-over").await);

    window.open("/leases/lse_00000000000000000000000000000000").await;
    window.says("There is nothing here").await;
    faults.extend(window.faults("not-there").await);
    window.open("/").await;
    window.by_keyboard("Sign out").await;
    window.says("Valet keys for PostgreSQL").await;
    window.open("/ask/anything").await;
    window.says("Sign in to go on").await;
    faults.extend(window.faults("signed-out").await);

    window.close().await;
    assert_eq!(faults, Vec::<String>::new());
    let mut state = world.on_state().await;
    assert_eq!(try_text(&mut state, "SELECT count(*) FROM lease").await.unwrap(), "1");
    drop(state);
    world.finish().await;
}

/// The page offers what may be; what may not is refused where it is decided.
#[tokio::test]
async fn a_lease_lasts_longer_by_its_page_as_far_as_its_profile_goes_or_others_agree() {
    let (world, _provider) = world_with_provider("").await;
    let approval = json!({
        "steps": [{ "from": ["group:globex"], "count": 1 }], "lapse_after": "1d", "use_within": "1h",
    });
    let ours = [("sec-fetch-site", "same-origin")];
    let (ada, gus) = ada_and_gus(&world).await;
    let (of_ada, of_gus) = (ada.form_token().await, gus.form_token().await);
    let asked = [("form_token", of_ada.as_str()), ("ttl", "10m")];
    let made = ada.post(&format!("/ask/{}", world.profile("read")), &asked, &ours).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let (_, behind) = made.text.split_once("id=\"password\" value=\"").unwrap();
    world.secrets.remember(behind.split('"').next().unwrap());
    let lease = format!("/leases/{}", world.live().await[0]["id"].as_str().unwrap());
    let renew = async |browser: &Browser, token: &str, ttl: &str| {
        let fields = [("form_token", token), ("do", "renew"), ("ttl", ttl)];
        browser.post(&lease, &fields, &ours).await
    };
    assert_eq!(renew(&gus, &of_gus, "20m").await.status, 404, "somebody else's is not there");
    assert_eq!(renew(&ada, &of_gus, "20m").await.status, 403, "a form of another session");
    let refused = renew(&ada, &of_ada, "<soon>").await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("name=\"ttl\" value=\"&lt;soon&gt;\""), "{}", refused.text);
    assert_eq!(ada.post(&lease, &[("form_token", of_ada.as_str())], &ours).await.status, 422);
    let renewed = renew(&ada, &of_ada, "20m").await;
    assert_eq!(renewed.location.as_deref(), Some(lease.as_str()), "{}", renewed.text);
    // From now on others must agree to it: it becomes a request.
    world.put_profile("read", json!({ "conditions": { "approval": approval } })).await;
    let asked = renew(&ada, &of_ada, "30m").await;
    let request = asked.location.unwrap();
    assert!(request.starts_with("/requests/"), "{request}");
    let page = ada.get(&request).await;
    assert!(page.text.contains("Makes longer"), "{}", page.text);
    // At its longest there is nothing to press.
    world.put_profile("read", json!({})).await;
    assert!(ada.get(&lease).await.text.contains("Renew"));
    assert_eq!(renew(&ada, &of_ada, "8h").await.status, 303);
    let shown = ada.get(&lease).await;
    assert!(shown.text.contains("Give back") && !shown.text.contains("Renew"), "{}", shown.text);
    world.finish().await;
}
