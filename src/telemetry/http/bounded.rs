//! A listener whose connections are few and short, and that always has room for who asks something.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// At once. Above that the oldest that has not been answered yet is cut, for most likely it asks nothing: an answer takes
/// milliseconds. A probe waits only where all are being answered.
pub const CONNECTIONS: usize = 64;
/// From accepting a connection to cutting it, whatever it is doing: a scrape gives up after this at the latest.
pub const LASTS: Duration = Duration::from_secs(10);

pub struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    /// Those that may be open, oldest first.
    open: VecDeque<Open>,
}

struct Open {
    cut: CancellationToken,
    answered: Arc<AtomicBool>,
}

impl Bounded {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(CONNECTIONS)), open: VecDeque::new() }
    }

    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        // Who has ended has let go of its mark.
        self.open.retain(|open| Arc::strong_count(&open.answered) > 1);
        if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
            return Some(place);
        }
        let idle = self.open.iter().position(|open| !open.answered.load(Ordering::Relaxed));
        if let Some(idle) = idle.and_then(|at| self.open.remove(at)) {
            idle.cut.cancel();
        }
        // It is closed by nobody, so this does not fail.
        Arc::clone(&self.room).acquire_owned().await.ok()
    }
}

impl Listener for Bounded {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let place = self.place().await;
        let open = Open { cut: CancellationToken::new(), answered: Arc::default() };
        let brief = Brief {
            stream,
            over: Box::pin(sleep(LASTS)),
            cut: Box::pin(open.cut.clone().cancelled_owned()),
            answered: Arc::clone(&open.answered),
            _place: place,
        };
        self.open.push_back(open);
        (brief, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when its time is over, or when its place is needed.
pub struct Brief {
    stream: TcpStream,
    over: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// An answer has begun.
    answered: Arc<AtomicBool>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Brief {
    /// The stream, while there is time.
    fn poll(&mut self, context: &mut Context) -> Result<Pin<&mut TcpStream>, io::Error> {
        let cut = self.cut.as_mut().poll(context).is_ready() && !self.answered.load(Ordering::Relaxed);
        if cut || self.over.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Brief {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        self.poll(context)?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Brief {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answered.store(true, Ordering::Relaxed);
        self.poll(context)?.poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.poll(context)?.poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.poll(context)?.poll_shutdown(context)
    }
}
