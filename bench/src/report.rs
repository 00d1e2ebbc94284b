//! The result as a page: RESULTS.md.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;

use crate::{
    plot,
    rounds::{CaseResult, ServerResult, Summary},
    sample::{CPU_PER_DELIVERY, DELIVERIES_PER_SECOND, LOAD_BUSY, Metric, OFFERED_RATE, RATIO, SERVER_BUSY},
    servers::SERVERS,
};

/// The load is the limit above this percentage of its core, unless the server is busy too.
const BUSY: f64 = 97.0;

/// Writes the page and its plots into this folder.
pub fn write(folder: &Path, facts: &[String], results: &[CaseResult]) -> Result<()> {
    let plots = folder.join("plots");
    if plots.exists() {
        fs::remove_dir_all(&plots)?;
    }
    fs::create_dir_all(&plots)?;
    let mut page = String::from("# Results\n\nWritten by `bench/run.sh`; README.md says how to read it.\n\n");
    for fact in facts {
        writeln!(page, "- {fact}")?;
    }
    writeln!(page, "\n| server | |\n|---|---|")?;
    for (name, about) in SERVERS {
        writeln!(page, "| {name} | {about} |")?;
    }
    let mut scenario = None;
    for result in results {
        if scenario != Some(result.scenario) {
            scenario = Some(result.scenario);
            writeln!(page, "\n## {}\n\n{}", result.scenario.name(), result.scenario.about())?;
        }
        write_case(&mut page, result)?;
        for metric in result.scenario.plotted() {
            if let Some(svg) = plot::draw(result, *metric) {
                let file = file_name(&format!("{}-{}-{}", result.scenario.name(), result.case, metric.title));
                writeln!(page, "\n![{}](plots/{file})", metric.title)?;
                fs::write(plots.join(file), svg)?;
            }
        }
    }
    // `run.sh` has measured the browser before.
    let browser = folder.join("BROWSER.md");
    if let Ok(text) = fs::read_to_string(&browser) {
        writeln!(page, "\n{text}")?;
        fs::remove_file(browser)?;
    }
    write_ahead(&mut page, results)?;
    if let Ok(remarks) = fs::read_to_string(folder.join("REMARKS.md")) {
        writeln!(page, "\n{remarks}")?;
    }
    fs::write(folder.join("RESULTS.md"), page)?;
    Ok(())
}

/// Lists where another server is ahead of Signalbox.
fn write_ahead(page: &mut String, results: &[CaseResult]) -> Result<()> {
    let mut lines = Vec::new();
    for result in results {
        for metric in result.scenario.plotted() {
            for own in result.servers.iter().filter(|server| server.spec.is_signalbox()) {
                lines.extend(servers_ahead(result, *metric, own));
            }
        }
    }
    writeln!(page, "\n## Where another server is ahead of Signalbox\n")?;
    if lines.is_empty() {
        lines.push("Nowhere in this run.".to_owned());
    }
    writeln!(page, "{}", lines.join("\n"))?;
    Ok(())
}

fn servers_ahead(result: &CaseResult, metric: Metric, own: &ServerResult) -> Vec<String> {
    let Some(own_summary) = own.summary(metric) else { return Vec::new() };
    // One process is compared with one process, several nodes with several nodes, and a latency with
    // the latency at the same rate.
    let rate = |server: &ServerResult| server.summary(OFFERED_RATE).map(|summary| summary.median);
    let others = result.servers.iter().filter(|other| {
        !other.spec.is_signalbox()
            && !other.spec.is_floor()
            && other.spec.has_several_nodes() == own.spec.has_several_nodes()
            && rate(other) == rate(own)
    });
    others
        .filter_map(|other| {
            let summary = other.summary(metric)?;
            let is_ahead = if metric.is_gain {
                summary.median > own_summary.median
            } else {
                summary.median < own_summary.median
            };
            is_ahead.then(|| {
                format!(
                    "- {}, {}: {} has {} {}, {} has {}",
                    result.scenario.name(),
                    result.case,
                    other.spec.label,
                    cell(metric, summary),
                    metric.title,
                    own.spec.label,
                    cell(metric, own_summary),
                )
            })
        })
        .collect()
}

