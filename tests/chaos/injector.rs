//! Injects the faults of a script into a fleet.

use std::{sync::Arc, time::Duration};

use signalbox_tests::{
    fleet::Fleet,
    history::InjectedFault,
    proxy::{Direction, FaultProxy, NewConnections, ResumedFault},
    rng::SeededRng,
    swarm::Swarm,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::script::{Fault, FaultScript, FaultStep};

/// How long a drained node may take to end.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Runs a script and returns the faults with their times.
pub(crate) async fn run_script(script: &FaultScript, fleet: &mut Fleet, swarm: &Swarm) -> Vec<InjectedFault> {
    let proxies: Vec<_> = fleet.nodes.iter().map(|node| node.client_proxy.clone()).collect();
    let start = Instant::now();
    let connection_lane = async {
        let mut faults = Vec::new();
        for step in &script.connection_faults {
            sleep_until(start + step.start).await;
            let from = swarm.elapsed();
            let description = inject_connection_fault(step, &proxies).await;
            faults.push(InjectedFault { start: from, end: swarm.elapsed(), description });
        }
        faults
    };
    let process_lane = async {
        let mut faults = Vec::new();
        for step in &script.process_faults {
            sleep_until(start + step.start).await;
            let from = swarm.elapsed();
            let description = inject_process_fault(step, fleet).await;
            faults.push(InjectedFault { start: from, end: swarm.elapsed(), description });
        }
        faults
    };
    let (mut faults, more) = tokio::join!(connection_lane, process_lane);
    faults.extend(more);
    proxies.iter().for_each(|proxy| proxy.heal());
    faults
}

/// The sleeps here are part of the faults.
async fn inject_connection_fault(step: &FaultStep, proxies: &[Arc<FaultProxy>]) -> String {
    let mut rng = SeededRng::new(step.seed);
    let proxy = &proxies[step.node];
    let share = 10 + rng.next_u64() % 80;
    let pick = |rng: &mut SeededRng| rng.percent(share);
    match step.fault {
        Fault::Cut => format!("Cut: {} connections of node {}", proxy.cut(|| pick(&mut rng)), step.node),
        Fault::HalfOpen => {
            let direction = *rng.pick(&[Direction::ToServer, Direction::ToClient, Direction::Both]);
            format!(
                "HalfOpen {direction:?}: {} connections of node {}",
                proxy.half_open_selected(direction, || pick(&mut rng)),
                step.node
            )
        }
        Fault::AtResumed => {
            let resumed_fault = *rng.pick(&[ResumedFault::CutBefore, ResumedFault::CutAfter]);
            let before: usize = proxies.iter().map(|proxy| proxy.resumed_cuts()).sum();
            proxies.iter().for_each(|proxy| proxy.set_resumed_fault(Some(resumed_fault)));
            let cut = proxy.cut(|| pick(&mut rng));
            sleep(step.duration).await;
            proxies.iter().for_each(|proxy| proxy.set_resumed_fault(None));
            let after: usize = proxies.iter().map(|proxy| proxy.resumed_cuts()).sum();
            format!("AtResumed {resumed_fault:?}: {cut} connections cut, {} cuts at resumed", after - before)
        }
        Fault::Delay => {
            let by = Duration::from_millis(20 + rng.next_u64() % 200);
            proxy.set_delay(by);
            sleep(step.duration).await;
            proxy.set_delay(Duration::ZERO);
            format!("Delay: node {} by {by:?}", step.node)
        }
        _ => {
            proxy.set_new_connections(NewConnections::Reset);
            let cut = proxy.cut(|| pick(&mut rng));
            sleep(step.duration).await;
            proxy.set_new_connections(NewConnections::Forward);
            format!("Refuse: node {}, {cut} connections cut", step.node)
        }
    }
}

/// The sleeps here are part of the faults.
async fn inject_process_fault(step: &FaultStep, fleet: &mut Fleet) -> String {
    let node = step.node;
    match step.fault {
        Fault::Kill => {
            fleet.nodes[node].process.kill();
            sleep(step.duration).await;
            fleet.nodes[node].restart().await;
            format!("Kill: node {node}, down for {:?}", step.duration)
        }
        Fault::Stop => {
            fleet.nodes[node].pause();
            sleep(step.duration).await;
            fleet.nodes[node].unpause();
            format!("Stop: node {node} for {:?}", step.duration)
        }
        Fault::Drain => {
            fleet.drain(node, DRAIN_LIMIT + Duration::from_secs(2)).await;
            format!("Drain: node {node}")
        }
        Fault::Isolate => {
            fleet.nodes[node].redis_proxy().isolate();
            sleep(step.duration).await;
            fleet.nodes[node].redis_proxy().heal();
            format!("Isolate: node {node} from Redis for {:?}", step.duration)
        }
        _ => inject_store_fault(step, fleet).await,
    }
}

async fn inject_store_fault(step: &FaultStep, fleet: &mut Fleet) -> String {
    match step.fault {
        Fault::Empty => {
            fleet.store.single().kill();
            sleep(step.duration).await;
            fleet.store.single().restart().await;
            format!("Empty: Redis down for {:?} and then empty", step.duration)
        }
        Fault::Hang => {
            fleet.store.pause();
            sleep(step.duration).await;
            fleet.store.unpause();
            format!("Hang: Redis for {:?}", step.duration)
        }
        Fault::Unreachable => {
            let proxies: Vec<_> = fleet.nodes.iter().map(|node| node.redis_proxy()).collect();
            for proxy in &proxies {
                proxy.set_new_connections(NewConnections::Reset);
                proxy.cut(|| true);
            }
            sleep(step.duration).await;
            proxies.iter().for_each(|proxy| proxy.heal());
            format!("Unreachable: Redis refuses for {:?}", step.duration)
        }
        Fault::Full => {
            fleet.store.exhaust_memory().await;
            sleep(step.duration).await;
            fleet.store.restore_memory().await;
            format!("Full: Redis for {:?}", step.duration)
        }
        Fault::Failover => fleet.store.fail_over(step.seed).await,
        _ => fleet.store.reshard(step.seed).await,
    }
}
