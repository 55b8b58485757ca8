//! When the order service answered each webhook: noted around it, not by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
};

use super::order_service::{database::Millis, service::now};

/// The first 2xx for each webhook, by its id.
#[derive(Default)]
pub struct Answers {
    first: Mutex<BTreeMap<String, Millis>>,
}

impl Answers {
    pub fn first(&self) -> BTreeMap<String, Millis> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The router, with a look at what it answers.
    pub fn around(self: &Arc<Self>, router: Router) -> Router {
        let answers = Arc::clone(self);
        router.layer(from_fn(move |request: Request, next: Next| {
            let answers = Arc::clone(&answers);
            async move {
                let id = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
                let answer = next.run(request).await;
                if let Some(id) = id.filter(|_| answer.status().is_success()) {
                    answers.first.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert_with(now);
                }
                answer
            }
        }))
    }
}
