//! Makes what is kept durable while the command runs, beside it: a wait for the disk in the way of a
//! call would be a wait of the command.
//!
//! This is for power failures only. Before an operation is recorded everything is made durable
//! again, by [`super::record`], which does report what fails.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::disk::fsutil::area::Area;

/// What is made durable together: copies first, then the journals that say whose they are.
#[derive(Default)]
pub(super) struct Batch {
    /// By directory of a staging area, the numbers of files.
    pub(super) copies: Vec<(PathBuf, Vec<u32>)>,
    pub(super) journals: Vec<File>,
}

/// The thread that waits for the disk, once there was something to wait for.
#[derive(Default)]
pub(super) struct Durable {
    to_thread: Option<Sender<Batch>>,
    busy: Arc<AtomicBool>,
}

impl Durable {
    /// Returns true if the disk is still being waited for.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Starts to make a batch durable. Without a thread it is done before this returns.
    pub(super) fn start(&mut self, batch: Batch) {
        self.busy.store(true, Ordering::Release);
        if self.to_thread.is_none() {
            self.to_thread = thread(Arc::clone(&self.busy));
        }
        let left = match &self.to_thread {
            Some(to_thread) => to_thread.send(batch).map_err(|failed| failed.0),
            None => Err(batch),
        };
        if let Err(batch) = left {
            batch.sync();
            self.busy.store(false, Ordering::Release);
        }
    }
}

/// Starts the thread. It ends after its last batch once nobody can send another one.
fn thread(busy: Arc<AtomicBool>) -> Option<Sender<Batch>> {
    let (to_thread, batches) = channel::<Batch>();
    let work = move || {
        for batch in batches {
            batch.sync();
            busy.store(false, Ordering::Release);
        }
    };
    let builder = std::thread::Builder::new().name("durable".to_owned());
    builder.spawn(work).ok().map(|_| to_thread)
}

impl Batch {
    fn sync(self) {
        for (dir, numbers) in self.copies {
            let area = Area::left_at(&dir);
            for number in numbers {
                let _ = area.sync_file(number);
            }
        }
        for journal in self.journals {
            let _ = journal.sync_data();
        }
    }
}
