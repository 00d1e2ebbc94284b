//! One client of a [`crate::swarm`]: its connections one after the other.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    client::{At, Occurred, Said, WayBack},
    history::{Event, Who},
    rng::Rng,
    socket::{self, Refusal, Socket},
    swarm::{Phase, Plan, Shared},
    token::Forgery,
};

/// How long an upgrade, a first frame or a write may take.
const STEP: Duration = Duration::from_secs(3);
/// A client that has so much to say waits with the rest.
const PENDING: usize = 24;
/// Between two attempts: the longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) struct Member {
    who: Who,
    plan: Arc<Plan>,
    desk: Shared,
    rng: Rng,
    phase: watch::Receiver<Phase>,
    start: Instant,
    said: u64,
    next_word: At,
    fenced: bool,
    door: usize,
    lost_at: Option<At>,
    heard_at: At,
}

/// How a connection ended.
struct Ending {
    why: String,
    code: u16,
}

impl Ending {
    fn lost(why: impl Into<String>) -> Self {
        Self { why: why.into(), code: 1006 }
    }
}

/// What this connection waits for.
struct Watch {
    /// The first frame, or a `pong`.
    answer_by: Option<At>,
    /// The moment that a `goaway` named.
    go_at: Option<At>,
}

impl Member {
    pub(crate) fn new(
        who: Who,
        plan: Arc<Plan>,
        desk: Shared,
        mut rng: Rng,
        phase: watch::Receiver<Phase>,
        start: Instant,
    ) -> Self {
        let door = rng.below(plan.doors.len());
        let next_word = rng.between(Duration::ZERO, 2 * plan.pace);
        let (lost_at, heard_at) = (None, At::ZERO);
        Self {
            who,
            plan,
            desk,
            rng,
            phase,
            start,
            said: 0,
            next_word,
            fenced: false,
            door,
            lost_at,
            heard_at,
        }
    }

    fn now(&self) -> At {
        self.start.elapsed()
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    fn note(&self, event: Event) {
        let now = self.now();
        self.desk.lock().history.events.push((now, event));
    }

    pub(crate) async fn run(mut self) {
        let mut failures = 0;
        while self.phase() != Phase::End {
            let way = self.desk.lock().client.way_back();
            let query = self.query(&way);
            match socket::open(self.plan.doors[self.door], &query, STEP).await {
                Ok(socket) => {
                    let ending = self.attend(socket).await;
                    let came_in = self.desk.lock().client.is_live();
                    failures = if came_in { 0 } else { failures + 1 };
                    self.desk.lock().client.lost();
                    self.ended(&ending);
                }
                Err(refusal) => {
                    failures += 1;
                    self.refused(&refusal);
                }
            }
            self.next_door();
            self.pause(failures).await;
        }
    }

    fn query(&self, way: &WayBack) -> String {
        match way {
            WayBack::Resume { handle, since } => format!("resume={handle}&since={since}"),
            WayBack::Join => {
                let room = self.desk.lock().history.room.clone();
                let jti = format!("{}-{}", self.who, self.now().as_micros());
                let forgery = Forgery::good(&room, &format!("c{}", self.who)).claim("jti", jti);
                format!("token={}", forgery.sign(&self.plan.secret))
            }
        }
    }

    /// Another node, where there is one.
    fn next_door(&mut self) {
        let doors = self.plan.doors.len();
        if doors > 1 {
            self.door = (self.door + 1 + self.rng.below(doors - 1)) % doors;
        }
    }

    /// At once the first time, then longer and longer; never all clients in one moment.
    async fn pause(&mut self, failures: u32) {
        let longest =
            Duration::from_millis(60).mul_f64(1.7_f64.powi(failures.min(12) as i32)).min(LONGEST_PAUSE);
        let pause = self.rng.between(longest / 2, longest);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.phase.wait_for(|phase| *phase == Phase::End) => {}
        }
    }

    fn ended(&mut self, ending: &Ending) {
        let now = self.now();
        self.lost_at.get_or_insert(now);
        self.note(Event::Lost(ending.why.clone()));
        match ending.code {
            4004 | 4006 => self.gone(&ending.why),
            1000..4500 => {}
            _ => {
                self.note(Event::Banished(ending.why.clone()));
                self.desk.lock().client.forget_peer();
            }
        }
    }

    fn refused(&mut self, refusal: &Refusal) {
        let code = refusal.code();
        match code.as_str() {
            "resume_expired" | "token_expired" => self.gone(&code),
            "resume_invalid" | "resume_replaced" => {
                self.note(Event::Banished(code));
                self.desk.lock().client.forget_peer();
            }
            // The store is away, or the node stops: another time, another node.
            "" | "unavailable" | "draining" | "overloaded" => {}
            other => self.note(Event::Fault(format!("the upgrade was refused: {other}"))),
        }
    }

    fn gone(&mut self, why: &str) {
        let silent = self.now().saturating_sub(self.heard_at);
        self.note(Event::PeerGone { why: why.to_owned(), silent });
        self.desk.lock().client.forget_peer();
    }

