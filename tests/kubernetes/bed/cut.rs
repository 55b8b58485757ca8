//! Stands between processes and the servers that they share, so that one process can be cut off while the others are not.
//! By Linux's /proc, which says whose a connection is.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
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
                if let Some(socket) = socket(from, here) {
                    connections.spawn(relay(inside, server, Side { socket, victim: victim.clone() }));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection, by the socket of its far end. While its process is cut off it stays open and silent, and so do new ones, as if
/// packets were dropped.
#[derive(Clone)]
struct Side {
    socket: u64,
    victim: watch::Receiver<Option<u32>>,
}

impl Gate for Side {
    async fn opened(&mut self) -> bool {
        let socket = self.socket;
        self.victim.wait_for(|victim| !victim.is_some_and(|process| has(process, socket))).await.is_ok()
    }
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