/// Letters, digits and hyphens.
fn file_name(title: &str) -> String {
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase() + ".svg"
}

fn write_case(page: &mut String, result: &CaseResult) -> Result<()> {
    let mut metrics: Vec<Metric> = Vec::new();
    for metric in result.servers.iter().flat_map(ServerResult::metrics) {
        if !metrics.contains(&metric) {
            metrics.push(metric);
        }
    }
    let titles: Vec<_> = metrics.iter().map(|metric| metric.title).collect();
    let compared = compared_metric(result, &metrics);
    let ratio_title = compared.map_or_else(String::new, |metric| format!(" {}, ratio |", metric.title));
    writeln!(page, "\n### {}\n\n| server | {} |{ratio_title} rounds |", result.case, titles.join(" | "))?;
    writeln!(page, "|---|{}---|", "---:|".repeat(metrics.len() + usize::from(compared.is_some())))?;
    for server in &result.servers {
        let mut cells: Vec<_> = metrics
            .iter()
            .map(|metric| server.summary(*metric).map_or_else(|| "–".to_owned(), |it| cell(*metric, it)))
            .collect();
        if let Some(metric) = compared {
            cells.push(ratio_cell(result, server, metric).unwrap_or_else(|| "–".to_owned()));
        }
        writeln!(page, "| {} | {} | {} |", server.spec.label, cells.join(" | "), rounds_cell(server))?;
    }
    Ok(())
}

/// What a case compares with a reference: deliveries in a large room, and the first plotted metric
/// elsewhere. Nothing if no server has a reference.
fn compared_metric(result: &CaseResult, metrics: &[Metric]) -> Option<Metric> {
    let plotted = result.scenario.plotted();
    let metric = if metrics.contains(&CPU_PER_DELIVERY) {
        Some(DELIVERIES_PER_SECOND)
    } else {
        plotted.first().copied()
    }?;
    let has_ratio = |server| ratio_cell(result, server, metric).is_some();
    result.servers.iter().any(has_ratio).then_some(metric)
}

/// `0.79 (0.78–0.82) × tokio`.
fn ratio_cell(result: &CaseResult, server: &ServerResult, metric: Metric) -> Option<String> {
    let name = server.spec.reference();
    let reference = result.servers.iter().find(|other| other.spec.label == name)?;
    if server.spec.label == name {
        return None;
    }
    Some(format!("{} × {name}", cell(RATIO, server.ratio(reference, metric)?)))
}

/// `median (low–high)`.
fn cell(metric: Metric, summary: Summary) -> String {
    let number = |value: f64| metric.format(value);
    let Summary { median, low, high } = summary;
    if number(low) == number(high) {
        number(median)
    } else {
        format!("{} ({}–{})", number(median), number(low), number(high))
    }
}

fn rounds_cell(server: &ServerResult) -> String {
    let mut text = server.samples.len().to_string();
    let first = server.metrics().first().and_then(|metric| server.summary(*metric));
    if let Some(first) = first.filter(|first| first.median > 0.0 && server.samples.len() > 1) {
        let _ = write!(text, ", ± {:.0} %", (first.high - first.low) * 50.0 / first.median);
    }
    if server.discarded > 0 {
        let _ = write!(text, ", {} discarded", server.discarded);
    }
    let busy = |metric| server.summary(metric).map(|summary| summary.median);
    if let (Some(load), Some(own)) = (busy(LOAD_BUSY), busy(SERVER_BUSY))
        && load > BUSY
        && own < BUSY
    {
        text.push_str(", the load was the limit");
    }
    if let Some(failure) = &server.failure {
        let first_line = failure.lines().next().unwrap_or_default();
        let _ = write!(text, ", failed: {}", first_line.replace('|', "/"));
    }
    text
}
