//! Something to look at meanwhile: lines for what happened, and one line for how it stands, redrawn on a terminal.

use std::{
    io::{IsTerminal as _, Write as _, stdout},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

pub struct Progress {
    started: Instant,
    redraw: bool,
    last: Mutex<Option<(Instant, String)>>,
}

impl Progress {
    pub fn new(plain: bool) -> Self {
        Self { started: Instant::now(), redraw: !plain && stdout().is_terminal(), last: Mutex::default() }
    }

    /// Something happened.
    pub fn say(&self, what: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.started.elapsed().as_secs_f32();
        match &mut *last {
            Some((_, status)) if self.redraw => print(&format!("\r\x1b[K{at:5.1} s  {what}\n{status}")),
            _ => print(&format!("{at:5.1} s  {what}\n")),
        }
    }

    /// How it stands.
    pub fn stands(&self, how: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if self.redraw {
            print(&format!("\r\x1b[K         {how}"));
            *last = Some((Instant::now(), format!("         {how}")));
        } else if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= Duration::from_secs(2)) {
            print(&format!("         {how}\n"));
            *last = Some((Instant::now(), String::new()));
        }
    }

    /// Nothing more is redrawn; what follows is printed below.
    pub fn end(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.take().is_some() && self.redraw {
            print("\n");
        }
    }
}

/// A terminal that was closed is no reason to fail: what was started must still be stopped.
fn print(text: &str) {
    let mut out = stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
