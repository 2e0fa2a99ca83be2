//! CircleCI. The organisation is the issuer: each has its own. A job that was run again with SSH has somebody's
//! shell in it, and is never let in. <https://circleci.com/docs/openid-connect-tokens/>

use crate::domain::ci::system::{Field, Form, Refused, System};

/// What is known of its tokens.
pub const SYSTEM: System = System {
    url: None,
    fields: &[
        Field::needed("project_id", &["oidc.circleci.com/project-id"], Form::Uuid),
        Field::optional("context_ids", &["oidc.circleci.com/context-ids"], Form::Uuid),
        Field::optional("vcs_ref", &["oidc.circleci.com/vcs-ref"], Form::Ref("refs/")),
        Field::optional("vcs_origin", &["oidc.circleci.com/vcs-origin"], Form::Exact),
        Field::always("ssh_rerun", &["oidc.circleci.com/ssh-rerun"], "false"),
    ],
    run: &[&["oidc.circleci.com/project-id"], &["oidc.circleci.com/job-id"]],
    told: &[
        &["oidc.circleci.com/vcs-origin"],
        &["oidc.circleci.com/vcs-ref"],
        &["oidc.circleci.com/workflow-id"],
        &["oidc.circleci.com/job-id"],
    ],
    refused: &[
        Refused::new(
            "ssh_rerun",
            "a job that was run again with SSH is never let in: leave it out",
        ),
        Refused {
            key: "sub",
            instead: "write project_id = \"…\" (the organisation is in the issuer's url)",
        },
        Refused {
            key: "subject",
            instead: "write project_id = \"…\" (the organisation is in the issuer's url)",
        },
    ],
};
