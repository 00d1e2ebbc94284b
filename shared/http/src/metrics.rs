//! `/metrics`, on an address of its own: the address of the clients does not serve it.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
};

use actix_web::{App, HttpResponse, HttpServer, middleware::from_fn, web};
use prometheus::{
    Encoder, IntCounter, IntCounterVec, IntGauge, Opts, TextEncoder, core::Collector as _,
    proto::MetricFamily,
};
use signalbox_config::{ServerSettings, ServiceSettings, logging};

use crate::{
    KEEP_ALIVE, ListenError, REQUEST_HEAD_DEADLINE, RequestGate, file_limit, guard_request, not_found,
    open_listener, resource,
};

/// Opens the socket for `/metrics`, if the settings have an address for it.
///
/// # Errors
/// [`ListenError`], one line for the operator.
pub fn open_metrics_listener(settings: &ServiceSettings) -> Result<Option<TcpListener>, ListenError> {
    let open = |address| open_listener(address, settings.limits.socket_buffer.0);
    settings.server.metrics_listen.map(open).transpose()
}

/// Serves `/metrics` on this socket until the process ends. `gather` reads the metrics of the
/// services; those of the process itself are added.
///
/// # Errors
/// If the socket cannot be used.
pub fn serve_metrics<F>(listener: TcpListener, gather: F) -> io::Result<()>
where
    F: Fn() -> Vec<MetricFamily> + Clone + Send + 'static,
{
    let address = listener.local_addr()?;
    let gate = web::Data::new(metrics_gate(address));
    let app = move || {
        let gather = gather.clone();
        let respond = move || {
            let families: Vec<_> = gather().into_iter().chain(process_metrics()).collect();
            std::future::ready(metrics_response(&families))
        };
        App::new()
            .app_data(gate.clone())
            .wrap(from_fn(guard_request))
            .service(resource("/metrics", "GET").route(web::get().to(respond)))
            .default_service(web::to(not_found))
    };
    let server = HttpServer::new(app)
        .workers(1)
        .disable_signals()
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(REQUEST_HEAD_DEADLINE)
        .listen(listener)?;
    actix_web::rt::spawn(server.run());
    tracing::info!(event = "metrics_listening", %address);
    Ok(())
}

/// On a loopback address, a web page in a browser on this machine must not read the metrics.
fn metrics_gate(listen: SocketAddr) -> RequestGate {
    RequestGate::new(&ServerSettings { listen, ..ServerSettings::default() })
}

/// A counter with one label, from values that are counted elsewhere. Nothing without a value.
pub fn counter_family<'a>(
    name: &str,
    help: &str,
    label: &str,
    counts: impl IntoIterator<Item = (&'a str, u64)>,
) -> Vec<MetricFamily> {
    let Ok(counters) = IntCounterVec::new(Opts::new(name, help), &[label]) else { return vec![] };
    for (value, count) in counts {
        counters.with_label_values(&[value]).inc_by(count);
    }
    // The encoder refuses a family without a value.
    counters.collect().into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}

/// The metrics that a process has once, whichever services run in it.
fn process_metrics() -> Vec<MetricFamily> {
    let help = "Log lines that were dropped because standard error was not read in time";
    let Ok(dropped) = IntCounter::new("signalbox_log_lines_dropped_total", help) else { return vec![] };
    dropped.inc_by(logging::dropped_lines());
    let mut families = dropped.collect();
    let version = [(env!("CARGO_PKG_VERSION"), 1)];
    let help = "The version of the process, always 1";
    families.extend(counter_family("signalbox_build_info", help, "version", version));
    families.extend(system_metrics());
    families
}

/// The files and the memory of the process, under the names that Prometheus has for every process.
/// What the system does not tell is absent.
fn system_metrics() -> Vec<MetricFamily> {
    // Linux only. The folder has one entry more, for its own listing.
    let files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as i64);
    let limit = file_limit().map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let values = [
        ("process_open_fds", "Files that the process has open", files),
        ("process_max_fds", "Files that the process may have open", limit),
        ("process_resident_memory_bytes", "Memory of the process", resident_bytes()),
    ];
    let present = values.into_iter().filter_map(|(name, help, value)| Some((name, help, value?)));
    present
        .flat_map(|(name, help, value)| {
            let Ok(gauge) = IntGauge::new(name, help) else { return vec![] };
            gauge.set(value);
            gauge.collect()
        })
        .collect()
}

fn resident_bytes() -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<i64>().ok()?.checked_mul(1024)
}

/// Metrics in the text format of Prometheus. Each node and service has its own registry; none is
/// global.
fn metrics_response(families: &[MetricFamily]) -> HttpResponse {
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(families, &mut text) {
        Ok(()) => HttpResponse::Ok().content_type(encoder.format_type()).body(text),
        Err(error) => {
            tracing::error!(event = "metrics_unreadable", %error, "the metrics could not be encoded");
            HttpResponse::InternalServerError().finish()
        }
    }
}
