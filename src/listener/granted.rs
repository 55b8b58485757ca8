//! Something that is shown to others while it is there.

use std::sync::Arc;

use tokio::sync::watch;

/// Shows it until this is dropped, however that comes: a pipeline that has failed has no store to reach into.
pub(super) struct Granted<T>(Arc<watch::Sender<Option<T>>>);

impl<T> Granted<T> {
    pub fn new(show: Arc<watch::Sender<Option<T>>>, what: T) -> Self {
        show.send_replace(Some(what));
        Self(show)
    }
}

impl<T> Drop for Granted<T> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_granted_ends_with_a_task_that_fails() {
        let show = Arc::new(watch::Sender::new(None));
        let (granting, mut shown) = (Arc::clone(&show), show.subscribe());
        let task = tokio::spawn(async move {
            let _granted = Granted::new(granting, 1);
            shown.wait_for(|shown| *shown == Some(1)).await.unwrap();
            panic!("as the test wants it");
        });
        task.await.unwrap_err();
        assert_eq!(*show.borrow(), None);
    }
}
