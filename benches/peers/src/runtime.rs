//! Where clients run that need tokio.

use tokio::runtime::Runtime;

/// Runs a program's work on tokio's default runtime: a worker for each processor.
///
/// As a task of it, not on the main thread: that one has no part in the runtime, and would be woken for every answer.
///
/// # Panics
///
/// When the work does.
pub fn on_tokio<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = Runtime::new().expect("threads can be started");
    let done = runtime.block_on(async { tokio::spawn(work).await });
    done.expect("what has failed has said so")
}
