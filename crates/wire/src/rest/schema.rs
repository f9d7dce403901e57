//! Texts with a form of their own, as the OpenAPI documents describe them.
//!
//! Some are types that are read and written by hand, so that their schemas are too. The others stand for fields that are
//! plain text in Rust and are checked where they are used: nobody ever makes one.

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ArrayBuilder, ObjectBuilder, OneOfBuilder, RefOr, Schema, Type},
};

use super::{Audience, MAX_AUDIENCE};
use crate::{GroupName, Member, PeerId, Username};

macro_rules! texts {
    ($($type:ident: $bounds:expr, $pattern:literal, $example:literal, $about:literal;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                let (min, max) = $bounds;
                let text = ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($about))
                    .min_length(Some(min))
                    .max_length(Some(max))
                    .pattern(Some($pattern))
                    .examples([$example]);
                text.into()
            }
        }

        impl ToSchema for $type {}
    )*};
}

macro_rules! stand_ins {
    ($($(#[$doc:meta])* $type:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $type {}
    )*};
}

stand_ins! {
    /// Where somebody is reached.
    Endpoint;
    /// [`content::SafeName`], where it is read as plain text.
    FileName;
    /// A [`SealingKey`], or nothing where the peer's session was ended.
    ListedKey;
    MediaType;
    /// A media type, or all of a kind.
    MediaTypes;
    /// The id of a download or an offer.
    Number;
    Pem;
    SealingKey;
}

texts! {
    PeerId: (32, 32), "^[0-9a-f]{32}$", "843aa9789e01f59d3fa762e0bc4c11de",
        "A machine: the first 16 bytes of the SHA-256 of its public key, in hex.";
    Username: (3, 32), "^[a-z][a-z0-9._-]{2,31}$", "ana",
        "The name of an account.";
    GroupName: (3, 32), "^[a-z][a-z0-9._-]{2,31}$", "lab",
        "The name of a group of users.";
    Member: (3, 33), "^@?[a-z][a-z0-9._-]{2,31}$", "@lab",
        "A user, or a group of users with `@` before its name.";
    Endpoint: (3, 255), r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
        "192.0.2.7:50051",
        "`HOST:PORT` or `[V6]:PORT`.";
    FileName: (1, 1024), r"^[^\x00-\x1f\x7f-\x9f\\/\u2028-\u202e\u2066-\u2069]+(/[^\x00-\x1f\x7f-\x9f\\/\u2028-\u202e\u2066-\u2069]+){0,31}$",
        "papers/2026/results.tar",
        "A relative path: 1 to 32 parts of 1 to 255 bytes, 1,024 bytes in all. No part is `.` or `..` or begins with `.trueque`, and the first does not begin with a letter and a colon. Control characters, `\\` and marks that reorder what follows are not allowed.";
    MediaType: (3, 127), "^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$", "video/mp4",
        "`type/subtype` (RFC 6838), without parameters.";
    MediaTypes: (3, 127), r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/(\*|[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*)$", "video/*",
        "`type/subtype`, or `type/*` for all of a kind.";
    Number: (16, 16), "^[0-9a-f]{16}$", "0000000000000003",
        "What it is called in this API.";
    Pem: (1, 65536), "^-----BEGIN [A-Z ]+-----", "-----BEGIN CERTIFICATE REQUEST-----\n…",
        "PEM.";
    ListedKey: (0, 64), "^([0-9a-f]{64})?$", "f3b1a2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80",
        "An X25519 public key, in hex; empty where the peer's session was ended by its owner or an admin.";
    SealingKey: (64, 64), "^[0-9a-f]{64}$", "f3b1a2c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f80",
        "An X25519 public key, in hex.";
}

impl PartialSchema for Audience {
    fn schema() -> RefOr<Schema> {
        let network = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["network"]));
        let users = ArrayBuilder::new().items(Member::schema()).max_items(Some(MAX_AUDIENCE));
        let either = OneOfBuilder::new().item(network).item(users).description(Some(
            "Who may find and fetch a file: everybody on the network, or its owner and these users and groups. A group counts while the owner owns it or belongs to it.",
        ));
        Schema::from(either.build()).into()
    }
}

impl ToSchema for Audience {}
