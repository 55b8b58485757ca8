//! Stands between one operator and what it talks to, so that it can be cut off while others are not.

use std::net::SocketAddr;

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
};

use super::{
    ground::free_port,
    relay::{Gate, relay},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Passes,
    /// Connections stay open and silent, new ones too: as if packets were dropped. What was sent meanwhile arrives
    /// when it passes again.
    Hangs,
    /// Connections stay open and silent for ever, as those that a firewall has forgotten; new ones pass.
    Forgets,
    /// Connections are closed, new ones refused.
    Refuses,
}

/// Passes bytes on to `to`; ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    /// The port is open, or closed, as `line` says.
    done: watch::Receiver<Line>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub async fn start(to: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (line, told) = watch::channel(Line::Passes);
        let (did, done) = watch::channel(Line::Refuses);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(address, to, told, did));
        let mut proxy = Self { address, line, done, _tasks: tasks };
        proxy.set(Line::Passes).await;
        proxy
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when it is so.
    pub async fn set(&mut self, line: Line) {
        self.line.send_replace(line);
        self.done.wait_for(|done| *done == line).await.expect("the proxy runs");
    }
}

async fn serve(address: SocketAddr, to: SocketAddr, mut told: watch::Receiver<Line>, did: watch::Sender<Line>) {
    loop {
        let listener = bind(address);
        let mut connections = JoinSet::new();
        loop {
            let line = *told.borrow_and_update();
            if line == Line::Refuses {
                break;
            }
            did.send_replace(line);
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                Ok((inside, _)) = listener.accept() => {
                    let gate = Side { line: told.clone(), young: line == Line::Forgets };
                    connections.spawn(relay(inside, to, gate));
                }
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        // Aborted and awaited: their sockets are closed.
        connections.shutdown().await;
        did.send_replace(Line::Refuses);
        if told.wait_for(|line| *line != Line::Refuses).await.is_err() {
            return;
        }
    }
}

fn bind(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(1024).unwrap()
}

/// One connection's view of the line.
#[derive(Clone)]
struct Side {
    line: watch::Receiver<Line>,
    /// It was opened when those before it had been forgotten.
    young: bool,
}

impl Gate for Side {
    async fn opened(&mut self) -> bool {
        let young = self.young;
        self.line.wait_for(|line| *line == Line::Passes || (young && *line == Line::Forgets)).await.is_ok()
    }
}
