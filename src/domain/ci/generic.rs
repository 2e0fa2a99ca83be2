//! Any other issuer: its subject to the letter, and further claims. For SPIFFE the subject is the SPIFFE id, and
//! the issuer what SPIRE has as `jwt_issuer`. <https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md>

use crate::domain::ci::system::{Field, Form, System};

/// What is known of its tokens.
pub const SYSTEM: System = System {
    url: None,
    fields: &[Field::needed("subject", &["sub"], Form::Exact)],
    run: &[&["sub"]],
    told: &[],
    refused: &[],
};
