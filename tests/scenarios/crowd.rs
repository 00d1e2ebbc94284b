//! What is taken back from a thousand who are connected is taken back at once and for good: on live sockets of two nodes, and on every way
//! that each of them has back; also where Redis dies with it and comes back empty. Who was not meant is not disturbed.

use std::{
    collections::BTreeMap,
    fmt::Arguments,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use signalbox_tests::{
    cluster::{Settings, Store, TestCluster},
    crowd::{Held, Outcome, Places, Way, each, gather},
    http::Request,
    net::eventually,
    process::signal,
};

use tokio::sync::{Mutex, MutexGuard};

use crate::node_death::long;

const PEERS: usize = 1_000;
const ROOM: usize = 25;

/// The life of a ticket, less what it may take to get a thousand of them.
const TICKET: Duration = Duration::from_secs(20);

/// Long enough that a way back is closed by a rule and not by time.
const SETTINGS: Settings<'static> = &[("TIMING__RESUME_WINDOW", "5s")];

/// What is done about one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Nothing,
    User,
    Banned,
    Room,
    All,
}

impl Measure {
    /// Half of them stay. A room is taken back as a whole.
    fn of_half(number: usize) -> Self {
        match (number / ROOM % 4, number % 6) {
            (0, _) => Self::Room,
            (_, 0) => Self::User,
            (_, 1) => Self::Banned,
            _ => Self::Nothing,
        }
    }

    fn close_code(self) -> u16 {
        if self == Self::Banned { 4515 } else { 4516 }
    }

    /// What is said to whoever tries; `forgot` says that the store has forgotten what it kept for it.
    fn expected(self, way: Way, forgot: bool) -> Outcome {
        let refused = |status, code: &str| Outcome::Refused(status, code.to_owned());
        match (self, way) {
            (Self::Nothing, _) => unreachable!("who stays tries no way back"),
            (_, Way::Ticket) if forgot => refused(401, "ticket_invalid"),
            (_, Way::Refresh) if forgot => refused(401, "refresh_invalid"),
            // What was taken back is what there was for the room; who the user is counts on.
            (Self::Room, Way::UserToken) => Outcome::In("200".to_owned()),
            (Self::Banned, _) => refused(403, "banned"),
            (Self::User | Self::Room | Self::All, _) => refused(401, "token_revoked"),
        }
    }

    async fn take(self, cluster: &TestCluster, held: &Held) {
        let (path, body) = match self {
            Self::Nothing => return,
            Self::User => ("/api/revocations", json!({ "user": held.user })),
            Self::Banned => ("/api/bans", json!({ "user": held.user, "for": 600 })),
            Self::Room => ("/api/revocations", json!({ "room": held.room })),
            Self::All => ("/api/revocations", json!({ "all": true })),
        };
        cluster.take_back(path, body).await;
    }
}

/// A thousand of them, and what is done about each.
struct Crowd {
    // Held until it is over: two crowds at a time are more than a small machine serves in anybody's patience.
    _alone: MutexGuard<'static, ()>,
    places: Places,
    /// Tickets are no older.
    gathered: Instant,
    all: Vec<(Held, Measure)>,
}

impl Crowd {
    async fn gather(cluster: &TestCluster, measure: impl Fn(usize) -> Measure) -> Self {
        static ONE: Mutex<()> = Mutex::const_new(());
        let alone = ONE.lock().await;
        let (places, held) = gather(cluster, PEERS, ROOM).await;
        let gathered = Instant::now();
        let all: Vec<_> =
            held.into_iter().map(|held| (measure(held.number), held)).map(|(m, h)| (h, m)).collect();
        Self { _alone: alone, places, gathered, all }
    }

    fn of(&self, meant: impl Fn(Measure) -> bool + Clone) -> impl Iterator<Item = &(Held, Measure)> + Clone {
        self.all.iter().filter(move |(_, measure)| meant(*measure))
    }

    fn meant(&self) -> impl Iterator<Item = &(Held, Measure)> + Clone {
        self.of(|measure| measure != Measure::Nothing)
    }

    /// One call for each user, room or everybody: first users, then rooms.
    async fn take_back(&self, cluster: &TestCluster) {
        let users = self.of(|measure| matches!(measure, Measure::User | Measure::Banned));
        each(users, async |(held, measure)| measure.take(cluster, held).await).await;
        let firsts = self.of(|measure| measure == Measure::Room).filter(|(held, _)| held.number % ROOM == 0);
        let everybody = self.of(|measure| measure == Measure::All).take(1);
        each(firsts.chain(everybody), async |(held, measure)| measure.take(cluster, held).await).await;
    }

