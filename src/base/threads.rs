//! Work shared by as many threads as the system allows.

/// Returns how many threads are useful, at most `most`.
pub fn worth(most: usize) -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, most)
}

/// Runs `work` on this thread and on others, and returns all results; `None` for one that panicked.
///
/// `work` takes its share from a common counter: if the system gives no more threads (a limit, a
/// full process table), fewer do all of it.
pub fn share<T: Send>(threads: usize, work: &(dyn Fn() -> T + Sync)) -> Vec<Option<T>> {
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 1..threads {
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(worker) => workers.push(worker),
                Err(_) => break,
            }
        }
        let mut done = vec![Some(work())];
        done.extend(workers.into_iter().map(|worker| worker.join().ok()));
        done
    })
}
