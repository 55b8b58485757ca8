//! Talks to the admin socket of a running process.

use std::{io, path::PathBuf, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Letters, PATIENCE, Request, Scope, Settled};

/// The other end of [`super::serve`].
pub struct Client {
    http: reqwest::Client,
    path: PathBuf,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("neither `run` nor `controller` answers at {} ({source}); start it, or name its directory by --state-dir", path.display())]
    Nobody { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Refused(String),
    #[error("talking to {}", path.display())]
    Broken { path: PathBuf, source: reqwest::Error },
}

impl Client {
    /// # Errors
    /// Nobody listens at `path`.
    pub async fn connect(path: PathBuf) -> Result<Self, ClientError> {
        let connecting = tokio::time::timeout(Duration::from_secs(2), tokio::net::UnixStream::connect(&path)).await;
        if let Err(source) = connecting.unwrap_or_else(|elapsed| Err(elapsed.into())) {
            return Err(ClientError::Nobody { path, source });
        }
        let http = reqwest::Client::builder().unix_socket(path.clone()).timeout(PATIENCE * 2).build();
        match http {
            Ok(http) => Ok(Self { http, path }),
            Err(source) => Err(ClientError::Broken { path, source }),
        }
    }

    pub async fn list(&self, scope: &Scope) -> Result<Letters, ClientError> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if let Some(listener) = &scope.listener {
            query.append_pair("listener", listener.as_str());
        }
        if let Some(limit) = scope.limit {
            query.append_pair("limit", &limit.to_string());
        }
        self.send(self.http.get(format!("http://admin/dead-letters?{}", query.finish()))).await
    }
    pub async fn replay(&self, request: &Request) -> Result<Settled, ClientError> {
        self.post("dead-letters/replay", request).await
    }
    pub async fn purge(&self, request: &Request) -> Result<Settled, ClientError> {
        self.post("dead-letters/purge", request).await
    }
    /// Every listener's snapshot.
    pub async fn snapshot(&self) -> Result<Value, ClientError> {
        self.send(self.http.get("http://admin/snapshot")).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Refused(error.to_string()))?;
        let request = self.http.post(format!("http://admin/{path}")).header("content-type", "application/json");
        self.send(request.body(body)).await
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let broken = |source| ClientError::Broken { path: self.path.clone(), source };
        let response = request.send().await.map_err(broken)?;
        let status = response.status();
        let body = response.bytes().await.map_err(broken)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| ClientError::Refused(error.to_string()));
        }
        let said = serde_json::from_slice::<Value>(&body).ok();
        let said = said.as_ref().and_then(|said| said.get("error")).and_then(Value::as_str);
        Err(ClientError::Refused(said.map_or_else(|| format!("answered {status}"), ToOwned::to_owned)))
    }
}
