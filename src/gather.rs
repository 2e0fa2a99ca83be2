//! What is asked for at once is done together: a queue whose jobs are worked off in batches.
//!
//! Nobody waits for a batch to fill. A job that finds a turn free begins at once, alone; what comes
//! while all turns are taken gathers, and the next turn takes it together. So a batch is as large as
//! the load is high, and costs a transaction whatever its size.
//!
//! The lanes are served in turn, one job each, so that a caller that asks for hundreds at once puts
//! off nobody else. A lane may fill half of the queue at most; what does not fit is refused at once,
//! before it has waited in vain.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// How large a queue and its batches may get.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Jobs in one batch.
    pub in_a_batch: usize,
    /// Batches at once.
    pub at_once: usize,
    /// Jobs that may wait.
    pub waiting: usize,
}

/// Why a job was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// Too many wait; nothing was begun.
    #[error("too many wait already")]
    Full,
    /// The batch came to no end: it is not known what it did.
    #[error("the work was broken off")]
    BrokenOff,
}

/// What does a batch: it answers each job, in their order.
type Work<J, A> = dyn Fn(Vec<J>) -> Pin<Box<dyn Future<Output = Vec<A>> + Send>> + Send + Sync;

/// A queue with lanes.
pub struct Gather<L, J, A> {
    shared: Arc<Shared<L, J, A>>,
}

struct Shared<L, J, A> {
    bounds: Bounds,
    queue: Mutex<Queue<L, J, A>>,
    work: Box<Work<J, A>>,
}

struct Queue<L, J, A> {
    lanes: HashMap<L, VecDeque<Waiting<J, A>>>,
    /// The lanes that have jobs, the next one to be served first.
    order: VecDeque<L>,
    waiting: usize,
    turns_taken: usize,
}

struct Waiting<J, A> {
    job: J,
    answer: oneshot::Sender<A>,
}

impl<L, J, A> Gather<L, J, A>
where
    L: Eq + Hash + Clone + Send + 'static,
    J: Send + 'static,
    A: Send + 'static,
{
    /// A queue whose batches are done by `work`, as tasks of their own: a caller that gives up
    /// leaves no batch half done.
    pub fn new<F>(bounds: Bounds, work: impl Fn(Vec<J>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Vec<A>> + Send + 'static,
    {
        let work =
            move |jobs| -> Pin<Box<dyn Future<Output = Vec<A>> + Send>> { Box::pin(work(jobs)) };
        let queue =
            Queue { lanes: HashMap::new(), order: VecDeque::new(), waiting: 0, turns_taken: 0 };
        Self { shared: Arc::new(Shared { bounds, queue: Mutex::new(queue), work: Box::new(work) }) }
    }

    /// Has a job done, together with others that are asked for at the same time.
    ///
    /// # Errors
    /// If too many wait, or the batch was broken off.
    pub async fn ask(&self, lane: L, job: J) -> Result<A, NotDone> {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queue = self.shared.lock();
            if !queue.has_room_for(&lane, self.shared.bounds.waiting) {
                return Err(NotDone::Full);
            }
            queue.push(lane, Waiting { job, answer });
            let begins = queue.turns_taken < self.shared.bounds.at_once;
            queue.turns_taken += usize::from(begins);
            begins
        };
        if begins {
            self.begin();
        }
        answered.await.map_err(|_| NotDone::BrokenOff)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "it ends when the queue is empty, and whoever asked waits for it: a stop that waits for the requests waits for it, too"
    )]
    fn begin(&self) {
        tokio::spawn(work_off(Turn(Arc::clone(&self.shared))));
    }

    /// How many jobs wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().waiting
    }
}

impl<L, J, A> Shared<L, J, A> {
    fn lock(&self) -> MutexGuard<'_, Queue<L, J, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Eq + Hash + Clone, J, A> Queue<L, J, A> {
    fn has_room_for(&self, lane: &L, most: usize) -> bool {
        let in_lane = self.lanes.get(lane).map_or(0, VecDeque::len);
        self.waiting < most && in_lane < most.div_ceil(2)
    }

    fn push(&mut self, lane: L, waiting: Waiting<J, A>) {
        let jobs = self.lanes.entry(lane.clone()).or_default();
        if jobs.is_empty() {
            self.order.push_back(lane);
        }
        jobs.push_back(waiting);
        self.waiting += 1;
    }

    /// The next jobs, one of each lane in turn. Those whose callers gave up are left out.
    fn take(&mut self, most: usize) -> Vec<Waiting<J, A>> {
        let mut batch = Vec::new();
        while batch.len() < most {
            let Some(lane) = self.order.pop_front() else { break };
            let Some(jobs) = self.lanes.get_mut(&lane) else { continue };
            let next = jobs.pop_front();
            if jobs.is_empty() {
                self.lanes.remove(&lane);
            } else {
                self.order.push_back(lane);
            }
            self.waiting = self.waiting.saturating_sub(usize::from(next.is_some()));
            batch.extend(next.filter(|next| !next.answer.is_closed()));
        }
        batch
    }
}

