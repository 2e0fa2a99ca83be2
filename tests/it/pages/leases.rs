//! Signing in, asking for a lease, using it, giving it back.

use std::process::Command;

use crate::support::{
    browser::world_with_provider, chromium::Chromium, sessions::try_text, shell::finish,
};

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
    window.fill("ttl", "20m").await;
    window.fill("reason", "<b>a customer's</b> order").await;
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
