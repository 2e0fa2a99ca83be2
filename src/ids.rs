//! One type for each kind of id, so that one cannot be passed for another; each with its own prefix
//! in text, so that a person sees what an id is of. UUID version 7 (RFC 9562): they sort by age.

use std::{fmt, str::FromStr};

use uuid::Uuid;

/// A text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a {kind} id: it should look like `{prefix}_0190c5d3e1a27c41b1f5d0c2a1b3c4d5`"
)]
pub struct NotAnId {
    text: String,
    kind: &'static str,
    prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// What its text form begins with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, later than those made before it.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each call gives another value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The bare UUID, as the database keeps it.
            #[must_use]
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let fault = || NotAnId { text: text.chars().take(64).collect(), kind: $kind, prefix: $prefix };
                let rest = text.strip_prefix(concat!($prefix, "_")).ok_or_else(fault)?;
                Uuid::try_parse(rest).map(Self).map_err(|_| fault())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .pattern(Some(concat!("^", $prefix, "_[0-9a-f]{32}$")))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

id!(
    /// A target: one PostgreSQL cluster.
    TargetId, "tgt", "target"
);
id!(
    /// A profile.
    ProfileId, "prf", "profile"
);
id!(
    /// A standing role.
    StandingRoleId, "str", "standing role"
);
id!(
    /// A principal: who asks.
    PrincipalId, "prn", "principal"
);
id!(
    /// An API token. The secret is not part of it.
    TokenId, "tok", "token"
);
id!(
    /// A lease.
    LeaseId, "lse", "lease"
);
id!(
    /// A request for access that others must agree to. (A [`RequestId`] is one of HTTP.)
    AccessRequestId, "acc", "access request"
);
id!(
    /// A review of who can reach what.
    ReviewId, "rvw", "review"
);
id!(
    /// One item of a review: a principal and a profile.
    ReviewItemId, "rvi", "review item"
);
id!(
    /// One login role of a lease; rotation gives a lease another.
    LoginId, "lgn", "login"
);
id!(
    /// An entry of the audit.
    AuditId, "aud", "audit entry"
);
id!(
    /// Something that is told to others.
    NoticeId, "ntc", "notice"
);
id!(
    /// A sealed code that opens an emergency.
    EmergencyCodeId, "cod", "emergency code"
);
id!(
    /// Somebody's leaving.
    OffboardingId, "off", "offboarding"
);
id!(
    /// One HTTP request, in its answer, in every log line and in the audit.
    RequestId, "req", "request"
);
id!(
    /// One run of the daemon.
    DaemonId, "dmn", "daemon"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = LeaseId::new();
        assert_eq!(id.to_string().parse::<LeaseId>(), Ok(id));
        assert!(id.to_string().starts_with("lse_"));
    }

    #[test]
    fn an_id_of_another_kind_is_refused_by_name() {
        let fault = TokenId::new().to_string().parse::<LeaseId>().unwrap_err();
        assert!(fault.to_string().contains("not a lease id"), "{fault}");
    }
}