    /// Waits until all that are meant are closed, each with its code; how many that were.
    async fn until_closed(&self) -> usize {
        for (held, measure) in self.meant() {
            assert_eq!(held.peer.closed().await.code, measure.close_code(), "{measure:?} {}", held.user);
        }
        self.meant().count()
    }

    /// Each tries every way, at every node; each is told what it should be told.
    async fn try_every_way(&self, forgot: bool) {
        let mut wrong = BTreeMap::<_, usize>::new();
        let mut tries = 0;
        for way in Way::ALL {
            let told = each(self.meant(), async |(held, measure)| {
                let outcomes = self.places.try_way(held, way).await;
                assert_eq!(outcomes.len(), if way.is_of_nodes() { self.places.nodes.len() } else { 1 });
                outcomes.into_iter().map(|outcome| (*measure, way, outcome)).collect::<Vec<_>>()
            })
            .await;
            for (measure, way, outcome) in told.into_iter().flatten() {
                tries += 1;
                // Where the machine was too busy to show it in its half minute, a ticket has ended by itself.
                let ended = way == Way::Ticket && self.gathered.elapsed() > TICKET;
                let expected = [measure.expected(way, forgot), measure.expected(way, forgot || ended)];
                if !expected.contains(&outcome) {
                    *wrong.entry((format!("{measure:?}"), way, outcome)).or_default() += 1;
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        say(format_args!("{tries} tries, and none got in"));
    }

    /// Tries ways back all the time until it is told to stop. Nobody gets in; how often it was tried.
    async fn besiege(&self, over: &AtomicBool) -> usize {
        let mut tries = 0;
        for way in Way::ALL.into_iter().cycle() {
            if over.load(Ordering::Relaxed) {
                return tries;
            }
            let some = self.meant().filter(|(_, m)| (*m, way) != (Measure::Room, Way::UserToken));
            // Not always the same.
            let some = some.skip(tries % 7).step_by(7);
            let told =
                each(some, async |(held, measure)| (held, measure, self.places.try_way(held, way).await));
            for (held, measure, outcomes) in told.await {
                let is_out = outcomes.iter().all(|outcome| !outcome.is_in());
                assert!(is_out, "{measure:?} {} got in by {way:?}: {outcomes:?}", held.user);
                tries += outcomes.len();
            }
        }
        tries
    }

    /// Who was not meant is there, and can send to, and hear from, its neighbour.
    async fn others_talk(&self) -> usize {
        let mut rooms = BTreeMap::<&str, Vec<&Held>>::new();
        for (held, _) in self.of(|measure| measure == Measure::Nothing) {
            rooms.entry(&held.room).or_default().push(held);
        }
        let pairs = rooms.values().flat_map(|held| held.iter().zip(held.iter().cycle().skip(1)));
        let said = each(pairs.clone(), async |(from, to)| {
            let message = json!({ "type": "message", "to": to.peer.id(), "data": from.user });
            from.peer.insist(message).await;
        });
        let count = said.await.len();
        each(pairs, async |(from, to)| assert_eq!(to.peer.next_message().await.data, Some(json!(from.user))))
            .await;
        count
    }
}

/// A measure, to standard error.
fn say(text: Arguments<'_>) {
    // Who has closed it does not want to know.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A machine on which other tests run says little about a second; alone it is kept.
fn assert_quick(took: Duration) {
    let limit = Duration::from_secs(if long() { 1 } else { 5 });
    assert!(took < limit, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_reaches_a_thousand_sockets_on_two_nodes_in_under_a_second() {
    let cluster = TestCluster::start(Store::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, |_| Measure::All).await;
    let start = Instant::now();
    crowd.take_back(&cluster).await;
    let answered = start.elapsed();
    let closed = crowd.until_closed().await;
    let took = start.elapsed();
    say(format_args!(
        "{closed} sockets on two nodes closed {took:?} after the call began (answered after {answered:?})"
    ));
    assert_quick(took);
    crowd.try_every_way(false).await;
    let mut swept = 0.0;
    for node in &cluster.nodes {
        swept += node.metric("signalbox_swept_total{code=\"token_revoked\"}").await;
    }
    assert_eq!((closed, swept as usize), (PEERS, PEERS));
    drop(crowd);
    cluster.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_a_thousand_are_taken_back_and_the_others_talk_on() {
    let cluster = TestCluster::start(Store::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, Measure::of_half).await;
    crowd.take_back(&cluster).await;
    let start = Instant::now();
    let closed = crowd.until_closed().await;
    say(format_args!(
        "{closed} sockets closed {:?} after the last of many calls was answered",
        start.elapsed()
    ));
    assert_quick(start.elapsed());
    crowd.try_every_way(false).await;
    let others = crowd.others_talk().await;
    assert_eq!((closed, others), (PEERS / 2, PEERS / 2));
    drop(crowd);
    cluster.audit().await;
}

async fn until_open(cluster: &TestCluster) {
    for node in cluster.nodes.iter().chain(&cluster.auth) {
        eventually("it is ready", async || {
            let ready = Request::get("/health/ready").send(node.address).await;
            (ready.status == 200).then_some(())
        })
        .await;
    }
}

/// Redis dies in the moment in which the last call was answered. No node may have heard of it yet, and none has a second chance to.
async fn redis_dies_with_what_was_answered(measure: impl Fn(usize) -> Measure) {
    let mut cluster = TestCluster::start(Store::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, measure).await;
    crowd.take_back(&cluster).await;
    let mut redis = cluster.redis.take().unwrap();
    signal(redis.pid(), "KILL");
    redis.stop();
    let killed = Instant::now();
    let over = AtomicBool::new(false);
    let watch = async {
        redis.go_on().await;
        let back = killed.elapsed();
        let opening = async {
            until_open(&cluster).await;
            killed.elapsed()
        };
        let closing = async { (crowd.until_closed().await, killed.elapsed()) };
        let (open, (closed, gone)) = tokio::join!(opening, closing);
        say(format_args!(
            "Redis was away for {back:?}; {closed} closed {gone:?} after it died, open {open:?} after it"
        ));
        // One that had not noticed yet was open before, too.
        until_open(&cluster).await;
        // From now on new ones may come, so that who is kept out is kept out by a rule.
        let issued = cluster.issue(&json!({ "room": "new", "user": "new" })).await;
        for node in &cluster.nodes {
            let link = signalbox_tests::peer::Link::open(node.address, &issued).await;
            link.into_peer().await.leave().await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        over.store(true, Ordering::Relaxed);
    };
    let (tries, ()) = tokio::join!(crowd.besiege(&over), watch);
    say(format_args!("{tries} tries meanwhile"));
    crowd.try_every_way(true).await;
    for (held, _) in crowd.of(|measure| measure == Measure::Nothing) {
        assert_eq!(held.peer.next_of_type("resumed").await["peerId"], held.peer.id());
    }
    crowd.others_talk().await;
    drop(crowd);
    cluster.redis = Some(redis);
    cluster.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_from_half_holds_when_redis_dies_with_it_and_comes_back_empty() {
    redis_dies_with_what_was_answered(Measure::of_half).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_back_from_all_holds_when_redis_dies_with_it_and_comes_back_empty() {
    redis_dies_with_what_was_answered(|_| Measure::All).await;
}

/// Without Redis nothing can be taken back: the call says so, and everybody stays. What is answered 200 afterwards holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_back_while_redis_is_away_is_refused_or_holds() {
    let mut cluster = TestCluster::start(Store::Redis(2), SETTINGS).await;
    let crowd = Crowd::gather(&cluster, |_| Measure::All).await;
    cluster.redis.as_mut().unwrap().stop();
    let call =
        async |cluster: &TestCluster| cluster.api("POST", "/api/revocations", &json!({ "all": true })).await;
    call(&cluster).await.assert_problem(503, "unavailable");
    each(crowd.meant(), async |(held, _)| held.peer.ping().await).await;
    cluster.redis.as_mut().unwrap().go_on().await;
    eventually("it is taken back", async || {
        let answer = call(&cluster).await;
        if answer.status != 200 {
            answer.assert_problem(503, "unavailable");
        }
        (answer.status == 200).then_some(())
    })
    .await;
    let start = Instant::now();
    crowd.until_closed().await;
    say(format_args!("{PEERS} sockets closed {:?} after the call was answered", start.elapsed()));
    crowd.try_every_way(true).await;
    drop(crowd);
    cluster.audit().await;
}
