//! Buildkite. <https://buildkite.com/docs/agent/v3/cli-oidc>

use crate::domain::ci::system::{Field, Form, Refused, System};

/// What is known of its tokens.
pub const SYSTEM: System = System {
    url: Some("https://agent.buildkite.com"),
    fields: &[
        Field::needed("organization_id", &["organization_id"], Form::Uuid),
        Field::needed("pipeline_id", &["pipeline_id"], Form::Uuid),
        Field::optional("build_branch", &["build_branch"], Form::Ref("")),
        Field::optional("step_key", &["step_key"], Form::Exact),
        Field::optional("runner_environment", &["runner_environment"], Form::Exact),
    ],
    run: &[&["pipeline_id"], &["job_id"]],
    told: &[
        &["organization_slug"],
        &["pipeline_slug"],
        &["build_branch"],
        &["build_commit"],
        &["build_number"],
        &["step_key"],
        &["job_id"],
    ],
    refused: &[
        Refused {
            key: "organization_slug",
            instead: "names are recycled: write organization_id = \"…\" (`--claim organization_id` puts it into the token)",
        },
        Refused {
            key: "pipeline_slug",
            instead: "names are recycled: write pipeline_id = \"…\" (`--claim pipeline_id` puts it into the token)",
        },
        Refused::new(
            "sub",
            "it is made of names: write organization_id, pipeline_id, build_branch",
        ),
        Refused::new(
            "subject",
            "it is made of names: write organization_id, pipeline_id, build_branch",
        ),
    ],
};
