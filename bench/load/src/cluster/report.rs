//! The section of `results.md` on two servers.

use std::collections::BTreeMap;

use super::{EVENTS, Event, Kind, MEMBERS, ROOMS, Row, Who};
use crate::{
    Settings,
    machine::Machine,
    report::{Table, facts, goal, number},
    results::Spread,
};

/// Where the section begins. All behind it belongs to it.
pub const HEADING: &str = "# Two servers and a Redis";

/// Everything measured so far.
#[derive(Default)]
pub struct Results {
    rows: BTreeMap<(Row, Kind), Vec<f64>>,
    pub failures: Vec<String>,
}

impl Results {
    pub(super) fn add(&mut self, row: Row, kind: Kind, value: f64) {
        let (title, unit) = row.about();
        eprintln!("    {kind:<18} {title:<62} {value:>10.2} {unit}");
        self.rows.entry((row, kind)).or_default().push(value);
    }

    /// The rows that somebody was measured for.
    fn measured(&self) -> impl Iterator<Item = Row> {
        let is_measured = |row: &Row| self.rows.keys().any(|(of, _)| of == row);
        Row::all().into_iter().filter(is_measured)
    }

    fn spread(&self, row: Row, kind: Kind) -> Option<Spread> {
        let values = self.rows.get(&(row, kind))?;
        Spread::of(values.iter().copied())
    }
}

impl Row {
    fn all() -> Vec<Self> {
        let of = |event| [Who::Publisher, Who::Receiver, Who::Redis].map(|who| (event, who));
        let events = Event::ALL.into_iter().flat_map(of);
        let events = events.map(|(event, who)| Self::Event(event, who));
        let others = [
            Self::Hop,
            Self::NoHop,
            Self::RoundTrip,
            Self::Added,
            Self::Idle,
            Self::Elsewhere,
            Self::Move,
            Self::Lag,
            Self::LagTail,
            Self::MemoryBefore,
            Self::MemoryAfter,
        ];
        events.chain(others).collect()
    }

    /// What it is, and its unit.
    fn about(self) -> (String, &'static str) {
        let (title, unit) = match self {
            Self::Event(event, who) => {
                let event = match event {
                    Event::One => "to a room with 1 there",
                    Event::One32 => "32 to a room with 1 there",
                    Event::Room => "to a room with 1,000 there",
                    Event::Room32 => "32 to a room with 1,000 there",
                    Event::All => "to all, 1,000 there",
                    Event::All32 => "32 to all, 1,000 there",
                };
                let who = match who {
                    Who::Publisher => "publishing server",
                    Who::Receiver => "receiving server",
                    Who::Redis => "Redis",
                };
                return (format!("{event}: {who}, an event"), "us");
            }
            Self::Hop => ("until it is at a client of the other server, p50", "us"),
            Self::NoHop => ("until it is at a client of the same server, p50", "us"),
            Self::RoundTrip => ("until a bare PUBLISH is at a subscriber, p50", "us"),
            Self::Added => ("what a hop adds beyond that", "us"),
            Self::Idle => ("the other server, nothing to do, a second", "ms"),
            Self::Elsewhere => {
                let title = format!("the other server, {EVENTS} events elsewhere, a second");
                return (title, "ms");
            }
            Self::Move => ("a join or leave of a room, 100,000 a minute", "us"),
            Self::Lag => ("from a join to its subscription, p50", "us"),
            Self::LagTail => ("from a join to its subscription, p99", "us"),
            Self::MemoryBefore => ("memory before them", "MB"),
            Self::MemoryAfter => ("memory after them", "MB"),
        };
        (title.to_owned(), unit)
    }

    /// At most this part of Node's.
    const fn to_node(self) -> Option<f64> {
        match self {
            Self::Event(_, Who::Publisher | Who::Receiver) => Some(0.2),
            _ => None,
        }
    }

    /// At most this by itself.
    const fn absolute(self) -> Option<f64> {
        match self {
            Self::Added => Some(200.0),
            _ => None,
        }
    }
}

/// Medians, and what of Node's they are.
fn table(results: &Results) -> String {
    let mut head = vec!["what", "unit"];
    head.extend(Kind::ALL.iter().map(|kind| kind.name()));
    head.extend(["ours / node", "ours, Node's wire / node", "ours / floor"]);
    let mut table = Table::new(&head);
    for row in results.measured() {
        let median = |kind| results.spread(row, kind).map(|it| it.median);
        let (title, unit) = row.about();
        let mut cells = vec![title, unit.to_owned()];
        for kind in Kind::ALL {
            let is_ours = matches!(kind, Kind::Ours | Kind::NodeWire);
            let limit = row.absolute().filter(|_| is_ours);
            cells.push(median(kind).map_or("-".to_owned(), |value| goal(value, limit)));
        }
        for ours in [Kind::Ours, Kind::NodeWire] {
            cells.push(match (median(ours), median(Kind::Node), row.to_node()) {
                (Some(ours), Some(node), limit @ Some(_)) => goal(ours / node, limit),
                _ => String::new(),
            });
        }
        cells.push(
            match (median(Kind::Ours), median(Kind::Floor), row.to_node()) {
                (Some(ours), Some(floor), Some(_)) => number(ours / floor),
                _ => String::new(),
            },
        );
        table.row(cells);
    }
    table.to_string()
}

/// The lowest and the highest of each.
fn spreads(results: &Results) -> String {
    let mut head = vec!["what", "unit"];
    head.extend(Kind::ALL.iter().map(|kind| kind.name()));
    let mut table = Table::new(&head);
    for row in results.measured() {
        let (title, unit) = row.about();
        let spread = |kind| {
            results.spread(row, kind).map_or("-".to_owned(), |it| {
                format!("{} - {}", number(it.low), number(it.high))
            })
        };
        let cells = [title, unit.to_owned()].into_iter();
        table.row(cells.chain(Kind::ALL.map(spread)).collect());
    }
    table.to_string()
}

/// The section.
pub fn document(
    results: &Results,
    settings: &Settings,
    machine: &Machine,
    command: &str,
) -> String {
    let rounds = settings.rounds;
    let mut out = format!(
        "{HEADING}\n\nWritten by `{command}`. One server publishes, the other one delivers; the \
         sender's client is at the first, the receivers are at the second. CPU is user and system \
         time of the process, without what it takes with nothing to do. Medians of {rounds} \
         round{}; \"elsewhere\" is {ROOMS} rooms whose {MEMBERS} members are all at the first \
         server. What each scenario does is in [README.md](README.md).\n\n",
        if rounds == 1 { "" } else { "s" },
    );
    if !results.failures.is_empty() {
        out.push_str("## FAILED\n\n");
        for failure in &results.failures {
            out.push_str(&format!("* {failure}\n"));
        }
        out.push('\n');
    }
    for part in [
        table(results),
        "## Lowest and highest\n".to_owned(),
        spreads(results),
        "## Machine\n".to_owned(),
        facts(machine),
    ] {
        out.push_str(&part);
        out.push('\n');
    }
    out
}
