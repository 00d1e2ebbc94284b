//! The result as a page: RESULTS.md.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;

use crate::{
    plot,
    rounds::{CaseResult, ServerResult, Summary},
    sample::{LOAD_BUSY, Metric, SERVER_BUSY},
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
    fs::write(folder.join("RESULTS.md"), page)?;
    Ok(())
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
    writeln!(page, "\n### {}\n\n| server | {} | rounds |", result.case, titles.join(" | "))?;
    writeln!(page, "|---|{}---|", "---:|".repeat(metrics.len()))?;
    for server in &result.servers {
        let cells: Vec<_> = metrics
            .iter()
            .map(|metric| server.summary(*metric).map_or_else(|| "–".to_owned(), |it| cell(*metric, it)))
            .collect();
        writeln!(page, "| {} | {} | {} |", server.spec.label, cells.join(" | "), rounds_cell(server))?;
    }
    Ok(())
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
