//! The table on the screen, and `results.md`.

use std::time::Duration;

use crate::{
    Settings,
    machine::Machine,
    results::{Plot, Results, Row},
    server::Kind,
};

/// A table whose columns are padded, readable as it stands and as Markdown.
#[derive(Default)]
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self(vec![head.iter().map(|&it| it.to_owned()).collect()])
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.0.push(cells);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let width = |at: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.0.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:<width$} ")?;
            }
            f.write_str("|\n")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                f.write_str("|\n")?;
            }
        }
        Ok(())
    }
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    let digits = digits.clamp(0, 4) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text
    } else {
        thousands(&text)
    }
}

/// A whole number with its thousands set apart.
fn thousands(digits: &str) -> String {
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub fn goal(ratio: f64, goal: Option<f64>) -> String {
    match goal {
        None => number(ratio),
        Some(goal) => {
            let verdict = if ratio <= goal { "ok" } else { "**miss**" };
            format!("{} (≤ {}) {verdict}", number(ratio), number(goal))
        }
    }
}

/// What is compared with what.
const RATIOS: [(Kind, Kind, &str); 6] = [
    (Kind::Ours, Kind::Socketioxide, "ours / socketioxide"),
    (Kind::Tuned, Kind::Socketioxide, "tuned / socketioxide"),
    (Kind::Ours, Kind::Node, "ours / node"),
    (Kind::Tuned, Kind::Node, "tuned / node"),
    (Kind::Ours, Kind::Floor, "ours / floor"),
    (Kind::Tuned, Kind::Floor, "tuned / floor"),
];

/// The one table: medians, ratios and goals.
pub fn table(results: &Results, kinds: &[Kind]) -> String {
    let mut head = vec!["scenario", "unit"];
    head.extend(kinds.iter().map(|kind| kind.name()));
    head.extend(RATIOS.map(|(_, _, title)| title));
    head.push("goal's machine");
    let mut table = Table::new(&head);
    for row in Row::ALL {
        let median = |kind| results.spread(row, kind).map(|it| it.median);
        if kinds.iter().all(|kind| median(*kind).is_none()) {
            continue;
        }
        let about = row.about();
        let mut cells = vec![about.title.to_owned(), about.unit.to_owned()];
        for kind in kinds {
            let beside = about.to_row.and_then(|(row, part)| {
                let other = results.spread(row, *kind)?;
                Some(other.median * part)
            });
            let absolute = about.absolute.or(beside);
            let absolute = absolute.filter(|_| matches!(kind, Kind::Ours | Kind::Tuned));
            cells.push(match (median(*kind), absolute) {
                (Some(value), None) => number(value),
                (Some(value), limit) => goal(value, limit),
                (None, _) => "-".to_owned(),
            });
        }
        for (server, peer, _) in RATIOS {
            let limit = match peer {
                Kind::Socketioxide => about.to_socketioxide,
                Kind::Node => about.to_node,
                Kind::Floor => about.to_floor,
                _ => None,
            };
            cells.push(match (median(server), median(peer)) {
                (Some(ours), Some(peer)) => goal(ours / peer, limit),
                _ => String::new(),
            });
        }
        cells.push(about.reference.to_owned());
        table.row(cells);
    }
    table.to_string()
}

/// What goes with what in a room in which everyone talks: CPU alone says little of a server that
/// gathers, since it may be at the price of latency.
pub fn talk(results: &Results, kinds: &[Kind]) -> Option<String> {
    let mut head = vec!["scenario"];
    head.extend(kinds.iter().map(|kind| kind.name()));
    let rates =
        RATIOS.map(|(server, peer, title)| (server, peer, format!("{title}, deliveries/s")));
    let rates: Vec<_> = rates
        .iter()
        .filter(|(_, peer, _)| *peer == Kind::Socketioxide)
        .collect();
    head.extend(rates.iter().map(|(_, _, title)| &**title));
    let mut table = Table::new(&head);
    let mut is_empty = true;
    for row in Row::TALK {
        let cells = kinds.iter().map(|kind| talk_cell(results, row, *kind));
        let mut cells: Vec<_> = cells.map(|cell| cell.unwrap_or("-".to_owned())).collect();
        if cells.iter().all(|cell| cell == "-") {
            continue;
        }
        is_empty = false;
        let about = row.about();
        cells.insert(0, about.title.to_owned());
        for (server, peer, _) in &rates {
            let is_full = !results
                .samples(row, *server)
                .iter()
                .any(|it| it.lag.is_some());
            let of = |kind| results.rate(row, kind);
            cells.push(match (of(*server), of(*peer)) {
                (Some(ours), Some(peer)) if is_full => {
                    let ratio = ours / peer;
                    about.rate_to_socketioxide.map_or(number(ratio), |goal| {
                        let verdict = if ratio >= goal { "ok" } else { "**miss**" };
                        format!("{} (≥ {}) {verdict}", number(ratio), number(goal))
                    })
                }
                _ => String::new(),
            });
        }
        table.row(cells);
    }
    (!is_empty).then(|| table.to_string())
}

/// CPU of a delivery, deliveries a second, latency, and whether the server kept up.
fn talk_cell(results: &Results, row: Row, kind: Kind) -> Option<String> {
    let cpu = results.spread(row, kind)?.median;
    let rate = results.rate(row, kind)?;
    let latency = results.latency(row, kind)?;
    let samples = results.samples(row, kind);
    let at = |part| latency.at(part).unwrap_or_default().as_secs_f64() * 1e3;
    let behind = samples.iter().filter(|it| !it.keeps_up()).count();
    let keeps_up = match behind {
        0 => String::new(),
        count if count == samples.len() => ", **falls behind**".to_owned(),
        count => format!(", **falls behind** in {count} of {}", samples.len()),
    };
    Some(format!(
        "{} us, {}/s, p50 {} p99 {} ms{keeps_up}",
        number(cpu),
        number(rate),
        number(at(0.5)),
        number(at(0.99)),
    ))
}

fn micros(latency: Option<Duration>) -> String {
    latency.map_or_else(String::new, |it| number(it.as_secs_f64() * 1e6))
}

/// Spread, latency and load of each measurement.
fn details(results: &Results, kinds: &[Kind]) -> Table {
    let mut table = Table::new(&[
        "scenario",
        "server",
        "median (low - high)",
        "units/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "max us",
        "load generator us/unit",
        "its share of a core",
        "its own delay, p99 us",
        "out of order",
    ]);
    for row in Row::ALL {
        for kind in kinds {
            let (Some(it), samples) = (results.spread(row, *kind), results.samples(row, *kind))
            else {
                continue;
            };
            let about = row.about();
            let count = samples.len() as f64;
            let mean = |of: fn(&crate::results::Sample) -> f64| {
                samples.iter().map(of).sum::<f64>() / count
            };
            let mut cells = vec![
                about.title.to_owned(),
                kind.to_string(),
                format!(
                    "{} ({} - {}) {}",
                    number(it.median),
                    number(it.low),
                    number(it.high),
                    about.unit
                ),
            ];
            if samples.iter().any(|sample| sample.client.is_some()) {
                let latency = results.latency(row, *kind);
                let at = |part| micros(latency.as_ref().and_then(|it| it.at(part)));
                let reordered: u64 = samples.iter().map(|sample| sample.reordered).sum();
                cells.extend([
                    number(mean(|it| it.rate)),
                    at(0.5),
                    at(0.99),
                    at(0.999),
                    at(1.0),
                    number(mean(|it| it.client.unwrap_or(0.0))),
                    format!("{:.0} %", mean(|it| it.client_busy) * 100.0),
                    micros(results.lag(row, *kind).and_then(|it| it.at(0.99))),
                    reordered.to_string(),
                ]);
            } else {
                cells.extend(vec![String::new(); 9]);
            }
            table.row(cells);
        }
    }
    table
}

/// The points of a plot, and how the last compares with the first.
fn growth(results: &Results, kinds: &[Kind], plot: Plot) -> Table {
    let (_, _, of) = plot.about();
    let lines: Vec<_> = kinds.iter().map(|kind| results.line(plot, *kind)).collect();
    let mut places: Vec<usize> = lines.iter().flatten().map(|(x, _)| *x).collect();
    places.sort_unstable();
    places.dedup();
    let mut head = vec![of];
    head.extend(kinds.iter().map(|kind| kind.name()));
    let mut table = Table::new(&head);
    for place in places {
        let mut cells = vec![thousands(&place.to_string())];
        for line in &lines {
            let value = line.iter().find(|(x, _)| *x == place);
            cells.push(value.map_or_else(|| "-".to_owned(), |(_, value)| number(*value)));
        }
        table.row(cells);
    }
    let mut cells = vec!["last / first".to_owned()];
    for line in &lines {
        cells.push(match (line.first(), line.last()) {
            (Some((_, first)), Some((_, last))) => number(last / first),
            _ => "-".to_owned(),
        });
    }
    table.row(cells);
    table
}

/// All of `results.md`.
pub fn document(
    results: &Results,
    kinds: &[Kind],
    settings: &Settings,
    machine: &Machine,
    command: &str,
    drawn: &[(Plot, String)],
) -> String {
    let mut out = String::new();
    let mut add = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    add("# Results\n".to_owned());
    add(format!(
        "Written by `{command}`. A unit is a message there and back, a connection, or a delivery of \
         a broadcast; \"us\" is CPU time of the server process for one, user and system, by the \
         kernel's accounting. Each figure is the median of {} round{} on fresh servers, taken in turn; \
         ratios are of medians. What each scenario does is in [README.md](README.md).\n",
        settings.rounds,
        if settings.rounds == 1 { "" } else { "s" }
    ));
    if !results.failures.is_empty() {
        add("## FAILED\n".to_owned());
        for failure in &results.failures {
            add(format!("* {failure}"));
        }
        add(String::new());
    }
    add(table(results, kinds));
    add(format!(
        "\"all\" is {} connections.\n",
        thousands(&settings.connections.to_string())
    ));

    if let Some(talk) = talk(results, kinds) {
        add("## A room in which everyone talks\n".to_owned());
        add("CPU of the server for a delivery, deliveries a second, and the time until a client has its \
             own copy.\n".to_owned());
        add(talk);
    }

    add("## Memory, MB\n".to_owned());
    let mut memory = Table::new(&[
        "server",
        "at the start",
        "with all connections",
        "after them",
    ]);
    for kind in kinds {
        if let Some(it) = results.memory_of(*kind) {
            let mut cells = vec![kind.to_string()];
            cells.extend(it.map(|bytes| number(bytes / 1e6)));
            memory.row(cells);
        }
    }
    add(memory.to_string());

    add("## Each measurement\n".to_owned());
    add(details(results, kinds).to_string());

    add("## Growth\n".to_owned());
    for (plot, file) in drawn {
        let (_, title, _) = plot.about();
        add(format!("### {title}\n\n![{title}](plots/{file})\n"));
        add(growth(results, kinds, *plot).to_string());
    }

    add("## Machine\n".to_owned());
    add(facts(machine));
    out
}

/// The machine, the versions, and what others had of it.
pub fn facts(machine: &Machine) -> String {
    let mut facts = Table::new(&["what", ""]);
    for (name, value) in &machine.facts {
        facts.row(vec![(*name).to_owned(), value.clone()]);
    }
    let busy = match machine.others > 0.05 {
        true => " So it was measured on a busy machine.",
        false => "",
    };
    format!(
        "{facts}\nMeanwhile other processes had {:.0} % of the processors.{busy} The run took {:.0} s.",
        machine.others * 100.0,
        machine.took.as_secs_f64()
    )
}
