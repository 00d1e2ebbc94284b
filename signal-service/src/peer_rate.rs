//! The rate limits of peers. A limit belongs to the grant of a peer and not to a connection, so a
//! new connection does not renew it.
//!
//! Owns: [`PeerRate`], the token bucket of one grant in one room, and [`PeerRates`], the buckets of
//! this node. Must not: answer a client. Next: `connection::task` takes a token for each frame;
//! `admission` charges each connection.
//!
//! A node keeps a bucket until it would be full again, so nothing is gained by waiting elsewhere.
//! Buckets do not move between nodes. A peer whose last connection was on another node starts with
//! an empty bucket. Its client has done nothing wrong, so for a while the node reads the frames of
//! this peer at its rate, instead of refusing them.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use signalbox_protocol::id::PeerId;
use tokio::time::Instant;

use crate::connection_subject::ConnectionSubject;

/// The number of buckets at which unused full ones are deleted for the first time.
const FIRST_SWEEP: usize = 1_024;

/// The share of a burst that connections may take in advance: clients with a bad network reconnect
/// several times in a row.
const ADVANCE_SHARE: f64 = 0.25;

/// The cost of a takeover or of a repeated join, in resumes: the others get three entries.
const TAKEOVER_FACTOR: u32 = 3;

/// The size of a burst, and the frames per second after it.
#[derive(Debug, Clone, Copy)]
pub struct FrameRate {
    burst: f64,
    per_second: f64,
}

impl From<(u32, u32)> for FrameRate {
    fn from((burst, per_second): (u32, u32)) -> Self {
        Self { burst: f64::from(burst), per_second: f64::from(per_second) }
    }
}

/// The decision about one frame. A client above the rate limit is first refused, then closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateDecision {
    /// The rate is within the limit: handle the frame.
    Pass,
    /// The rate is above the limit: answer with `rate_limited`.
    Refuse,
    /// The client did not slow down while a whole burst of frames was refused: close the connection.
    Close,
}

/// How a connection attaches its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachKind {
    /// The same peer continues.
    Resume,
    /// A new peer joins, or takes the place of an older one.
    NewPeer,
}

impl AttachKind {
    /// The cost in frames, in a room with so many members.
    pub fn cost(self, members: usize) -> u32 {
        let resume = 1 + members as u32 / 10;
        match self {
            Self::Resume => resume,
            Self::NewPeer => TAKEOVER_FACTOR * resume,
        }
    }
}

/// The token bucket of one grant.
#[derive(Debug)]
pub struct PeerRate(Mutex<BucketState>);

#[derive(Debug)]
struct BucketState {
    tokens: f64,
    refilled_at: Instant,
    /// The frames that were refused without a pause.
    refused_frames: u32,
    /// The last peer and epoch that a connection of this node had.
    last_attachment: Option<(PeerId, u64)>,
    /// Until then, frames wait for their token instead of being refused.
    paced_until: Option<Instant>,
}

impl BucketState {
    fn refill(&mut self, rate: FrameRate, now: Instant) {
        let refill = now.saturating_duration_since(self.refilled_at).as_secs_f64() * rate.per_second;
        self.refilled_at = now;
        self.tokens = (self.tokens + refill).min(rate.burst);
    }
}

impl PeerRate {
    /// A full bucket.
    pub fn new(rate: FrameRate, now: Instant) -> Self {
        Self(Mutex::new(BucketState {
            tokens: rate.burst,
            refilled_at: now,
            refused_frames: 0,
            last_attachment: None,
            paced_until: None,
        }))
    }

    // A std mutex: held for arithmetic.
    fn lock_state(&self) -> MutexGuard<'_, BucketState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token for one frame.
    pub fn check_frame(&self, rate: FrameRate, now: Instant) -> RateDecision {
        let mut state = self.lock_state();
        state.refill(rate, now);
        if state.tokens >= 1.0 {
            state.tokens -= 1.0;
            // Back to a quarter of the bucket means that the sender has slowed down.
            if state.tokens > rate.burst / 4.0 {
                state.refused_frames = 0;
            }
            return RateDecision::Pass;
        }
        state.refused_frames += 1;
        if f64::from(state.refused_frames) > rate.burst { RateDecision::Close } else { RateDecision::Refuse }
    }

    /// Charges the extra cost of a frame, at most one burst in advance.
    pub fn charge_extra(&self, rate: FrameRate, extra: u32) {
        let mut state = self.lock_state();
        state.tokens = (state.tokens - f64::from(extra)).max(-rate.burst);
    }

    /// The time until a frame passes again.
    pub fn time_until_pass(&self, rate: FrameRate) -> Duration {
        time_until(1.0 - self.lock_state().tokens, rate)
    }

