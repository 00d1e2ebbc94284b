//! Revocations and bans of a thousand connected peers take effect at once and permanently: on the
//! open sockets of two nodes, and on every credential of each peer, even if Redis restarts empty.
//! Other peers are not disturbed.

use std::{
    collections::BTreeMap,
    fmt::Arguments,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use signalbox_tests::{
    cluster::{Settings, StoreKind, TestCluster},
    crowd::{AccessMethod, AccessOutcome, CrowdMember, CrowdServers, for_each_concurrent, join_crowd},
    http::Request,
    net::eventually,
    process::send_signal,
};

use tokio::sync::{Mutex, MutexGuard};

use crate::node_death::long;

const PEERS: usize = 1_000;
const ROOM_SIZE: usize = 25;

/// The lifetime of a ticket, minus the time to request a thousand of them.
const TICKET_LIFETIME: Duration = Duration::from_secs(20);

/// A long resume window, so that a rule refuses the resume and not the end of the window.
const SETTINGS: Settings<'static> = &[("TIMING__RESUME_WINDOW", "5s")];

/// The access rule that applies to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AppliedRule {
    None,
    RevokedUser,
    BannedUser,
    RevokedRoom,
    RevokedAll,
}

impl AppliedRule {
    /// Half of the peers stay. A revocation of a room applies to all its peers.
    fn for_half(number: usize) -> Self {
        match (number / ROOM_SIZE % 4, number % 6) {
            (0, _) => Self::RevokedRoom,
            (_, 0) => Self::RevokedUser,
            (_, 1) => Self::BannedUser,
            _ => Self::None,
        }
    }

    fn close_code(self) -> u16 {
        if self == Self::BannedUser { 4515 } else { 4516 }
    }

    /// The expected outcome of an attempt; `store_lost` says that the store has lost the tickets
    /// and refresh tokens.
    fn expected(self, way: AccessMethod, store_lost: bool) -> AccessOutcome {
        let refused = |status, code: &str| AccessOutcome::Rejected(status, code.to_owned());
        match (self, way) {
            (Self::None, _) => unreachable!("a peer that stays connected makes no attempt"),
            (_, AccessMethod::Ticket) if store_lost => refused(401, "ticket_invalid"),
            (_, AccessMethod::Refresh) if store_lost => refused(401, "refresh_invalid"),
            // A revocation of a room revokes room tokens; the token of the user stays valid.
            (Self::RevokedRoom, AccessMethod::UserToken) => AccessOutcome::Admitted("200".to_owned()),
            (Self::BannedUser, _) => refused(403, "banned"),
            (Self::RevokedUser | Self::RevokedRoom | Self::RevokedAll, _) => refused(401, "token_revoked"),
        }
    }

    async fn apply(self, cluster: &TestCluster, held: &CrowdMember) {
        let (path, body) = match self {
            Self::None => return,
            Self::RevokedUser => ("/api/revocations", json!({ "user": held.user })),
            Self::BannedUser => ("/api/bans", json!({ "user": held.user, "for": 600 })),
            Self::RevokedRoom => ("/api/revocations", json!({ "room": held.room })),
            Self::RevokedAll => ("/api/revocations", json!({ "all": true })),
        };
        cluster.add_rule(path, body).await;
    }
}

/// A thousand peers, each with the access rule that applies to it.
struct Crowd {
    // One test at a time holds the guard: two crowds at a time overload a small machine.
    _exclusive: MutexGuard<'static, ()>,
    places: CrowdServers,
    /// No ticket is older.
    gathered_at: Instant,
    all: Vec<(CrowdMember, AppliedRule)>,
}

impl Crowd {
    async fn gather(cluster: &TestCluster, rule: impl Fn(usize) -> AppliedRule) -> Self {
        static EXCLUSIVE: Mutex<()> = Mutex::const_new(());
        let exclusive = EXCLUSIVE.lock().await;
        let (places, held) = join_crowd(cluster, PEERS, ROOM_SIZE).await;
        let gathered_at = Instant::now();
        let all: Vec<_> =
            held.into_iter().map(|held| (rule(held.number), held)).map(|(m, h)| (h, m)).collect();
        Self { _exclusive: exclusive, places, gathered_at, all }
    }

    fn with(
        &self,
        matches: impl Fn(AppliedRule) -> bool + Clone,
    ) -> impl Iterator<Item = &(CrowdMember, AppliedRule)> + Clone {
        self.all.iter().filter(move |(_, rule)| matches(*rule))
    }

    fn affected(&self) -> impl Iterator<Item = &(CrowdMember, AppliedRule)> + Clone {
        self.with(|rule| rule != AppliedRule::None)
    }

    /// One call for each user, then one for each room, or one call for all peers.
    async fn apply_rules(&self, cluster: &TestCluster) {
        let users = self.with(|rule| matches!(rule, AppliedRule::RevokedUser | AppliedRule::BannedUser));
        for_each_concurrent(users, async |(held, rule)| rule.apply(cluster, held).await).await;
        let first_of_rooms = self
            .with(|rule| rule == AppliedRule::RevokedRoom)
            .filter(|(held, _)| held.number % ROOM_SIZE == 0);
        let one_of_all = self.with(|rule| rule == AppliedRule::RevokedAll).take(1);
        for_each_concurrent(first_of_rooms.chain(one_of_all), async |(held, rule)| {
            rule.apply(cluster, held).await
        })
        .await;
    }

