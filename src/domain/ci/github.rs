//! GitHub Actions. `sub` is never read: its form differs by when a repository was made and by what its
//! organisation configured, and it is made of names.
//! <https://docs.github.com/en/actions/reference/security/oidc>

use crate::domain::ci::system::{Field, Form, Refused, System};

/// Events that only somebody with the right to write starts. All others are taken if a rule names them:
/// pull requests and comments come from anybody.
pub const OWN_EVENTS: [&str; 5] =
    ["push", "workflow_dispatch", "schedule", "release", "deployment"];

/// What is known of its tokens.
pub const SYSTEM: System = System {
    url: Some("https://token.actions.githubusercontent.com"),
    fields: &[
        Field::needed("repository_id", &["repository_id"], Form::Number),
        Field::needed("repository_owner_id", &["repository_owner_id"], Form::Number),
        Field::optional("ref", &["ref"], Form::Ref("refs/")),
        Field::optional("environment", &["environment"], Form::Exact),
        Field::unless_said("event", &["event_name"], Form::Exact, &OWN_EVENTS),
        Field::optional("job_workflow_ref", &["job_workflow_ref"], Form::Exact),
        Field::optional("job_workflow_sha", &["job_workflow_sha"], Form::Exact),
        Field::unless_said(
            "runner_environment",
            &["runner_environment"],
            Form::Exact,
            &["github-hosted"],
        ),
        Field::optional("repository_visibility", &["repository_visibility"], Form::Exact),
        Field::optional("actor_id", &["actor_id"], Form::Number),
    ],
    run: &[&["repository_id"], &["run_id"], &["run_attempt"], &["check_run_id"]],
    told: &[
        &["repository"],
        &["ref"],
        &["sha"],
        &["actor"],
        &["event_name"],
        &["environment"],
        &["workflow_ref"],
        &["run_id"],
        &["run_attempt"],
    ],
    refused: &[
        Refused::new(
            "repository",
            "names are recycled: write repository_id = …; `pgvalet ci rule --from-token -` finds it",
        ),
        Refused::new(
            "repository_owner",
            "names are recycled: write repository_owner_id = …; `pgvalet ci rule --from-token -` finds it",
        ),
        Refused::new("actor", "names are recycled: write actor_id = …"),
        Refused::new(
            "sub",
            "its form changes, and it is made of names: write repository_id, repository_owner_id, ref or environment",
        ),
        Refused::new(
            "subject",
            "its form changes, and it is made of names: write repository_id, repository_owner_id, ref or environment",
        ),
    ],
};
