//! Other people's clients, which resolve by themselves, ask a [`Dialler`] instead. The Redis client asks it of addresses as
//! well as of names; reqwest does not, so its user has to judge those (see `delivery/endpoint.rs`).

use std::net::SocketAddr;

use redis::{RedisFuture, io::AsyncDNSResolver};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Dialler;

impl AsyncDNSResolver for Dialler {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let permitted: Addrs = Box::new(Self::resolve(self, host, port).await?.into_iter());
            Ok(permitted)
        })
    }
}

impl Resolve for Dialler {
    fn resolve(&self, name: Name) -> Resolving {
        let dialler = self.clone();
        Box::pin(async move {
            // The client puts its port in the place of none.
            let permitted: Addrs = Box::new(Self::resolve(&dialler, name.as_str(), 0).await?.into_iter());
            Ok(permitted)
        })
    }
}
