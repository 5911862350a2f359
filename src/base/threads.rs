//! Work shared by several threads, by as many as the system lets there be.

/// Returns how many threads are worth having, at most `most`.
pub fn worth(most: usize) -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .clamp(1, most)
}

/// Runs `work` on this thread and on others beside it, and returns what each returned; `None` for one that panicked.
///
/// `work` takes its share from a common counter: where no further thread can be had (a limit, a full table of processes), fewer do all of it.
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
