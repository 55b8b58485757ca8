//! What the database keeps, and what its answers mean.

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// Milliseconds since 1970.
pub type Millis = i64;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub sku: String,
    pub quantity: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Unpaid,
    Paid,
    Cancelled,
}

/// Whether Redis holds a key that will expire for the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Armed {
    No,
    /// The master has it; no replica has said so.
    Unconfirmed,
    Confirmed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub id: String,
    pub status: Status,
    pub created_at: Millis,
    /// Until when it can be paid.
    pub deadline: Millis,
    pub armed: Armed,
    /// When its key was set last.
    pub armed_at: Option<Millis>,
    /// How many times its key was sent to Redis, those included of which nobody knows whether they arrived. More than
    /// one may make two lives of a key, each told of.
    pub arms: u32,
    /// When it was paid or cancelled.
    pub settled_at: Option<Millis>,
    pub lines: Vec<Line>,
}

/// Which orders to list, and in which order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listing {
    /// All, the newest first.
    #[default]
    Newest,
    /// The unpaid ones, the soonest due first.
    Due,
    /// The paid and cancelled ones, the latest first.
    Settled,
    /// All, by their ids: page by page with `after`.
    Id,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub sku: String,
    pub name: String,
    pub available: i64,
    pub sold: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub unpaid: i64,
    pub paid: i64,
    pub cancelled: i64,
}

/// What came of `place`. Not stored means: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    Stored,
    OutOfStock(String),
    UnknownProduct(String),
}

/// What came of `pay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paid {
    Now,
    /// Too late, or done before: the order is as it was.
    No(Status),
    UnknownOrder,
}

/// What came of a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimedOut {
    /// Now, by this event.
    Cancelled,
    /// It was paid, or cancelled by an earlier event: nothing to do.
    Settled,
    /// The order may be paid for a while yet: its key was lost or shortened. It is armed again.
    Early,
    /// Not an order of ours.
    Unknown,
}

/// A webhook that came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEvent {
    pub id: String,
    pub order_id: String,
    pub outcome: TimedOut,
    /// Whether the key was heard to expire (`Witnessed`) or that was concluded (`Inferred`), if the webhook said so.
    pub evidence: Option<String>,
    /// The first delivery.
    pub received_at: Millis,
    pub deliveries: u32,
}

impl Status {
    /// The statements themselves write these words.
    pub fn parse(word: &str) -> anyhow::Result<Self> {
        Ok(match word {
            "unpaid" => Self::Unpaid,
            "paid" => Self::Paid,
            "cancelled" => Self::Cancelled,
            _ => bail!("{word:?} in the database"),
        })
    }
}

/// The words that stand in the tables.
macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            pub fn parse(word: &str) -> anyhow::Result<Self> {
                Ok(match word { $($word => Self::$variant,)+ _ => bail!("{word:?} in the database") })
            }
        }
    };
}
words!(Armed { No = "no", Unconfirmed = "unconfirmed", Confirmed = "confirmed" });
words!(TimedOut { Cancelled = "cancelled", Settled = "settled", Early = "early", Unknown = "unknown" });