    /// Waits until every affected peer is closed with its code, and returns their number.
    async fn until_closed(&self) -> usize {
        for (held, rule) in self.affected() {
            assert_eq!(held.peer.wait_closed().await.code, rule.close_code(), "{rule:?} {}", held.user);
        }
        self.affected().count()
    }

    /// Each affected peer tries every credential, at every node, and must get the expected refusal.
    async fn assert_all_refused(&self, store_lost: bool) {
        let mut unexpected = BTreeMap::<_, usize>::new();
        let mut attempts = 0;
        for way in AccessMethod::ALL {
            let answers = for_each_concurrent(self.affected(), async |(held, rule)| {
                let outcomes = self.verdicts(held, way).await;
                assert_eq!(
                    outcomes.len(),
                    if way.uses_signaling_node() { self.places.nodes.len() } else { 1 }
                );
                outcomes.into_iter().map(|outcome| (*rule, way, outcome)).collect::<Vec<_>>()
            })
            .await;
            for (rule, way, outcome) in answers.into_iter().flatten() {
                attempts += 1;
                // On a busy machine a ticket may have expired before this attempt.
                let expired = way == AccessMethod::Ticket && self.gathered_at.elapsed() > TICKET_LIFETIME;
                let expected = [rule.expected(way, store_lost), rule.expected(way, store_lost || expired)];
                if !expected.contains(&outcome) {
                    *unexpected.entry((format!("{rule:?}"), way, outcome)).or_default() += 1;
                }
            }
        }
        assert!(unexpected.is_empty(), "{unexpected:#?}");
        report(format_args!("{attempts} attempts, all refused"));
    }

    /// Tries a credential until every server has decided. The answer 503 `unavailable` is no decision:
    /// on a busy machine Redis may answer a node too late, and the credential stays as it was.
    async fn verdicts(&self, held: &CrowdMember, way: AccessMethod) -> Vec<AccessOutcome> {
        let undecided = AccessOutcome::Rejected(503, "unavailable".to_owned());
        eventually("every server has decided", async || {
            let outcomes = self.places.try_access(held, way).await;
            (!outcomes.contains(&undecided)).then_some(outcomes)
        })
        .await
    }

    /// Repeats attempts until `stop` is set, asserts that none succeeds, and returns their number.
    async fn assert_refused_until(&self, stop: &AtomicBool) -> usize {
        let mut attempts = 0;
        for way in AccessMethod::ALL.into_iter().cycle() {
            if stop.load(Ordering::Relaxed) {
                return attempts;
            }
            let candidates = self
                .affected()
                .filter(|(_, m)| (*m, way) != (AppliedRule::RevokedRoom, AccessMethod::UserToken));
            // A different seventh of the peers in each round.
            let sample = candidates.skip(attempts % 7).step_by(7);
            let answers = for_each_concurrent(sample, async |(held, rule)| {
                (held, rule, self.places.try_access(held, way).await)
            });
            for (held, rule, outcomes) in answers.await {
                let all_refused = outcomes.iter().all(|outcome| !outcome.is_admitted());
                assert!(all_refused, "{rule:?} {} was admitted with {way:?}: {outcomes:?}", held.user);
                attempts += outcomes.len();
            }
        }
        attempts
    }

    /// Each unaffected peer sends a message to its neighbour; returns the number of messages.
    async fn unaffected_peers_exchange(&self) -> usize {
        let mut rooms = BTreeMap::<&str, Vec<&CrowdMember>>::new();
        for (held, _) in self.with(|rule| rule == AppliedRule::None) {
            rooms.entry(&held.room).or_default().push(held);
        }
        let pairs = rooms.values().flat_map(|held| held.iter().zip(held.iter().cycle().skip(1)));
        let sent = for_each_concurrent(pairs.clone(), async |(from, to)| {
            let message = json!({ "type": "message", "to": to.peer.id(), "data": from.user });
            from.peer.send_until_acked(message).await;
        });
        let count = sent.await.len();
        for_each_concurrent(pairs, async |(from, to)| {
            assert_eq!(to.peer.next_message().await.data, Some(json!(from.user)))
        })
        .await;
        count
    }
}

