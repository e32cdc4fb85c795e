//! Reads of records that have to wait for the disk, so that the threads of the network need not.
//!
//! Each log directory has a line of its own, numbered as those of the flush queue
//! ([`crate::flusher`]); the last of several is for requests that look into more than one
//! directory. Of the threads that carry out reads a line gets no more than its share, so that a
//! disk that hangs does not keep them all.
//!
//! The lines have no threads: the glue has [`ColdReads::run_one`] called on threads that may wait,
//! once per wake; the simulator does it when its seed says so. Until somebody does, whoever reads
//! waits for the disk itself. A fetch queues one read at a time, so the queue is bounded by the
//! requests that are in flight.

use std::collections::VecDeque;
use std::sync::OnceLock;

use crate::sync::Mutex;

type Job = Box<dyn FnOnce() + Send>;

pub struct ColdReads {
    queue: Mutex<Queue>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

struct Queue {
    lines: Vec<Line>,
    /// Threads that one line may keep.
    share: usize,
    /// The line that is looked at first.
    next: usize,
    /// Calls that found nothing but lines which have their share: as many jobs lost their call.
    owed: usize,
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    running: usize,
}

impl Queue {
    fn take(&mut self) -> Option<(usize, Job)> {
        for _ in 0..self.lines.len() {
            let number = self.next;
            self.next = (number + 1) % self.lines.len();
            let line = &mut self.lines[number];
            if line.running < self.share
                && let Some(job) = line.jobs.pop_front()
            {
                line.running += 1;
                return Some((number, job));
            }
        }
        let is_empty = self.lines.iter().all(|line| line.jobs.is_empty());
        self.owed += usize::from(!is_empty);
        None
    }

    /// A read is over; true when its line has another one and nobody would come for that.
    fn end(&mut self, number: usize) -> bool {
        let line = &mut self.lines[number];
        line.running -= 1;
        let wanted = self.owed > 0 && !line.jobs.is_empty();
        self.owed -= usize::from(wanted);
        wanted
    }
}

/// A read that is carried out, until it is dropped: also when it ended by a defect.
struct Running<'a>(&'a ColdReads, usize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let wanted = self.0.queue.lock().end(self.1);
        if wanted {
            self.0.wake();
        }
    }
}

impl ColdReads {
    pub fn new(lines: usize) -> ColdReads {
        ColdReads {
            queue: Mutex::new(Queue {
                lines: (0..lines).map(|_| Line::default()).collect(),
                share: usize::MAX,
                next: 0,
                owed: 0,
            }),
            wake: OnceLock::new(),
        }
    }

    /// At most so many threads are kept by one line.
    pub fn bound(&self, share: usize) {
        self.queue.lock().share = share.max(1);
    }

    /// From now on somebody calls [`ColdReads::run_one`] after each `wake`. Only the first call
    /// counts.
    pub fn on_push(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Whether anybody carries out what is pushed.
    pub fn is_served(&self) -> bool {
        self.wake.get().is_some()
    }

    pub fn push(&self, line: usize, job: impl FnOnce() + Send + 'static) {
        self.queue.lock().lines[line].jobs.push_back(Box::new(job));
        self.wake();
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// Takes one read and carries it out; false when there was none that may begin.
    pub fn run_one(&self) -> bool {
        let taken = self.queue.lock().take();
        let Some((line, job)) = taken else {
            return false;
        };
        let _running = Running(self, line);
        job();
        true
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::sync::explored::explore;

    #[test]
    fn a_line_that_hangs_keeps_no_more_threads_than_its_share() {
        let reads = Arc::new(ColdReads::new(2));
        reads.bound(1);
        let (wakes, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let woken = Arc::clone(&wakes);
        reads.on_push(move || {
            woken.fetch_add(1, Ordering::SeqCst);
        });
        let other_threads = Arc::clone(&reads);
        let read = |line, number| {
            let done = Arc::clone(&done);
            reads.push(line, move || done.store(number, Ordering::SeqCst));
        };
        let told = Arc::clone(&done);
        reads.push(0, move || {
            assert!(other_threads.run_one(), "the other line goes on");
            assert_eq!(told.load(Ordering::SeqCst), 3);
            assert!(!other_threads.run_one(), "this one has its share");
        });
        read(0, 2);
        read(1, 3);
        assert!(reads.run_one());
        assert_eq!(done.load(Ordering::SeqCst), 3);
        assert_eq!(wakes.load(Ordering::SeqCst), 4, "one more for the second");
        assert!(reads.run_one() && !reads.run_one());
        assert_eq!(done.load(Ordering::SeqCst), 2);
        assert_eq!(wakes.load(Ordering::SeqCst), 4, "nothing is owed");
    }

    #[test]
    fn under_any_schedule_every_read_is_carried_out() {
        explore(|| {
            let reads = Arc::new(ColdReads::new(2));
            reads.bound(1);
            let threads = Arc::new(Mutex::new(Vec::new()));
            let (pool, served) = (Arc::clone(&threads), Arc::downgrade(&reads));
            reads.on_push(move || {
                let reads = served.upgrade().unwrap();
                let thread = shuttle::thread::spawn(move || reads.run_one());
                pool.lock().push(thread);
            });
            let done = Arc::new(Mutex::new(0));
            for line in [0, 0, 1, 0] {
                let done = Arc::clone(&done);
                reads.push(line, move || *done.lock() += 1);
            }
            loop {
                let thread = threads.lock().pop();
                let Some(thread) = thread else { break };
                thread.join().unwrap();
            }
            assert_eq!(*done.lock(), 4);
        });
    }
}
