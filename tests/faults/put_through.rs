//! Faults as tests.

/// A test of each name, which puts the listener through that fault.
macro_rules! put_through {
    ($($name:ident: $fault:expr;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            $fault.await;
        })*
    };
}