/// Prints a measured value to standard error.
fn report(text: Arguments<'_>) {
    // A closed standard error does not fail the test.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Asserts one second in a long run. Otherwise other tests run in parallel, so the limit is larger.
fn assert_quick(elapsed: Duration) {
    let limit = Duration::from_secs(if long() { 1 } else { 5 });
    assert!(elapsed < limit, "{elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_closes_a_thousand_sockets_on_two_nodes_in_under_a_second() {
    let cluster = TestCluster::start(StoreKind::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, |_| AppliedRule::RevokedAll).await;
    let start = Instant::now();
    crowd.apply_rules(&cluster).await;
    let answered = start.elapsed();
    let closed = crowd.until_closed().await;
    let elapsed = start.elapsed();
    report(format_args!(
        "{closed} sockets on two nodes closed {elapsed:?} after the call began (answered after {answered:?})"
    ));
    assert_quick(elapsed);
    crowd.assert_all_refused(false).await;
    let mut closed_by_rule = 0.0;
    for node in &cluster.nodes {
        closed_by_rule += node.metric("signalbox_closed_by_rule_total{code=\"token_revoked\"}").await;
    }
    assert_eq!((closed, closed_by_rule as usize), (PEERS, PEERS));
    drop(crowd);
    cluster.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_half_of_a_thousand_peers_does_not_disturb_the_others() {
    let cluster = TestCluster::start(StoreKind::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, AppliedRule::for_half).await;
    crowd.apply_rules(&cluster).await;
    let start = Instant::now();
    let closed = crowd.until_closed().await;
    report(format_args!(
        "{closed} sockets closed {:?} after the last of many calls was answered",
        start.elapsed()
    ));
    assert_quick(start.elapsed());
    crowd.assert_all_refused(false).await;
    let unaffected = crowd.unaffected_peers_exchange().await;
    assert_eq!((closed, unaffected), (PEERS / 2, PEERS / 2));
    drop(crowd);
    cluster.audit().await;
}

async fn until_ready(cluster: &TestCluster) {
    for node in cluster.nodes.iter().chain(&cluster.auth) {
        eventually("the process is ready", async || {
            let ready = Request::get("/health/ready").send(node.address).await;
            (ready.status == 200).then_some(())
        })
        .await;
    }
}

/// Redis dies as soon as the last call has been answered. Possibly no node has received the rule
/// yet, and Redis no longer holds the rule.
async fn assert_rules_survive_a_redis_restart(rule: impl Fn(usize) -> AppliedRule) {
    let mut cluster = TestCluster::start(StoreKind::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, rule).await;
    crowd.apply_rules(&cluster).await;
    let mut redis = cluster.redis.take().unwrap();
    send_signal(redis.pid(), "KILL");
    redis.kill();
    let killed = Instant::now();
    let stop = AtomicBool::new(false);
    let watch = async {
        redis.restart().await;
        let restarted = killed.elapsed();
        let ready = async {
            until_ready(&cluster).await;
            killed.elapsed()
        };
        let closed = async { (crowd.until_closed().await, killed.elapsed()) };
        let (ready, (closed, last_close)) = tokio::join!(ready, closed);
        report(format_args!(
            "Redis was down for {restarted:?}; {closed} closed {last_close:?} and all ready {ready:?} after its end"
        ));
        // A node that had not noticed the outage yet may have been ready too early.
        until_ready(&cluster).await;
        // New peers can join from now on, so that only a rule refuses the affected peers.
        let issued = cluster.issue(&json!({ "room": "new", "user": "new" })).await;
        for node in &cluster.nodes {
            let link = signalbox_tests::peer::TestConnection::open(node.address, &issued).await;
            link.into_peer().await.leave().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (attempts, ()) = tokio::join!(crowd.assert_refused_until(&stop), watch);
    report(format_args!("{attempts} attempts during the outage"));
    crowd.assert_all_refused(true).await;
    for (held, _) in crowd.with(|rule| rule == AppliedRule::None) {
        assert_eq!(held.peer.next_of_type("resumed").await["peerId"], held.peer.id());
    }
    crowd.unaffected_peers_exchange().await;
    drop(crowd);
    cluster.redis = Some(redis);
    cluster.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_and_bans_of_half_the_peers_survive_a_redis_that_restarts_empty() {
    assert_rules_survive_a_redis_restart(AppliedRule::for_half).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_of_all_peers_survives_a_redis_that_restarts_empty() {
    assert_rules_survive_a_redis_restart(|_| AppliedRule::RevokedAll).await;
}

/// Without Redis the call gets 503 and all peers stay connected. A later call that gets 200 must
/// take effect.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_during_an_outage_of_redis_is_refused_or_takes_effect() {
    let mut cluster = TestCluster::start(StoreKind::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, |_| AppliedRule::RevokedAll).await;
    cluster.redis.as_mut().unwrap().kill();
    let call =
        async |cluster: &TestCluster| cluster.api("POST", "/api/revocations", &json!({ "all": true })).await;
    call(&cluster).await.assert_problem(503, "unavailable");
    for_each_concurrent(crowd.affected(), async |(held, _)| held.peer.ping().await).await;
    cluster.redis.as_mut().unwrap().restart().await;
    eventually("the revocation is accepted", async || {
        let answer = call(&cluster).await;
        if answer.status != 200 {
            answer.assert_problem(503, "unavailable");
        }
        (answer.status == 200).then_some(())
    })
    .await;
    let start = Instant::now();
    crowd.until_closed().await;
    report(format_args!("{PEERS} sockets closed {:?} after the call was answered", start.elapsed()));
    crowd.assert_all_refused(true).await;
    drop(crowd);
    cluster.audit().await;
}
