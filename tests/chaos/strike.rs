//! Does to a fleet what a script says.

use std::{sync::Arc, time::Duration};

use signalbox_tests::{
    fleet::Fleet,
    history::Blow,
    proxy::{Arrivals, AtResumed, FaultProxy, Way},
    rng::Rng,
    swarm::Swarm,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::script::{Fault, Script, Step};

/// How long a drained node may take to end.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// Plays a script; what was done and when.
pub(crate) async fn play(script: &Script, fleet: &mut Fleet, swarm: &Swarm) -> Vec<Blow> {
    let doors: Vec<_> = fleet.nodes.iter().map(|node| node.front.clone()).collect();
    let start = Instant::now();
    let light = async {
        let mut blows = Vec::new();
        for step in &script.light {
            sleep_until(start + step.at).await;
            let from = swarm.now();
            let what = strike_light(step, &doors).await;
            blows.push(Blow { from, to: swarm.now(), what });
        }
        blows
    };
    let heavy = async {
        let mut blows = Vec::new();
        for step in &script.heavy {
            sleep_until(start + step.at).await;
            let from = swarm.now();
            let what = strike_heavy(step, fleet).await;
            blows.push(Blow { from, to: swarm.now(), what });
        }
        blows
    };
    let (mut blows, more) = tokio::join!(light, heavy);
    blows.extend(more);
    doors.iter().for_each(|door| door.heal());
    blows
}

/// The pauses here are the faults themselves.
async fn strike_light(step: &Step, doors: &[Arc<FaultProxy>]) -> String {
    let mut rng = Rng::new(step.salt);
    let door = &doors[step.node];
    let share = 10 + rng.number() % 80;
    let pick = |rng: &mut Rng| rng.percent(share);
    match step.fault {
        Fault::Cut => format!("Cut: {} connections of node {}", door.cut(|| pick(&mut rng)), step.node),
        Fault::HalfOpen => {
            let way = *rng.pick(&[Way::Up, Way::Down, Way::Both]);
            format!(
                "HalfOpen {way:?}: {} connections of node {}",
                door.half_open(way, || pick(&mut rng)),
                step.node
            )
        }
        Fault::AtResumed => {
            let what = *rng.pick(&[AtResumed::Lost, AtResumed::ThenCut]);
            let before: usize = doors.iter().map(|door| door.cut_at_resumed()).sum();
            doors.iter().for_each(|door| door.at_resumed(Some(what)));
            let cut = door.cut(|| pick(&mut rng));
            sleep(step.lasts).await;
            doors.iter().for_each(|door| door.at_resumed(None));
            let after: usize = doors.iter().map(|door| door.cut_at_resumed()).sum();
            format!("AtResumed {what:?}: {cut} connections cut, {} of them again and again", after - before)
        }
        Fault::Delay => {
            let by = Duration::from_millis(20 + rng.number() % 200);
            door.delay(by);
            sleep(step.lasts).await;
            door.delay(Duration::ZERO);
            format!("Delay: node {} by {by:?}", step.node)
        }
        _ => {
            door.arrivals(Arrivals::Refused);
            let cut = door.cut(|| pick(&mut rng));
            sleep(step.lasts).await;
            door.arrivals(Arrivals::Served);
            format!("Refuse: node {}, {cut} connections cut", step.node)
        }
    }
}

/// The pauses here are the faults themselves.
async fn strike_heavy(step: &Step, fleet: &mut Fleet) -> String {
    let node = step.node;
    match step.fault {
        Fault::Kill => {
            fleet.nodes[node].process.kill();
            sleep(step.lasts).await;
            fleet.nodes[node].restart().await;
            format!("Kill: node {node}, away {:?}", step.lasts)
        }
        Fault::Stop => {
            fleet.nodes[node].suspend();
            sleep(step.lasts).await;
            fleet.nodes[node].go_on();
            format!("Stop: node {node} for {:?}", step.lasts)
        }
        Fault::Drain => {
            fleet.drain(node, DRAIN + Duration::from_secs(2)).await;
            format!("Drain: node {node}")
        }
        Fault::Part => {
            fleet.nodes[node].store().part();
            sleep(step.lasts).await;
            fleet.nodes[node].store().heal();
            format!("Part: node {node} from Redis for {:?}", step.lasts)
        }
        _ => strike_store(step, fleet).await,
    }
}

async fn strike_store(step: &Step, fleet: &mut Fleet) -> String {
    match step.fault {
        Fault::Empty => {
            fleet.store.single().stop();
            sleep(step.lasts).await;
            fleet.store.single().go_on().await;
            format!("Empty: Redis away {:?} and empty after it", step.lasts)
        }
        Fault::Hang => {
            fleet.store.freeze();
            sleep(step.lasts).await;
            fleet.store.thaw();
            format!("Hang: Redis for {:?}", step.lasts)
        }
        Fault::Away => {
            let backs: Vec<_> = fleet.nodes.iter().map(|node| node.store()).collect();
            for back in &backs {
                back.arrivals(Arrivals::Refused);
                back.cut(|| true);
            }
            sleep(step.lasts).await;
            backs.iter().for_each(|back| back.heal());
            format!("Away: Redis refuses for {:?}", step.lasts)
        }
        Fault::Full => {
            fleet.store.fill().await;
            sleep(step.lasts).await;
            fleet.store.unfill().await;
            format!("Full: Redis for {:?}", step.lasts)
        }
        Fault::Failover => fleet.store.fail_over(step.salt).await,
        _ => fleet.store.reshard(step.salt).await,
    }
}
