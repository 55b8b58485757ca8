//! How commands speak: text for people, a JSON object a line for programs.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::model::{ListenerId, Millis};

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    #[default]
    Text,
    Json,
}

/// What happened. The names are an interface: programs wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    Listening,
    Ready,
    NotReady,
    Node,
    Gap,
    Store,
    Hold,
    Delivery,
    DeadLetters,
    Resync,
    Reloaded,
    Rejected,
    Stopping,
    Stopped,
}

impl Happening {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Ready => "ready",
            Self::NotReady => "notReady",
            Self::Node => "node",
            Self::Gap => "gap",
            Self::Store => "store",
            Self::Hold => "hold",
            Self::Delivery => "delivery",
            Self::DeadLetters => "deadLetters",
            Self::Resync => "resync",
            Self::Reloaded => "reloaded",
            Self::Rejected => "rejected",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// One line of `run`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub happening: Happening,
    /// `None`: it is about the process.
    pub listener: Option<ListenerId>,
    /// For people.
    pub message: String,
    /// For programs.
    pub fields: Map<String, Value>,
}

impl Line {
    pub fn new(happening: Happening, listener: Option<&ListenerId>, message: impl Into<String>) -> Self {
        Self { happening, listener: listener.cloned(), message: message.into(), fields: Map::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    pub fn render(&self, output: Output, now: Millis) -> String {
        let (time, event) = (rfc3339(now), self.happening.as_str());
        let listener = self.listener.as_ref().map(ListenerId::as_str);
        match output {
            Output::Text => match listener {
                Some(listener) => format!("{time}  {event:<11}  {listener}: {}", self.message),
                None => format!("{time}  {event:<11}  {}", self.message),
            },
            Output::Json => {
                let mut object = json!({"time": time, "event": event, "message": self.message});
                if let Some(object) = object.as_object_mut() {
                    if let Some(listener) = listener {
                        object.insert("listener".to_owned(), listener.into());
                    }
                    object.extend(self.fields.clone());
                }
                object.to_string()
            }
        }
    }
}

/// `2026-11-22T06:13:40.123Z`.
pub fn rfc3339(at: Millis) -> String {
    Timestamp::from_millisecond(at.0)
        .map_or_else(|_| at.0.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Writes to stdout. A reader that went away is no reason to stop listening.
pub fn say(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}
