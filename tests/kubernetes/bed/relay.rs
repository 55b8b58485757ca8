//! Passes a connection's bytes on, while somebody lets them pass.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

pub trait Gate: Clone + Send + 'static {
    /// Waits until bytes may pass; `false`: they never will again.
    fn opened(&mut self) -> impl Future<Output = bool> + Send;
}

pub async fn relay(inside: TcpStream, to: SocketAddr, mut gate: impl Gate) {
    if !gate.opened().await {
        return;
    }
    let Ok(outside) = TcpStream::connect(to).await else { return };
    let (read_inside, write_inside) = inside.into_split();
    let (read_outside, write_outside) = outside.into_split();
    // When one direction is over so is the other: nobody here half-closes.
    tokio::select! {
        () = pass(read_inside, write_outside, gate.clone()) => {}
        () = pass(read_outside, write_inside, gate) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: impl Gate) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        // The end of a connection does not pass either while the gate is shut.
        if !gate.opened().await || length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
