//! Stands between processes and the servers that they share, so that one process can be cut off while the others are not.
//! By Linux's /proc, which says whose a connection is.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use super::relay::{Gate, relay};

/// Ends when it is dropped.
pub struct Cut {
    victim: watch::Sender<Option<u32>>,
    /// Each server's address, and where to dial in its place.
    pub addresses: Vec<(SocketAddr, SocketAddr)>,
    _tasks: JoinSet<()>,
}

impl Cut {
    pub async fn before(servers: Vec<SocketAddr>) -> Self {
        let victim = watch::Sender::new(None);
        let (mut addresses, mut tasks) = (Vec::new(), JoinSet::new());
        for server in servers {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            addresses.push((server, listener.local_addr().unwrap()));
            tasks.spawn(serve(listener, server, victim.subscribe()));
        }
        Self { victim, addresses, _tasks: tasks }
    }

    pub fn off(&self, process: u32) {
        self.victim.send_replace(Some(process));
    }

    /// What was sent meanwhile arrives.
    pub fn heal(&self) {
        self.victim.send_replace(None);
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, victim: watch::Receiver<Option<u32>>) {
    let here = listener.local_addr().unwrap();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((inside, from)) = listener.accept() => {
                let side = Side { ends: (from, here), victim: victim.clone(), known: None };
                connections.spawn(relay(inside, server, side));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection, by its far end and ours. While its process is cut off it stays open and silent, and so do new ones, as if packets
/// were dropped.
#[derive(Clone)]
struct Side {
    ends: (SocketAddr, SocketAddr),
    victim: watch::Receiver<Option<u32>>,
    /// A process, and whether the far end is its.
    known: Option<(u32, bool)>,
}

impl Gate for Side {
    async fn opened(&mut self) -> bool {
        loop {
            let Some(process) = *self.victim.borrow_and_update() else { return true };
            let is_its = match self.known {
                Some((known, is_its)) if known == process => is_its,
                _ => {
                    let ends = self.ends;
                    tokio::task::spawn_blocking(move || is_of(process, ends)).await.unwrap()
                }
            };
            self.known = Some((process, is_its));
            if !is_its {
                return true;
            }
            if self.victim.changed().await.is_err() {
                return false;
            }
        }
    }
}

/// One at a time, and never by what else the test does: on a busy machine the table of all sockets is long, and whoever is cut off dials
/// again and again.
fn is_of(process: u32, (from, to): (SocketAddr, SocketAddr)) -> bool {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    socket(from, to).is_some_and(|socket| has(process, socket))
}

/// The socket of a connection's far end, by its inode.
fn socket(from: SocketAddr, to: SocketAddr) -> Option<u64> {
    let hexadecimal = |address: SocketAddr| format!("0100007F:{:04X}", address.port());
    let (from, to) = (hexadecimal(from), hexadecimal(to));
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (*fields.get(1)? == from && *fields.get(2)? == to).then(|| fields.get(9)?.parse().ok())?
    })
}

fn has(process: u32, socket: u64) -> bool {
    let name = format!("socket:[{socket}]");
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == name.as_str()))
}
