//! Connections between a process of ours and the nodes: each delivers in order, after a while, until it is cut.

use redis_expiry_operator::nodes::Sort;

use crate::{
    server::{KeyIndex, Node},
    truth::LifeId,
    world::{Event, World},
};

/// Which process of ours.
pub type Pid = usize;

/// One connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub pid: Pid,
    pub node: Node,
    pub number: u64,
}

#[derive(Clone, Copy, Debug)]
pub enum Question {
    Hello,
    Subscribe,
    Key { key: KeyIndex, asking: bool },
    Time,
}

#[derive(Clone, Debug)]
pub enum Frame {
    Hello,
    Subscribed,
    SlotLeft,
    Push {
        key: KeyIndex,
        sort: Sort,
        /// What it tells of, if that is still there.
        life: Option<LifeId>,
    },
    /// By client tracking.
    Flushed,
    Answer(Said),
    /// Microseconds of the node's clock.
    Time(i64),
}

/// What a node says of a key.
#[derive(Clone, Debug)]
pub enum Said {
    Alive(Option<i64>, LifeId),
    Gone,
    Moved,
    Ask(Node),
}

/// When the last thing on a connection arrives, there and here.
#[derive(Clone, Copy, Default)]
pub struct Flow {
    there: i64,
    here: i64,
}

impl World {
    pub fn open_line(&mut self, pid: Pid, node: Node) -> Line {
        self.next_line += 1;
        let line = Line { pid, node, number: self.next_line };
        self.lines.insert(line, Flow::default());
        line
    }
    pub fn is_open(&self, line: Line) -> bool {
        self.lines.contains_key(&line)
    }

    /// Sends questions one behind the other.
    pub fn send(&mut self, line: Line, question: Question) {
        let delay = self.random.delay();
        let Some(flow) = self.lines.get_mut(&line) else { return };
        flow.there = (self.now + delay).max(flow.there + 1);
        let at = flow.there;
        self.at(at, Event::ToServer(line, question));
    }
    /// Lets something happen on the node before the next question arrives.
    pub fn linger(&mut self, line: Line) {
        if self.random.percent(50) {
            let micros = self.random.between(0, 1_500);
            if let Some(flow) = self.lines.get_mut(&line) {
                flow.there += micros;
            }
        }
    }
    pub fn deliver(&mut self, line: Line, frame: Frame) {
        if let Some(heard) = &mut self.heard {
            return heard.push((line, frame));
        }
        let delay = self.random.delay();
        let Some(flow) = self.lines.get_mut(&line) else { return };
        flow.here = (self.now + delay).max(flow.here + 1);
        let at = flow.here;
        self.at(at, Event::ToUs(line, frame));
    }

    /// Cuts a connection: what is under way is lost. We hear of it a little later, if `heard`.
    pub fn cut(&mut self, line: Line, heard: bool) {
        if self.lines.remove(&line).is_none() {
            return;
        }
        self.servers[line.node].subscribers.retain(|other| *other != line);
        if heard {
            let delay = self.random.between(50, 5_000);
            self.after(delay, Event::Cut(line));
        }
    }
    pub fn lines_of(&self, node: Node) -> Vec<Line> {
        self.lines.keys().copied().filter(|line| line.node == node).collect()
    }
}
