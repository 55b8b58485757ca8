//! A connection, with TLS or without.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::sockopt;
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::Dialler;
use crate::{model::Address, tls::Tls};

/// An open connection. What was written may wait here until it is flushed.
pub enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

/// It took the connection, and then said nothing to our hello: a Redis that speaks no TLS waits for the end of a line.
#[derive(Debug)]
pub struct NoHandshake(pub Duration);

impl fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no handshake of TLS within {:?}", self.0)
    }
}
impl Error for NoHandshake {}

/// The connection was ended before anything was said on it: one that wants TLS does that, and with TLS one that wants a certificate,
/// whose word for it may be lost behind our own.
#[derive(Debug)]
pub struct HungUp {
    pub why: String,
    /// There was TLS.
    pub secured: bool,
}

impl fmt::Display for HungUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
impl Error for HungUp {}

impl Dialler {
    /// Dials `address`, as [`Dialler::connect`] does, and shakes hands where there is TLS: both within `within`.
    pub async fn open(&self, address: &Address, tls: Option<&Tls>, within: Duration) -> io::Result<Stream> {
        let secured = tls.map(|tls| Ok((tls, tls.config()?))).transpose();
        self.open_by(address, secured.map_err(io::Error::other::<rustls::Error>)?, within).await
    }

    /// The same by a configuration of one's own.
    pub async fn open_by(
        &self,
        address: &Address,
        secured: Option<(&Tls, Arc<ClientConfig>)>,
        within: Duration,
    ) -> io::Result<Stream> {
        let end = Instant::now() + within;
        let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {within:?}"));
        let connecting = timeout_at(end, self.connect(&address.host, address.port));
        let stream = connecting.await.unwrap_or_else(|_| Err(late()))?;
        let Some((tls, config)) = secured else { return Ok(Stream::Plain(stream)) };
        let no_name =
            || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no name of a server", address.host));
        let name = tls.server_name(&address.host).ok_or_else(no_name)?;
        let shaking = timeout_at(end, TlsConnector::from(config).connect(name, stream));
        let secured = shaking.await.unwrap_or_else(|_| Err(io::Error::other(NoHandshake(within))))?;
        Ok(Stream::Secured(Box::new(secured)))
    }
}

impl Stream {
    /// What the two have agreed on to speak (ALPN).
    pub fn speaks(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Secured(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Each write is sent at once.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.tcp().set_nodelay(true)
    }

    /// While nothing is said the peer is asked so often whether it is there; the connection ends once it has not answered for twice
    /// as long.
    pub fn keep_alive(&self, every: Duration) -> io::Result<()> {
        let stream = self.tcp();
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, every)?;
        sockopt::set_tcp_keepintvl(stream, every)?;
        // Also of what was sent and is not acknowledged. Linux alone has it.
        #[cfg(target_os = "linux")]
        sockopt::set_tcp_user_timeout(stream, u32::try_from(every.as_millis() * 2).unwrap_or(u32::MAX))?;
        Ok(())
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Secured(stream) => stream.get_ref().0,
        }
    }
}

/// The same of whichever it is.
macro_rules! of_either {
    ($stream:expr, $inner:ident => $done:expr) => {
        match $stream.get_mut() {
            Stream::Plain(stream) => {
                let $inner = Pin::new(stream);
                $done
            }
            Stream::Secured(stream) => {
                let $inner = Pin::new(stream.as_mut());
                $done
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        of_either!(self, inner => inner.poll_read(context, into))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        of_either!(self, inner => inner.poll_write(context, bytes))
    }
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self, inner => inner.poll_flush(context))
    }
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self, inner => inner.poll_shutdown(context))
    }
}
