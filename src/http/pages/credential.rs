//! The one page that shows a credential. It is the answer to a form that was sent, is kept nowhere, and comes
//! once: sent again, the same form gets the lease without it.

use axum::response::Response;
use maud::{Markup, html};

use crate::{
    app::issue::Answer,
    domain::lease::Lease,
    http::{
        leases::shown_credential,
        pages::{
            layout::{At, page},
            visitor::Visitor,
        },
    },
};

/// The answer, with its credential or without.
pub(in crate::http::pages) fn handed_out(answer: Answer, visitor: &Visitor) -> Response {
    let Answer { lease, credential, .. } = answer;
    let Some(credential) = credential else {
        return page("Shown already", Some(visitor), &shown_already(&lease));
    };
    let given = shown_credential(credential);
    let body = html! {
        p role="status" {
            "This login is yours. " strong { "It is shown once:" }
            " copy what you need before you leave or reload this page."
        }
        section.fields aria-labelledby="psql" {
            h2 #psql { "With psql" }
            textarea readonly rows="5" aria-labelledby="psql" spellcheck="false" { "psql '" (given.uri) "'" }
        }
        section.fields aria-labelledby="fields" {
            h2 #fields { "With another program" }
            (field("host", "Host", &given.host))
            (field("port", "Port", &given.port.to_string()))
            (field("database", "Database", &given.database))
            (field("user", "User", &given.user))
            (field("password", "Password", &given.password))
            (field("sslmode", "Protection (sslmode)", &given.sslmode))
            (field("options", "Options", &given.options))
            @if let Some(pem) = &given.sslrootcert_pem {
                label for="certificate" { "Certificates to trust: save them as a file, and name it as sslrootcert" }
                textarea #certificate readonly rows="5" spellcheck="false" { (pem) }
            }
            p { "It stops working at " (At(given.valid_until)) "." }
        }
        p { a.button href={ "/leases/" (lease.id) } { "To the lease" } }
    };
    page("Your login", Some(visitor), &body)
}

/// What is said in place of a credential that was handed out before.
pub(in crate::http::pages) fn shown_already(lease: &Lease) -> Markup {
    html! {
        p role="status" {
            "This login was made, and its password was shown once. It is kept nowhere, so it cannot be shown again."
        }
        p {
            "If you did not copy it: give the lease back and ask again, or get a fresh password with "
            code { "pgvalet rotate " (lease.id) } "."
        }
        p { a.button href={ "/leases/" (lease.id) } { "To the lease" } }
    }
}

/// A field that is there to be copied from, without a mouse too.
fn field(id: &str, name: &str, value: &str) -> Markup {
    html! {
        label for=(id) { (name) }
        input #(id) value=(value) readonly autocomplete="off" spellcheck="false";
    }
}
