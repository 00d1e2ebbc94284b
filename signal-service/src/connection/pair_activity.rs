//! What a connection did toward each other peer and has not reported yet.
//!
//! Owns: the steps that wait for an outcome, and their bounds. Must not: cost a candidate or a message
//! of the application anything; only descriptions are steps. Next: `outcome_report`.

use signalbox_protocol::{ForwardKind, PairOutcome, PairResult, PairStep, id::PeerId};
use signalbox_rooms::timeline::TimelineStep;
use tokio::time::Instant;

/// The number of other peers whose steps are kept.
const MAX_PEERS: usize = 64;

/// The number of steps toward one peer that are kept.
const MAX_STEPS: usize = 8;

/// Steps with their times, in order.
pub(super) type TimedSteps = Vec<(Instant, TimelineStep)>;

/// The steps of one connection.
pub(super) struct PairActivity {
    began: (Instant, PairStep),
    /// A list, because most peers have few others, and a search in it is cheap.
    attempts: Vec<(PeerId, Attempt)>,
}

/// The attempts to connect to one peer.
struct Attempt {
    state: AttemptState,
    steps: Vec<(Instant, PairStep)>,
    last_step_at: Instant,
}

#[derive(PartialEq, Eq)]
enum AttemptState {
    /// The client has not reported an outcome.
    Open,
    /// The last outcome was [`PairResult::Connected`].
    Connected,
    /// The last outcome was another one, or there was no attempt.
    Ended,
}

impl Attempt {
    fn push_step(&mut self, at: Instant, step: PairStep) {
        if self.steps.len() < MAX_STEPS {
            self.steps.push((at, step));
        }
        self.last_step_at = at;
    }

    fn take_steps(&mut self) -> TimedSteps {
        std::mem::take(&mut self.steps).into_iter().map(|(at, step)| (at, step.into())).collect()
    }
}

impl PairActivity {
    /// A connection that begins now.
    pub(super) fn new(is_resumed: bool) -> Self {
        let step = if is_resumed { PairStep::Resumed } else { PairStep::Joined };
        Self { began: (Instant::now(), step), attempts: Vec::new() }
    }

    /// Records a message to a peer. Returns whether an attempt begins with it: an offer does, unless
    /// the peers are connected, or the attempt has begun.
    pub(super) fn record_message(&mut self, target: &PeerId, kind: ForwardKind) -> bool {
        let step = match kind {
            ForwardKind::Offer => PairStep::Offer,
            ForwardKind::Answer => PairStep::Answer,
            _ => return false,
        };
        let now = Instant::now();
        let attempt = self.find_or_add(target, now);
        attempt.push_step(now, step);
        let begins = step == PairStep::Offer && attempt.state == AttemptState::Ended;
        if attempt.state == AttemptState::Ended {
            attempt.state = AttemptState::Open;
        }
        begins
    }

    fn find_or_add(&mut self, peer: &PeerId, now: Instant) -> &mut Attempt {
        let index = self.find(peer).unwrap_or_else(|| {
            if self.attempts.len() >= MAX_PEERS {
                let ages = self.attempts.iter().enumerate();
                let oldest =
                    ages.min_by_key(|(_, (_, attempt))| attempt.last_step_at).map(|(index, _)| index);
                oldest.map(|index| self.attempts.swap_remove(index));
            }
            let attempt = Attempt { state: AttemptState::Ended, steps: vec![self.began], last_step_at: now };
            self.attempts.push((peer.clone(), attempt));
            self.attempts.len() - 1
        });
        &mut self.attempts[index].1
    }

    fn find(&self, peer: &PeerId) -> Option<usize> {
        self.attempts.iter().position(|(other, _)| other == peer)
    }

    /// The steps up to this outcome.
    pub(super) fn take_steps(&mut self, outcome: &PairOutcome) -> TimedSteps {
        let index = self.find(&outcome.peer);
        let mut steps = index.map_or_else(Vec::new, |index| {
            let attempt = &mut self.attempts[index].1;
            let is_connected = outcome.result == PairResult::Connected;
            attempt.state = if is_connected { AttemptState::Connected } else { AttemptState::Ended };
            attempt.take_steps()
        });
        steps.push((Instant::now(), outcome.into()));
        steps
    }

    /// The attempts without an outcome, when the connection ends with this step.
    pub(super) fn take_open_attempts(&mut self, end: PairStep) -> Vec<(PeerId, TimedSteps)> {
        let now = Instant::now();
        let open = self.attempts.drain(..).filter(|(_, attempt)| attempt.state == AttemptState::Open);
        open.map(|(peer, mut attempt)| {
            let mut steps = attempt.take_steps();
            steps.push((now, end.into()));
            (peer, steps)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u128) -> PeerId {
        PeerId::from_bits(n)
    }

    fn outcome(n: u128, result: PairResult) -> PairOutcome {
        PairOutcome { peer: peer(n), result, code: None, ms: None, relayed: None, protocol: None }
    }

    fn words(steps: TimedSteps) -> Vec<&'static str> {
        steps.into_iter().map(|(_, step)| step.step.as_str()).collect()
    }

    #[test]
    fn an_outcome_takes_the_steps_since_the_last_one() {
        let mut activity = PairActivity::new(false);
        assert!(activity.record_message(&peer(1), ForwardKind::Offer));
        assert!(!activity.record_message(&peer(1), ForwardKind::Candidate));
        assert!(!activity.record_message(&peer(1), ForwardKind::Offer), "the attempt has begun");
        let steps = activity.take_steps(&outcome(1, PairResult::Connected));
        assert_eq!(words(steps), ["joined", "offer", "offer", "connected"]);
        assert!(!activity.record_message(&peer(1), ForwardKind::Offer), "the peers negotiate again");
        let steps = activity.take_steps(&outcome(1, PairResult::Failed));
        assert_eq!(words(steps), ["offer", "failed"]);
        assert!(activity.record_message(&peer(1), ForwardKind::Offer), "a new attempt");
        // A client may report without a description, such as one whose offer found no candidate.
        assert_eq!(words(activity.take_steps(&outcome(2, PairResult::Failed))), ["failed"]);
    }

    #[test]
    fn the_end_of_a_connection_takes_the_attempts_without_an_outcome() {
        let mut activity = PairActivity::new(true);
        activity.record_message(&peer(1), ForwardKind::Offer);
        activity.record_message(&peer(2), ForwardKind::Answer);
        activity.record_message(&peer(3), ForwardKind::Offer);
        activity.take_steps(&outcome(1, PairResult::Connected));
        activity.record_message(&peer(1), ForwardKind::Offer);
        activity.take_steps(&outcome(3, PairResult::Closed));
        let open = activity.take_open_attempts(PairStep::Detached);
        let open: Vec<_> = open.into_iter().map(|(peer, steps)| (peer, words(steps))).collect();
        assert_eq!(open, [(peer(2), vec!["resumed", "answer", "detached"])]);
        assert!(activity.take_open_attempts(PairStep::Left).is_empty());
    }

    #[test]
    fn peers_and_steps_are_bounded() {
        let mut activity = PairActivity::new(false);
        for n in 0..200 {
            for _ in 0..20 {
                activity.record_message(&peer(n), ForwardKind::Offer);
            }
        }
        assert_eq!(activity.attempts.len(), MAX_PEERS);
        assert!(activity.find(&peer(199)).is_some(), "the newest peers stay");
        assert!(activity.attempts.iter().all(|(_, attempt)| attempt.steps.len() == MAX_STEPS));
    }
}
