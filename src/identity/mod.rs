//! Who is calling, and how we know. Only this module can make a [`Caller`], and only a caller that
//! may administer can be made an [`Admin`]: rights are values, so no check can be forgotten.

pub mod throttle;
pub mod token;

use std::ops::Deref;

use chrono::{DateTime, Utc};

use crate::{domain::principal::Principal, identity::token::Verified, ids::TokenId};

/// A principal that proved who it is.
#[derive(Debug, Clone)]
pub struct Caller {
    principal: Principal,
    token_id: TokenId,
    token_expires_at: Option<DateTime<Utc>>,
}

impl Caller {
    /// The principal whose token was verified.
    #[must_use]
    pub fn by_token(
        verified: Verified,
        principal: Principal,
        expires_at: Option<DateTime<Utc>>,
    ) -> Self {
        Self { principal, token_id: verified.token_id(), token_expires_at: expires_at }
    }

    /// Who it is.
    #[must_use]
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The token it came with.
    #[must_use]
    pub const fn token_id(&self) -> TokenId {
        self.token_id
    }

    /// When that token ends.
    #[must_use]
    pub const fn token_expires_at(&self) -> Option<DateTime<Utc>> {
        self.token_expires_at
    }

    /// The right to administer, if the caller has it.
    #[must_use]
    pub fn as_admin(&self) -> Option<Admin<'_>> {
        self.principal.admin.then_some(Admin(self))
    }
}

/// A caller that may administer.
#[derive(Debug, Clone, Copy)]
pub struct Admin<'a>(&'a Caller);

impl Deref for Admin<'_> {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        self.0
    }
}