    /// How long to wait before the next frame is read. None: it need not wait.
    pub fn read_pause(&self, rate: FrameRate, now: Instant) -> Option<Duration> {
        let mut state = self.lock_state();
        state.paced_until.filter(|until| *until > now)?;
        state.refill(rate, now);
        Some(time_until(1.0 - state.tokens, rate)).filter(|pause| !pause.is_zero())
    }

    /// Whether a connection of this cost may be opened now.
    ///
    /// # Errors
    /// The time until it may.
    pub fn check_attach(&self, rate: FrameRate, cost: u32, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock_state();
        state.refill(rate, now);
        // A full bucket must do, whatever the size of the room.
        let needed = f64::from(cost).min(rate.burst) - ADVANCE_SHARE * rate.burst;
        let missing = needed - state.tokens;
        if missing > 0.0 { Err(time_until(missing, rate)) } else { Ok(()) }
    }

    /// A connection of this node has the peer in this epoch now. `previous` is the peer and the
    /// epoch of the connection before it. If that was on another node, the bucket is emptied.
    pub fn begin_attachment(
        &self,
        previous: Option<&(PeerId, u64)>,
        current: (PeerId, u64),
        rate: FrameRate,
        now: Instant,
    ) {
        let mut state = self.lock_state();
        state.refill(rate, now);
        if previous.is_some_and(|previous| state.last_attachment.as_ref() != Some(previous)) {
            state.tokens = state.tokens.min(0.0);
            state.paced_until = Some(now + time_until(rate.burst, rate));
        }
        state.last_attachment = Some(current);
    }

    /// The connection of the peer has ended in this epoch, which may have grown.
    pub fn end_attachment(&self, peer: &PeerId, epoch: u64) {
        if let Some((last_peer, last_epoch)) = &mut self.lock_state().last_attachment
            && last_peer == peer
        {
            *last_epoch = epoch.max(*last_epoch);
        }
    }

    fn is_full(&self, rate: FrameRate, now: Instant) -> bool {
        let mut state = self.lock_state();
        state.refill(rate, now);
        state.tokens >= rate.burst
    }
}

fn time_until(tokens: f64, rate: FrameRate) -> Duration {
    Duration::from_secs_f64(tokens.max(0.0) / rate.per_second)
}

/// The buckets of this node.
#[derive(Default)]
pub struct PeerRates {
    /// A hash of room, user and grant stands for the three.
    hasher: RandomState,
    // A std mutex: held for one map operation, or for one pass over the map after it has doubled.
    buckets: Mutex<BucketMap>,
}

#[derive(Default)]
struct BucketMap {
    by_grant: HashMap<u64, Arc<PeerRate>>,
    size_after_sweep: usize,
}

impl PeerRates {
    /// The bucket of a subject, if this node has one.
    pub fn find(&self, subject: &ConnectionSubject) -> Option<Arc<PeerRate>> {
        self.lock_buckets().by_grant.get(&self.key_of(subject)).cloned()
    }

    /// The bucket of a subject. A new one is full.
    pub fn find_or_create(
        &self,
        subject: &ConnectionSubject,
        rate: FrameRate,
        now: Instant,
    ) -> Arc<PeerRate> {
        let mut buckets = self.lock_buckets();
        buckets.sweep_if_grown(rate, now);
        buckets
            .by_grant
            .entry(self.key_of(subject))
            .or_insert_with(|| Arc::new(PeerRate::new(rate, now)))
            .clone()
    }

    /// Keeps the bucket of a connection that ends. The subject may have another grant by now.
    pub fn keep(&self, subject: &ConnectionSubject, bucket: &Arc<PeerRate>) {
        self.lock_buckets().by_grant.insert(self.key_of(subject), bucket.clone());
    }

    fn key_of(&self, subject: &ConnectionSubject) -> u64 {
        self.hasher.hash_one((&subject.room, &subject.user, subject.token.grant()))
    }

