//! The labels whose values are known beforehand.

use super::Label;
use crate::model::Evidence;

/// An enum and the words that its values are shown as.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$note:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$note])* $value,)+ }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];
            fn place(self) -> usize {
                self as usize
            }
            fn as_str(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }
        }
    };
}

label! {
    /// What came of a look at a key.
    Looked {
        Alive = "alive",
        /// It is there and has no deadline.
        Kept = "alive_without_deadline",
        Gone = "gone",
        Disconnected = "no_answer_disconnected",
        Late = "no_answer_late",
        NotOwner = "no_answer_not_owner",
        Suspect = "no_answer_suspect",
        /// Redis answered with an error.
        Error = "no_answer_error",
    }
}

label! {
    /// What came of an attempt to deliver.
    Attempt {
        Delivered = "2xx",
        /// A redirect, which is not followed; a 1xx is counted here too.
        Redirected = "3xx",
        /// 400, 413, 415, 422: the receiver finds fault with the event.
        Refused = "4xx_event",
        /// 401, 403, 407.
        Unauthorized = "4xx_auth",
        NotFound = "404",
        Gone = "410",
        /// 408, 425, 429.
        Busy = "4xx_busy",
        ClientError = "4xx_other",
        ServerError = "5xx",
        Timeout = "timeout",
        Connect = "connect",
        ConnectionRefused = "connection_refused",
        Dns = "dns",
        Tls = "tls",
        /// The operator may not dial there.
        EgressRefused = "egress_refused",
        /// Given up or broken off in another way.
        Other = "other",
    }
}

impl Attempt {
    pub const fn of_status(code: u16) -> Self {
        match code {
            200..=299 => Self::Delivered,
            0..=199 | 300..=399 => Self::Redirected,
            400 | 413 | 415 | 422 => Self::Refused,
            401 | 403 | 407 => Self::Unauthorized,
            404 => Self::NotFound,
            410 => Self::Gone,
            408 | 425 | 429 => Self::Busy,
            402..=499 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

label! {
    /// How a resync ended.
    Ended {
        Done = "done",
        Failed = "failed",
        BrokenOff = "broken_off",
    }
}

label! {
    /// What sort of call of a store.
    Call {
        Read = "read",
        Write = "write",
    }
}

label! {
    /// Why a store refused: the categories of its errors.
    StoreFault {
        Fenced = "Fenced",
        Locked = "Locked",
        Newer = "Newer",
        Corrupt = "Corrupt",
        ReadOnly = "ReadOnly",
        Full = "Full",
        Evicts = "Evicts",
        Denied = "Denied",
        Authentication = "Authentication",
        OutOfMemory = "OutOfMemory",
        Refused = "Refused",
        Unsynced = "Unsynced",
        Unavailable = "Unavailable",
        Closed = "Closed",
        EgressRefused = "EgressRefused",
        /// One that was not known when this was written.
        Other = "Other",
    }
}

impl StoreFault {
    pub fn of_category(category: &str) -> Self {
        Self::ALL.iter().copied().find(|fault| fault.as_str() == category).unwrap_or(Self::Other)
    }
}

label! {
    /// Whether it went well.
    Outcome {
        Ok = "ok",
        Error = "error",
    }
}

impl Label for Evidence {
    const ALL: &'static [Self] = &[Self::Witnessed, Self::Inferred];
    fn place(self) -> usize {
        self as usize
    }
    fn as_str(self) -> &'static str {
        Self::as_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_counted_where_it_belongs() {
        let of = |code| Attempt::of_status(code).as_str();
        let found = [200, 299, 302, 400, 422, 401, 403, 404, 410, 429, 409, 499, 500, 599, 999].map(of);
        let expected = [
            "2xx",
            "2xx",
            "3xx",
            "4xx_event",
            "4xx_event",
            "4xx_auth",
            "4xx_auth",
            "404",
            "410",
            "4xx_busy",
            "4xx_other",
            "4xx_other",
            "5xx",
            "5xx",
            "5xx",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn each_label_is_at_its_place() {
        fn check<L: Label>() {
            assert!(L::ALL.iter().enumerate().all(|(at, label)| label.place() == at));
        }
        check::<Looked>();
        check::<Attempt>();
        check::<Ended>();
        check::<StoreFault>();
        check::<Outcome>();
        check::<Evidence>();
    }
}
