//! The way out: every connection that a listener causes is opened through a [`Dialler`], to nodes, stores and webhooks.
//!
//! # Guarantees
//! - A name is resolved once for a connection, each of its addresses is judged, and what is dialled is one of those: an
//!   answer that changes between the two (DNS rebinding) has no "between".
//! - An address given as such is judged as a name's are.

use std::{
    error::Error,
    io, iter,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::model::FaultCategory;

mod clients;
mod egress;
mod stream;
mod tls;

pub use clients::{Connection, Login, is_broken, redis_category};
pub use egress::{Cidr, Egress, NotACidr, Refused, Sort};
pub use stream::{HungUp, NoHandshake, Stream};
pub use tls::{For, advice, advised, ours};

/// When the next address of a name is tried beside one that says nothing.
const NEXT_AFTER: Duration = Duration::from_millis(100);

/// What a resolver answers with: the addresses of a host (a link-local one of IPv6 has a scope), and ports of no meaning.
pub type Resolving = BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Resolves, judges, dials. Cheap to clone.
#[derive(Clone)]
pub struct Dialler {
    egress: Arc<Egress>,
    resolver: Arc<dyn Fn(String) -> Resolving + Send + Sync>,
}

impl Dialler {
    /// With the system's resolver.
    pub fn new(egress: Egress) -> Self {
        Self::with_resolver(egress, |host| Box::pin(system(host)))
    }

    /// What the resolver answers is judged, so it may be anybody's.
    pub fn with_resolver(egress: Egress, resolver: impl Fn(String) -> Resolving + Send + Sync + 'static) -> Self {
        Self { egress: Arc::new(egress), resolver: Arc::new(resolver) }
    }

    /// For whoever runs it for themselves.
    pub fn everything() -> Self {
        Self::new(Egress::everything())
    }

    /// # Errors
    /// What sort of address it is, and what would allow it.
    pub fn judge(&self, address: IpAddr) -> Result<(), Refused> {
        self.egress.judge(address)
    }

    /// The addresses of `host`, a name or an address, that may be dialled at `port`: at least one, in the resolver's order.
    ///
    /// # Errors
    /// The resolver's, or [`Refused`] within an `io::Error` (see [`category`]) where none of them may be.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = match host.parse() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => (self.resolver)(host.to_owned()).await.map_err(|error| unresolved(&error))?,
        };
        let mut permitted = Vec::new();
        let mut refused = None;
        for mut address in found {
            address.set_port(port);
            match self.judge(address.ip()) {
                Ok(()) => permitted.push(address),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            _ if !permitted.is_empty() => Ok(permitted),
            Some(refused) => Err(io::Error::new(io::ErrorKind::PermissionDenied, refused)),
            None => Err(io::Error::other(Unresolved("the name has no address".to_owned()))),
        }
    }

    /// Dials the addresses of `host` that may be, each a moment after the one before or when that has failed, until one answers.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let mut left = self.resolve(host, port).await?.into_iter();
        let mut failed = io::Error::other("nothing was dialled");
        let mut dialling = FuturesUnordered::new();
        loop {
            dialling.extend(left.next().map(TcpStream::connect));
            let patience = if left.len() == 0 { Duration::MAX } else { NEXT_AFTER };
            match timeout(patience, dialling.next()).await {
                Ok(Some(Ok(stream))) => return Ok(stream),
                Ok(Some(Err(error))) => failed = error,
                Ok(None) => return Err(failed),
                Err(_) => {}
            }
        }
    }
}

/// A URL's host as it is dialled: in a URL an address of IPv6 stands in brackets.
pub fn host_of_url(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn unresolved(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), Unresolved(error.to_string()))
}

/// Why a name leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unresolved(String);

async fn system(host: String) -> io::Result<Vec<SocketAddr>> {
    Ok(lookup_host((host.as_str(), 0)).await?.collect())
}

/// What sort of fault an error of a connection is, going by what it is made of.
pub fn category(error: &(dyn Error + 'static)) -> FaultCategory {
    if refused(error).is_some() {
        return FaultCategory::EgressRefused;
    }
    if made_of(error).any(|error| error.is::<rustls::Error>() || error.is::<stream::NoHandshake>()) {
        FaultCategory::Tls
    } else {
        FaultCategory::Unreachable
    }
}

/// The refusal that an error of a connection is, if it is one.
pub fn refused<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Refused> {
    made_of(error).find_map(|error| error.downcast_ref())
}

/// The error, and all that it is made of, one within the other.
pub fn made_of<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    iter::successors(Some(error), |error| within(*error))
}

/// What `error` is made of: an `io::Error` shows what it wraps, but does not name it as its source, and the Redis client
/// shares its own.
fn within<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    let io = match error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        Some(shared) => shared.downcast_ref::<io::Error>(),
        None => error.downcast_ref::<io::Error>(),
    };
    match io.and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests;
