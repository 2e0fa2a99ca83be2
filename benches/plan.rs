//! What it takes to plan and to make a profile in a database with very many tables:
//! `cargo bench --bench plan -- --tables 50000`.
//!
//! One profile reads all tables of a schema, and columns of a tenth of them. It is planned and made on an
//! untouched database, planned again when nothing is missing, and once more after somebody changed one table
//! by hand. Memory is the daemon's, the most that it ever was.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "it prints its figures, and should stop at the first thing that is not as it should be"
)]

use std::{fs, time::Instant};

use serde_json::{Value, json};

use crate::support::world::{Plan, World};

#[expect(dead_code, reason = "the tests use the rest of it")]
#[path = "../tests/it/support/mod.rs"]
mod support;

/// Tables in one transaction: each takes a lock.
const AT_ONCE: u64 = 2000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let at = arguments.iter().position(|argument| argument == "--tables");
    let tables = at.and_then(|at| arguments.get(at + 1)).map_or(50_000, |n| n.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(tables));
}

async fn measure(tables: u64) {
    let log = "warn,pgvalet=info,pgvalet::event=off";
    // As whoever has so many tables would set it: a first apply takes its time.
    let settings = "[http]\nrequest_timeout = \"10m\"";
    let world = World::with(Plan { log, settings, ..Plan::default() }).await;
    let shop = world.shop();
    let quiet = format!("ALTER DATABASE {shop} SET log_statement = 'none'");
    world.target.run("postgres", &[&quiet]).await;
    let owner = pgvalet::dev::shop::OWNER;
    world.target.run(&shop, &[&format!("CREATE SCHEMA many AUTHORIZATION {owner}")]).await;
    for first in (0..tables).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let last = (first + AT_ONCE).min(tables) - 1;
        let make = format!(
            "SET ROLE {owner}; DO $$ BEGIN FOR n IN {first}..{last} LOOP
                 EXECUTE format('CREATE TABLE many.%s_%s (id int, name text, note text, made_at timestamptz)',
                                CASE WHEN n % 10 = 0 THEN 'part' ELSE 'whole' END, n);
             END LOOP; END $$; RESET ROLE"
        );
        world.target.run(&shop, &[&make]).await;
    }
    let (name, target) = (world.profile("many"), &world.name);
    let text = format!(
        "[profile.{name}]\ntarget = \"{target}\"\ndatabase = \"{shop}\"\npreset = \"custom\"\nttl = \"1h\"\n\
         [[profile.{name}.grant]]\nschema = \"many\"\ntables = [\"whole_*\"]\nprivileges = [\"select\", \"insert\"]\n\
         [[profile.{name}.grant]]\nschema = \"many\"\ntables = [\"part_*\"]\ncolumns_except = [\"note\"]\nprivileges = [\"select\"]\n"
    );
    println!("{tables} tables; memory of the daemon before: {}", memory(&world));
    said(&world, "plan", "the first plan", &text).await;
    said(&world, "apply", "the first apply", &text).await;
    said(&world, "plan", "a plan with nothing to do", &text).await;
    said(&world, "apply", "an apply with nothing to do", &text).await;
    let drift = format!("GRANT DELETE ON many.whole_1 TO pgvg_{}_many", world.name);
    world.target.run(&shop, &[&drift]).await;
    said(&world, "plan", "a plan that finds one change", &text).await;
    world.finish().await;
}

async fn said(world: &World, verb: &str, what: &str, text: &str) {
    let code = json!({ "name": "p.toml", "text": text, "secrets": {} });
    let began = Instant::now();
    let answer = world.admin.post(&format!("/v1/{verb}"), &code).await.expect(200);
    let seconds = began.elapsed().as_secs_f64();
    let lines = answer["lines"].as_array().unwrap().iter();
    let count = |key: &str| {
        lines.clone().map(|line| line[key].as_array().map_or(0, Vec::len)).sum::<usize>()
    };
    println!(
        "{what}: {seconds:.2} s, {} statements, at most {}",
        count("statements"),
        memory(world)
    );
    let notes: Vec<&Value> = lines.clone().map(|line| &line["notes"]).collect();
    assert!(!json!(notes).to_string().contains("not made"), "{notes:?}");
}

/// The most that the daemon ever had.
fn memory(world: &World) -> String {
    let pid = world.daemon.pid().as_raw_nonzero();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    format!("{} MiB", kib / 1024)
}
