//! Bars of one metric as an SVG, readable on light and dark pages.

use std::fmt::Write as _;

use crate::{
    rounds::{CaseResult, ServerResult, Summary},
    sample::Metric,
};

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 200.0;
const VALUE_WIDTH: f64 = 110.0;
const ROW: f64 = 26.0;
const TOP: f64 = 40.0;

const STYLE: &str = "<style>\
    text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}\
    .page{fill:#fff}.own{fill:#0969da}.other{fill:#8c959f}.floor{fill:#c8ccd1}.range{stroke:#1f2328}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.page{fill:#0d1117}.own{fill:#4493f8}\
    .other{fill:#6e7681}.floor{fill:#3d444d}.range{stroke:#e6edf3}}</style>";

/// The bars of all servers that have the metric, or `None` if there are none.
pub fn draw(result: &CaseResult, metric: Metric) -> Option<String> {
    let rows: Vec<(&ServerResult, Summary)> =
        result.servers.iter().filter_map(|server| Some((server, server.summary(metric)?))).collect();
    let most = rows.iter().map(|(_, summary)| summary.high).fold(0.0, f64::max);
    if most <= 0.0 {
        return None;
    }
    let height = TOP + ROW * rows.len() as f64 + 10.0;
    let scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / most;
    let title = escape(&format!("{}, {}: {}", result.scenario.name(), result.case, metric.title));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{title}\">{STYLE}<rect class=\"page\" width=\"100%\" height=\"100%\"/>\
         <text class=\"title\" x=\"10\" y=\"22\">{title}</text>"
    );
    for (index, (server, summary)) in rows.iter().enumerate() {
        let (top, middle) = (TOP + ROW * index as f64, TOP + ROW * (index as f64 + 0.5));
        let [bar, low, high] =
            [summary.median, summary.low, summary.high].map(|value| LABEL_WIDTH + value * scale);
        let class = match (server.spec.is_signalbox(), server.spec.is_floor()) {
            (true, _) => "own",
            (_, true) => "floor",
            _ => "other",
        };
        let label = escape(server.spec.short_label());
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{label}</text>\
             <rect class=\"{class}\" x=\"{LABEL_WIDTH}\" y=\"{:.0}\" width=\"{:.1}\" height=\"18\" rx=\"2\"/>\
             <line class=\"range\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{}</text>",
            LABEL_WIDTH - 8.0,
            middle + 4.5,
            top + 4.0,
            bar - LABEL_WIDTH,
            high + 8.0,
            middle + 4.5,
            metric.format(summary.median),
        );
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