    fn lock_buckets(&self) -> MutexGuard<'_, BucketMap> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BucketMap {
    /// Deletes full buckets without a connection: a new one would be the same.
    fn sweep_if_grown(&mut self, rate: FrameRate, now: Instant) {
        if self.by_grant.len() >= (2 * self.size_after_sweep).max(FIRST_SWEEP) {
            self.by_grant.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full(rate, now));
            self.size_after_sweep = self.by_grant.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use signalbox_protocol::{
        CredentialRoot,
        id::{RoomId, TokenId, UserId},
    };

    use super::*;

    fn rate(burst: u32, per_second: u32) -> FrameRate {
        (burst, per_second).into()
    }

    fn subject(user: &str) -> ConnectionSubject {
        ConnectionSubject {
            room: RoomId::parse("r").unwrap(),
            user: UserId::parse(user).unwrap(),
            token: TokenId::random(),
            issued_s: 0,
            root: CredentialRoot::App,
            address: None,
        }
    }

    fn count_passes(bucket: &PeerRate, rate: FrameRate, now: Instant) -> usize {
        (0..1_000).filter(|_| bucket.check_frame(rate, now) == RateDecision::Pass).count()
    }

    #[test]
    fn a_burst_passes_then_frames_are_refused_then_the_connection_closes() {
        let (rate, now) = (rate(10, 100), Instant::now());
        let bucket = PeerRate::new(rate, now);
        let decisions: Vec<_> = (0..21).map(|_| bucket.check_frame(rate, now)).collect();
        assert!(decisions[..10].iter().all(|decision| *decision == RateDecision::Pass));
        assert!(decisions[10..20].iter().all(|decision| *decision == RateDecision::Refuse));
        assert_eq!(decisions[20], RateDecision::Close);
    }

    #[test]
    fn an_extra_charge_is_paid_before_the_next_frame_passes() {
        let (rate, now) = (rate(10, 10), Instant::now());
        let bucket = PeerRate::new(rate, now);
        assert_eq!(bucket.check_frame(rate, now), RateDecision::Pass);
        bucket.charge_extra(rate, 14);
        assert_eq!(bucket.check_frame(rate, now), RateDecision::Refuse);
        assert_eq!(bucket.check_frame(rate, now + bucket.time_until_pass(rate)), RateDecision::Pass);
    }

    #[test]
    fn a_frame_passes_after_the_announced_wait() {
        let (rate, now) = (rate(1, 10), Instant::now());
        let bucket = PeerRate::new(rate, now);
        assert_eq!(
            (bucket.check_frame(rate, now), bucket.check_frame(rate, now)),
            (RateDecision::Pass, RateDecision::Refuse)
        );
        assert_eq!(bucket.check_frame(rate, now + bucket.time_until_pass(rate)), RateDecision::Pass);
    }

    #[test]
    fn a_bucket_stays_with_its_grant_until_it_is_full_again() {
        let (rate, now, rates) = (rate(10, 10), Instant::now(), PeerRates::default());
        let alice = subject("alice");
        assert_eq!(count_passes(&rates.find_or_create(&alice, rate, now), rate, now), 10);
        for n in 0..2 * FIRST_SWEEP {
            rates.find_or_create(&subject(&format!("user{n}")), rate, now);
        }
        assert_eq!(count_passes(&rates.find_or_create(&alice, rate, now), rate, now), 0);
        assert!(rates.lock_buckets().by_grant.len() <= FIRST_SWEEP + 1, "full buckets are deleted");
    }

    #[test]
    fn a_peer_from_another_node_starts_empty_and_is_paced() {
        let (rate, now) = (rate(10, 10), Instant::now());
        let (peer, other) = (PeerId::from_bits(1), PeerId::from_bits(2));
        let bucket = PeerRate::new(rate, now);
        bucket.begin_attachment(None, (peer.clone(), 1), rate, now);
        bucket.end_attachment(&peer, 2);
        bucket.begin_attachment(Some(&(peer.clone(), 2)), (peer.clone(), 3), rate, now);
        assert_eq!(bucket.read_pause(rate, now), None, "the last connection was here");
        bucket.begin_attachment(Some(&(peer.clone(), 7)), (peer.clone(), 8), rate, now);
        assert_eq!(bucket.read_pause(rate, now), Some(Duration::from_millis(100)));
        assert_eq!(count_passes(&bucket, rate, now), 0);
        let later = now + Duration::from_millis(200);
        assert_eq!((bucket.read_pause(rate, later), count_passes(&bucket, rate, later)), (None, 2));
        let much_later = now + Duration::from_secs(2);
        assert_eq!(count_passes(&bucket, rate, much_later), 10);
        assert_eq!(bucket.read_pause(rate, much_later), None, "now frames are refused again");
        bucket.begin_attachment(Some(&(other, 1)), (peer, 1), rate, much_later);
        assert!(bucket.read_pause(rate, much_later).is_some(), "a takeover from another node");
    }

    #[test]
    fn connections_cost_by_room_size_and_may_be_paid_in_advance() {
        assert_eq!((AttachKind::Resume.cost(9), AttachKind::Resume.cost(60)), (1, 7));
        assert_eq!(AttachKind::NewPeer.cost(60), 21);
        let (rate, now) = (rate(100, 10), Instant::now());
        let bucket = PeerRate::new(rate, now);
        let attach = |now| bucket.check_attach(rate, 25, now).map(|()| bucket.charge_extra(rate, 25));
        assert_eq!((0..10).take_while(|_| attach(now).is_ok()).count(), 5);
        assert_eq!(attach(now), Err(Duration::from_millis(2_500)));
        assert_eq!(attach(now + Duration::from_millis(2_500)), Ok(()));
        let full = PeerRate::new(rate, now);
        assert_eq!(full.check_attach(rate, 1_000, now), Ok(()), "a room of any size can be entered");
    }
}
