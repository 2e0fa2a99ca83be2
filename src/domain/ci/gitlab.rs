//! GitLab CI. For a merge request from a fork the token's `project_*` are the fork's, so that the ids alone keep
//! it out. <https://docs.gitlab.com/ci/secrets/id_token_authentication/>

use crate::domain::ci::system::{Field, Form, Refused, System};

/// Ways to start a pipeline that ask for the right to push, or more. Merge requests are taken if a rule names them.
pub const OWN_SOURCES: [&str; 7] =
    ["push", "web", "schedule", "api", "trigger", "pipeline", "parent_pipeline"];

/// What is known of its tokens.
pub const SYSTEM: System = System {
    url: None,
    fields: &[
        Field::needed("project_id", &["project_id"], Form::Number),
        Field::needed("namespace_id", &["namespace_id"], Form::Number),
        Field::optional("ref", &["ref"], Form::Ref("")),
        Field::optional("ref_type", &["ref_type"], Form::Exact),
        Field::unless_said("ref_protected", &["ref_protected"], Form::Exact, &["true"]),
        Field::optional("environment", &["environment"], Form::Exact),
        Field::optional("environment_protected", &["environment_protected"], Form::Exact),
        Field::unless_said("pipeline_source", &["pipeline_source"], Form::Exact, &OWN_SOURCES),
        Field::optional("ci_config_ref_uri", &["ci_config_ref_uri"], Form::Exact),
        Field::optional("runner_environment", &["runner_environment"], Form::Exact),
        Field::optional("user_id", &["user_id"], Form::Number),
    ],
    run: &[&["project_id"], &["job_id"]],
    told: &[
        &["project_path"],
        &["ref"],
        &["sha"],
        &["user_login"],
        &["pipeline_source"],
        &["environment"],
        &["pipeline_id"],
        &["job_id"],
    ],
    refused: &[
        Refused::new(
            "project_path",
            "names are recycled: write project_id = …; `pgvalet ci rule --from-token -` finds it",
        ),
        Refused::new(
            "namespace_path",
            "names are recycled: write namespace_id = …; `pgvalet ci rule --from-token -` finds it",
        ),
        Refused::new("user_login", "names are recycled: write user_id = …"),
        Refused::new(
            "sub",
            "it is made of names, and of what each project configures: write project_id, namespace_id, ref",
        ),
        Refused::new(
            "subject",
            "it is made of names, and of what each project configures: write project_id, namespace_id, ref",
        ),
    ],
};
