//! Closed sets of words: each is one type, written in a file and in JSON as it is named here.

/// Declares a word of the file: an enum of words, as they stand in a file and in JSON.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
            utoipa::ToSchema,
        )]
        pub enum $name { $($(#[$each])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// All of them, as they stand in a file.
            pub const ALL: &'static [&'static str] = &[$($text),+];

            /// All of them.
            pub const VALUES: &'static [Self] = &[$(Self::$variant),+];

            /// As it stands in a file.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Reads it back.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}
pub(in crate::domain) use words;