    /// Serves a connection to its end.
    async fn attend(&mut self, mut socket: Socket) -> Ending {
        self.desk.lock().client.opened();
        let mut watch = Watch { answer_by: Some(self.now() + STEP), go_at: None };
        let mut phase = self.phase.clone();
        loop {
            if let Err(ending) = self.speak(&mut socket, &mut watch).await {
                return ending;
            }
            let wake = self.start + self.wake(&watch);
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(message)) => {
                        if let Err(ending) = self.hear(message, &mut watch) {
                            return ending;
                        }
                    }
                    Some(Err(error)) => return Ending::lost(error.to_string()),
                    None => return Ending::lost("the end of the stream"),
                },
                () = tokio::time::sleep_until(wake) => {}
                _ = phase.changed() => {}
            }
        }
    }

    /// Sends what is due.
    async fn speak(&mut self, socket: &mut Socket, watch: &mut Watch) -> Result<(), Ending> {
        let now = self.now();
        if self.phase() == Phase::End {
            return Err(Ending::lost("the run is over"));
        }
        if watch.go_at.is_some_and(|at| at <= now) {
            return Err(Ending::lost("went when the goaway said"));
        }
        if watch.answer_by.is_some_and(|at| at <= now) {
            return Err(Ending::lost("no answer in time"));
        }
        self.talk(now);
        let mut texts = self.due(now);
        if watch.answer_by.is_none() && now >= self.heard_at + self.plan.ping.mul_f64(1.5) {
            watch.answer_by = Some(now + self.plan.pong);
            texts.push(json!({"type": "ping"}).to_string());
        }
        for text in texts {
            match tokio::time::timeout(STEP, socket.send(Message::text(text))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Ending::lost(error.to_string())),
                Err(_) => return Err(Ending::lost("a write that does not end")),
            }
        }
        Ok(())
    }

    fn due(&self, now: At) -> Vec<String> {
        let mut desk = self.desk.lock();
        let out = desk.client.flush(now);
        let said = out.iter().filter_map(|one| one.message.clone());
        let event = |said: Said| match said.again {
            false => Event::Sent { n: said.n, to: said.to },
            true => Event::Again { n: said.n },
        };
        desk.history.events.extend(said.map(|said| (now, event(said))));
        out.into_iter().map(|one| one.text).collect()
    }

    /// Thinks of something to say when it is time to.
    fn talk(&mut self, now: At) {
        let phase = self.phase();
        if phase == Phase::Talk && now >= self.next_word {
            self.next_word = now + self.rng.between(self.plan.pace / 2, self.plan.pace * 3 / 2);
            let to_room = self.rng.percent(self.plan.to_room);
            let mut desk = self.desk.lock();
            let others: Vec<_> = desk.client.roster.keys().cloned().collect();
            if desk.client.peer.is_some() && desk.client.pending() < PENDING && !others.is_empty() {
                self.said += 1;
                let to = if to_room { None } else { Some(self.rng.pick(&others).as_str()) };
                desk.client.say(self.said, to, &json!({"s": self.who, "n": self.said}));
            }
        }
        let mut desk = self.desk.lock();
        if phase == Phase::Fence && !self.fenced && desk.client.is_live() {
            self.fenced = true;
            self.said += 1;
            desk.client.say(self.said, None, &json!({"s": self.who, "n": self.said, "fence": true}));
        }
    }

    /// When there is something to do next.
    fn wake(&self, watch: &Watch) -> At {
        let (client, live) = {
            let desk = self.desk.lock();
            (desk.client.deadline(), desk.client.is_live())
        };
        let word = (live && self.phase() == Phase::Talk).then_some(self.next_word);
        let silence = watch.answer_by.is_none().then(|| self.heard_at + self.plan.ping.mul_f64(1.5));
        let all = [client, word, silence, watch.answer_by, watch.go_at];
        all.into_iter().flatten().min().unwrap_or_else(|| self.now() + STEP)
    }

    fn hear(&mut self, message: Message, watch: &mut Watch) -> Result<(), Ending> {
        self.heard_at = self.now();
        let text = match message {
            Message::Text(text) => text,
            Message::Close(Some(frame)) => {
                let code = frame.code.into();
                return Err(Ending { why: format!("closed with {code} {}", frame.reason), code });
            }
            Message::Close(None) => return Err(Ending::lost("closed without a code")),
            _ => {
                if self.desk.lock().client.is_live() {
                    watch.answer_by = None;
                }
                return Ok(());
            }
        };
        let Ok(frame) = serde_json::from_str::<Value>(&text) else {
            self.note(Event::Fault(format!("not JSON: {text}")));
            return Ok(());
        };
        watch.answer_by = None;
        let occurred = self.desk.lock().client.frame(self.now(), &frame);
        for one in occurred {
            if let Occurred::GoAway(wait) = one {
                watch.go_at = Some(self.now() + wait);
            }
            self.record(one);
        }
        Ok(())
    }

    fn record(&mut self, occurred: Occurred) {
        let event = match occurred {
            Occurred::GoAway(_) => return,
            Occurred::Dropped => {
                self.desk.lock().history.dropped += 1;
                return;
            }
            Occurred::Joined => {
                self.lost_at = None;
                Event::Joined { peer: self.desk.lock().client.peer.clone().unwrap_or_default() }
            }
            Occurred::Resumed { recovered, asked } => {
                let lost_at = if asked { self.lost_at.take() } else { None };
                Event::Resumed { recovered, took: lost_at.map(|at| self.now().saturating_sub(at)) }
            }
            Occurred::Accepted { n, durable, duplicate } => Event::Accepted { n, durable, duplicate },
            Occurred::Unavailable { n } => Event::Unavailable { n },
            Occurred::Refused { n, code } => Event::Refused { n, code },
            Occurred::Heard { from, data } => self.heard(from, &data),
            Occurred::Fault(what) => Event::Fault(what),
        };
        self.note(event);
    }

    fn heard(&self, from: String, data: &Value) -> Event {
        let (Some(sender), Some(n)) = (data["s"].as_u64(), data["n"].as_u64()) else {
            return Event::Fault(format!("a message that nobody sent: {data}"));
        };
        let sender = sender as Who;
        if data["fence"] == true {
            self.desk.lock().fences.insert(sender);
        }
        Event::Heard { sender, from, n }
    }
}
