//! Lines go to stderr through one bounded queue and one thread: a reader of stderr that stalls costs log lines,
//! never a call.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// Lines that may wait for stderr; what comes on top is dropped and counted.
const QUEUE_LINES: usize = 8_192;

/// Lines are put together into one write up to about this size. Bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// How long the end of the process waits for stderr.
const END_TIMEOUT: Duration = Duration::from_secs(1);

enum Job {
    Line(Vec<u8>),
    /// Answers once everything before it is written.
    Flush(SyncSender<()>),
}

/// The sending end; cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    queue: SyncSender<Job>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dropped: AtomicU64,
    /// The process is about to end: whoever logs waits for it to be written.
    ending: AtomicBool,
}

impl Writer {
    /// Starts the thread. It ends with the process, or when the last `Writer` is gone.
    pub(super) fn start(to: Box<dyn Write + Send>) -> io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE_LINES);
        thread::Builder::new().name("log".to_owned()).spawn(move || run(to, &jobs))?;
        Ok(Self { queue, shared: Arc::default() })
    }

    pub(super) fn line(&self) -> Line {
        Line { text: Vec::new(), writer: self.clone() }
    }

    pub(super) fn take_dropped(&self) -> u64 {
        self.shared.dropped.swap(0, Ordering::Relaxed)
    }

    /// From now on nothing is left in the queue by whoever logs.
    pub(super) fn end(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.flush(END_TIMEOUT);
    }

    /// Waits until everything sent before is written, at most `timeout`.
    pub(super) fn flush(&self, timeout: Duration) {
        let (answer, answered) = sync_channel(1);
        // A full queue means a stalled stderr: nothing is lost by not waiting for it.
        if self.queue.try_send(Job::Flush(answer)).is_ok() {
            // Answered or not, there is nobody to tell.
            let _ = answered.recv_timeout(timeout);
        }
    }
}

fn run(mut to: Box<dyn Write + Send>, jobs: &Receiver<Job>) {
    let mut text = Vec::new();
    while let Ok(first) = jobs.recv() {
        let mut next = Some(first);
        let mut flushed = Vec::new();
        while let Some(job) = next {
            match job {
                Job::Line(line) => text.extend_from_slice(&line),
                Job::Flush(answer) => flushed.push(answer),
            }
            if text.len() >= WRITE_BYTES || !flushed.is_empty() {
                break;
            }
            next = jobs.try_recv().ok();
        }
        // A closed stderr is no reason to stop: there is nowhere to say so.
        let _ = to.write_all(&text).and_then(|()| to.flush());
        text.clear();
        for answer in flushed {
            let _ = answer.try_send(());
        }
    }
}

/// One line while it is being formatted; queued when dropped.
pub(super) struct Line {
    text: Vec<u8>,
    writer: Writer,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return;
        }
        let Writer { queue, shared } = &self.writer;
        if queue.try_send(Job::Line(text)).is_err() {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else if shared.ending.load(Ordering::Relaxed) {
            self.writer.flush(END_TIMEOUT);
        }
    }
}
