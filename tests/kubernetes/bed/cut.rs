//! Stands between processes and the servers that they share, so that one process can be cut off while the others are not.
//! By Linux's /proc, which says whose a connection is.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// The process that is cut off: its connections stay open and silent, new ones too, as if packets were dropped.
type Victim = watch::Receiver<Option<u32>>;

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

async fn serve(listener: TcpListener, server: SocketAddr, victim: Victim) {
    let here = listener.local_addr().unwrap();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((inside, from)) = listener.accept() => { connections.spawn(connect(inside, (from, here), server, victim.clone())); }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(inside: TcpStream, ends: (SocketAddr, SocketAddr), server: SocketAddr, mut victim: Victim) {
    let Some(socket) = socket(ends) else { return };
    passes(&mut victim, socket).await;
    let Ok(outside) = TcpStream::connect(server).await else { return };
    let (read_inside, write_inside) = inside.into_split();
    let (read_outside, write_outside) = outside.into_split();
    tokio::select! {
        () = pass(read_inside, write_outside, victim.clone(), socket) => {}
        () = pass(read_outside, write_inside, victim, socket) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut victim: Victim, socket: u64) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        passes(&mut victim, socket).await;
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Waits until the socket's process is not cut off.
async fn passes(victim: &mut Victim, socket: u64) {
    // Dropped, it cuts nobody off.
    let _ = victim.wait_for(|victim| !victim.is_some_and(|process| has(process, socket))).await;
}

/// The socket of a connection's far end, by its inode.
fn socket((from, to): (SocketAddr, SocketAddr)) -> Option<u64> {
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
