//! A listener whose connections are few and short, and that always has room for who asks something.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// At once. Above that the oldest that has not been answered yet is cut, for most likely it asks nothing: an answer takes
/// milliseconds. Where all are being answered, the oldest that has stopped reading is.
pub const CONNECTIONS: usize = 64;
/// Who has taken nothing of its answer for so long has stopped reading.
pub const STALLED: Duration = Duration::from_secs(1);
/// From accepting a connection to cutting it, whatever it is doing: a scrape gives up after this at the latest.
pub const LASTS: Duration = Duration::from_secs(10);

/// For who is cut to notice it.
const SHORT: Duration = Duration::from_millis(100);

pub struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    /// Those that may be open, oldest first.
    open: VecDeque<Open>,
}

struct Open {
    cut: CancellationToken,
    answer: Arc<Answer>,
}

/// How far an answer is.
struct Answer {
    accepted: Instant,
    /// When something of it was taken last, in milliseconds after that and one more; 0: it has not begun.
    taken: AtomicU64,
}

impl Answer {
    fn new() -> Arc<Self> {
        Arc::new(Self { accepted: Instant::now(), taken: AtomicU64::new(0) })
    }

    fn is_taken(&self) {
        let after = u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.taken.store(after.saturating_add(1), Ordering::Relaxed);
    }

    /// How long to bear with it; `None` before it has begun.
    fn patience(&self) -> Option<Duration> {
        let after = self.taken.load(Ordering::Relaxed).checked_sub(1)?;
        let last = self.accepted + Duration::from_millis(after);
        Some(STALLED.saturating_sub(last.elapsed()))
    }

    /// Whether its connection may be cut for another.
    fn is_idle(&self) -> bool {
        self.patience().is_none_or(|left| left.is_zero())
    }
}

impl Bounded {
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(CONNECTIONS)), open: VecDeque::new() }
    }

    async fn place(&mut self) -> Option<OwnedSemaphorePermit> {
        loop {
            // Who has ended has let go of its mark.
            self.open.retain(|open| Arc::strong_count(&open.answer) > 1);
            if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
                return Some(place);
            }
            let unasked = self.open.iter().position(|open| open.answer.patience().is_none());
            let idle = unasked.or_else(|| self.open.iter().position(|open| open.answer.is_idle()));
            if let Some(idle) = idle.and_then(|at| self.open.remove(at)) {
                idle.cut.cancel();
            }
            // One that begins to be answered just then is not cut: others are looked for.
            let wait = self.open.iter().filter_map(|open| open.answer.patience()).min().unwrap_or(STALLED);
            // It is closed by nobody, so this does not fail.
            if let Ok(place) = timeout(wait.max(SHORT), Arc::clone(&self.room).acquire_owned()).await {
                return place.ok();
            }
        }
    }
}

impl Listener for Bounded {
    type Io = Brief;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Brief, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let place = self.place().await;
        let open = Open { cut: CancellationToken::new(), answer: Answer::new() };
        let brief = Brief {
            stream,
            over: Box::pin(sleep(LASTS)),
            cut: Box::pin(open.cut.clone().cancelled_owned()),
            answer: Arc::clone(&open.answer),
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
    answer: Arc<Answer>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Brief {
    /// The stream, while there is time.
    fn poll(&mut self, context: &mut Context) -> Result<Pin<&mut TcpStream>, io::Error> {
        let cut = self.cut.as_mut().poll(context).is_ready() && self.answer.is_idle();
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
        if self.answer.patience().is_none() {
            self.answer.is_taken();
        }
        let written = self.poll(context)?.poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.answer.is_taken();
        }
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.poll(context)?.poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.poll(context)?.poll_shutdown(context)
    }
}
