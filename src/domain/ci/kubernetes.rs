//! Service accounts of a Kubernetes cluster, by projected tokens. A service account that is deleted and made
//! anew has another UID. <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use crate::domain::ci::system::{Field, Form, Refused, System};

/// What is known of its tokens.
pub const SYSTEM: System = System {
    url: None,
    fields: &[
        Field::needed("namespace", &["kubernetes.io", "namespace"], Form::Exact),
        Field::needed(
            "serviceaccount_uid",
            &["kubernetes.io", "serviceaccount", "uid"],
            Form::Uuid,
        ),
        Field::optional(
            "serviceaccount",
            &["kubernetes.io", "serviceaccount", "name"],
            Form::Exact,
        ),
        Field::optional("pod", &["kubernetes.io", "pod", "name"], Form::Exact),
        Field::optional("pod_uid", &["kubernetes.io", "pod", "uid"], Form::Uuid),
        Field::optional("node", &["kubernetes.io", "node", "name"], Form::Exact),
    ],
    run: &[
        &["kubernetes.io", "namespace"],
        &["kubernetes.io", "serviceaccount", "uid"],
        &["kubernetes.io", "pod", "uid"],
    ],
    told: &[
        &["kubernetes.io", "namespace"],
        &["kubernetes.io", "serviceaccount", "name"],
        &["kubernetes.io", "pod", "name"],
        &["kubernetes.io", "node", "name"],
    ],
    refused: &[
        Refused::new(
            "sub",
            "an account of that name may be made anew by others: write namespace and serviceaccount_uid",
        ),
        Refused::new(
            "subject",
            "an account of that name may be made anew by others: write namespace and serviceaccount_uid",
        ),
    ],
};
