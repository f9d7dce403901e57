//! [`Refused`]: what comes from the broker and is not taken, by reason. None of it gets what it asks for.

/// Why a message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refused {
    /// It cannot be read.
    Malformed,
    /// It speaks another version of the protocol.
    Version,
    /// It lacks what its kind must have, or came to a queue that is not for its kind.
    Misplaced,
    /// It is sealed for a key that is not ours any more.
    StaleKey,
    /// The directory does not know the sender, or not with this key.
    UnknownSender,
    /// The sender cannot be looked up now.
    NoDirectory,
    /// The session of the sender was ended.
    Revoked,
    /// The seal does not hold: changed, cut out of another message, or by somebody else.
    Forged,
    /// This question was asked before.
    Replayed,
    /// This question is for a time that is over, or its asker does not know ours; see [`super::seen`].
    OtherEpoch,
    /// An answer to a question that nobody asks, or not any more.
    NobodyAsks,
    /// An answer that is here already.
    Duplicate,
    /// More answers than were asked for.
    TooMany,
    /// More bytes than were asked for.
    TooMuch,
}

impl Refused {
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Misplaced => "misplaced",
            Self::StaleKey => "stale key",
            Self::UnknownSender => "unknown sender",
            Self::NoDirectory => "no directory",
            Self::Revoked => "session ended",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::OtherEpoch => "other epoch",
            Self::NobodyAsks => "nobody asks",
            Self::Duplicate => "duplicate",
            Self::TooMany => "too many",
            Self::TooMuch => "too much",
        }
    }

    /// Counts it.
    pub(crate) fn count(self) {
        metrics::counter!("trueque_relay_refused_total", "reason" => self.reason()).increment(1);
    }
}