/// The right to work batches off. If the work panics it is given back, and those who wait are told:
/// there may be nobody else to serve them.
struct Turn<L, J, A>(Arc<Shared<L, J, A>>);

impl<L, J, A> Drop for Turn<L, J, A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut queue = self.0.lock();
            queue.turns_taken -= 1;
            queue.lanes.clear();
            queue.order.clear();
            queue.waiting = 0;
        }
    }
}

async fn work_off<L: Eq + Hash + Clone, J, A>(turn: Turn<L, J, A>) {
    loop {
        let batch = {
            let mut queue = turn.0.lock();
            let batch = queue.take(turn.0.bounds.in_a_batch);
            // Under the same lock, so that a job that comes now finds the turn free.
            queue.turns_taken -= usize::from(batch.is_empty());
            batch
        };
        if batch.is_empty() {
            return;
        }
        let (jobs, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.job, waiting.answer)).unzip();
        let done = (turn.0.work)(jobs).await;
        for (answer, done) in answers.into_iter().zip(done) {
            // A caller that gave up does not hear it.
            let _ = answer.send(done);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "callers that come at the same time")]
mod tests {
    use std::time::Duration;

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    type Doubling = Gather<&'static str, u32, u32>;

    const BOUNDS: Bounds = Bounds { in_a_batch: 4, at_once: 1, waiting: 8 };

    /// A queue whose batches wait for a permit each, and are told of.
    fn held(bounds: Bounds) -> (Arc<Doubling>, Arc<Semaphore>, mpsc::UnboundedReceiver<Vec<u32>>) {
        let (tell, told) = mpsc::unbounded_channel();
        let go = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&go);
        let gather = Gather::new(bounds, move |jobs: Vec<u32>| {
            let (tell, held) = (tell.clone(), Arc::clone(&held));
            async move {
                tell.send(jobs.clone()).unwrap();
                held.acquire().await.unwrap().forget();
                assert!(!jobs.contains(&666), "a batch that panics");
                jobs.into_iter().map(|job| job * 2).collect()
            }
        });
        (Arc::new(gather), go, told)
    }

    fn asking(
        gather: &Arc<Doubling>,
        lane: &'static str,
        job: u32,
    ) -> tokio::task::JoinHandle<Result<u32, NotDone>> {
        let gather = Arc::clone(gather);
        tokio::spawn(async move { gather.ask(lane, job).await })
    }

    async fn until_waiting(gather: &Doubling, count: usize) {
        tokio::time::timeout(Duration::from_secs(5), async {
            while gather.waiting() != count {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    #[tokio::test]
    async fn what_gathers_is_done_together_and_the_lanes_take_turns() {
        let (gather, go, mut told) = held(BOUNDS);
        let first = asking(&gather, "a", 1);
        assert_eq!(told.recv().await.unwrap(), [1], "nobody waits for a batch to fill");
        let mut others = Vec::new();
        for (count, job) in [2, 3, 4].into_iter().enumerate() {
            others.push(asking(&gather, "a", job));
            until_waiting(&gather, count + 1).await;
        }
        others.push(asking(&gather, "b", 5));
        until_waiting(&gather, 4).await;
        let gone = asking(&gather, "c", 6);
        until_waiting(&gather, 5).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        go.add_permits(10);
        assert_eq!(told.recv().await.unwrap(), [2, 5, 3, 4], "whoever gave up is left out");
        assert_eq!(first.await.unwrap(), Ok(2));
        for (other, expected) in others.into_iter().zip([4, 6, 8, 10]) {
            assert_eq!(other.await.unwrap(), Ok(expected));
        }
        assert_eq!(gather.ask("a", 7).await, Ok(14), "an idle queue begins again");
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_no_lane_fills_it_alone() {
        let (gather, go, mut told) = held(BOUNDS);
        let mut under_way = vec![asking(&gather, "a", 0)];
        told.recv().await.unwrap();
        for job in 1..=4 {
            under_way.push(asking(&gather, "a", job));
        }
        until_waiting(&gather, 4).await;
        assert_eq!(gather.ask("a", 5).await, Err(NotDone::Full));
        for (count, lane) in ["b", "c", "d", "e"].into_iter().enumerate() {
            under_way.push(asking(&gather, lane, 6));
            until_waiting(&gather, 5 + count).await;
        }
        assert_eq!(gather.ask("f", 7).await, Err(NotDone::Full));
        go.add_permits(100);
        for one in under_way {
            one.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_batch_that_panics_is_broken_off_and_its_turn_is_free_again() {
        let (gather, go, _told) = held(BOUNDS);
        go.add_permits(100);
        assert_eq!(gather.ask("a", 666).await, Err(NotDone::BrokenOff));
        assert_eq!(gather.ask("a", 1).await, Ok(2));
    }
}
