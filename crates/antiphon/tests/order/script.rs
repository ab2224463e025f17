//! What the authors do, made from a seed, and what each receiver is owed for it.

use bytes::Bytes;

use crate::support::random;

/// What becomes of a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stays,
    /// Its session moves to a WebSocket in the middle.
    Upgrades,
    /// Its session moves from polling to streaming in the middle.
    Streams,
    /// It reads nothing before all authors have ended.
    Stalls,
    /// The first author disconnects it.
    Disconnected,
    /// It leaves the namespace, and keeps its connection.
    Leaves,
    /// It hangs up.
    HangsUp,
}

impl Fate {
    /// Whether it gets all that is emitted.
    pub(crate) const fn lasts(self) -> bool {
        matches!(
            self,
            Self::Stays | Self::Upgrades | Self::Streams | Self::Stalls
        )
    }
}

/// The query of a receiver's session, and its fate. A client whose query has `deflate` offers to
/// compress; the server makes nothing of that word.
pub(crate) const RECEIVERS: [(&str, Fate); 21] = [
    ("EIO=4&transport=websocket", Fate::Stays),
    ("EIO=4&transport=websocket", Fate::Stalls),
    ("EIO=3&transport=websocket", Fate::Stays),
    ("EIO=3&transport=websocket", Fate::Stalls),
    ("EIO=4&transport=websocket&b64=1", Fate::Stays),
    ("EIO=4&transport=polling", Fate::Stays),
    ("EIO=3&transport=polling&b64=1", Fate::Stays),
    ("EIO=4&transport=polling", Fate::Upgrades),
    ("EIO=3&transport=polling&b64=1", Fate::Upgrades),
    ("EIO=4&transport=websocket", Fate::Disconnected),
    ("EIO=4&transport=polling", Fate::Disconnected),
    ("EIO=4&transport=websocket", Fate::Leaves),
    ("EIO=3&transport=websocket", Fate::HangsUp),
    ("EIO=4&transport=streaming", Fate::Stays),
    ("EIO=4&transport=streaming", Fate::Stalls),
    ("EIO=4&transport=streaming", Fate::Upgrades),
    ("EIO=4&transport=polling", Fate::Streams),
    ("EIO=4&transport=websocket&deflate", Fate::Stays),
    ("EIO=4&transport=websocket&deflate", Fate::Stalls),
    ("EIO=3&transport=websocket&b64=1&deflate", Fate::Stays),
    ("EIO=4&transport=polling&deflate", Fate::Upgrades),
];

pub(crate) const AUTHORS: usize = 4;
/// Of each author.
pub(crate) const ROOMS: usize = 2;
/// Steps that an author does without a pause.
pub(crate) const PORTION: usize = 12;

/// Who an emit goes to. Receivers and rooms by number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    All,
    Room(usize),
    AllBut(usize),
    One(usize),
}

#[derive(Debug, Clone)]
pub(crate) struct Emit {
    pub(crate) to: To,
    pub(crate) volatile: bool,
    pub(crate) asks: bool,
    /// From a thread of its own, which is waited for.
    pub(crate) elsewhere: bool,
    pub(crate) text: String,
    pub(crate) attachments: Vec<Bytes>,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Emit(Emit),
    Join(usize, usize),
    Leave(usize, usize),
    Disconnect(usize),
}

/// Where an author's steps are done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Author {
    /// In handlers, a portion for each event.
    Handler,
    Task,
    Thread,
}

pub(crate) struct Script {
    pub(crate) seed: u64,
    pub(crate) authors: Vec<(Author, Vec<Step>)>,
    /// What each receiver is owed by each author: the steps, and whether they must come.
    pub(crate) owed: Vec<Vec<Vec<(usize, bool)>>>,
}

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        let mut below = random(seed);
        let authors: Vec<_> = (0..AUTHORS)
            .map(|author| {
                let kind = [Author::Handler, Author::Thread, Author::Task];
                let kind = kind[match author {
                    0..2 => 0,
                    _ => below(3),
                }];
                (kind, steps(author, &mut below))
            })
            .collect();
        let owed = (0..RECEIVERS.len())
            .map(|receiver| {
                authors
                    .iter()
                    .map(|(_, steps)| owed(receiver, steps))
                    .collect()
            })
            .collect();
        Self {
            seed,
            authors,
            owed,
        }
    }

    pub(crate) fn emit(&self, author: usize, number: usize) -> &Emit {
        match &self.authors[author].1[number] {
            Step::Emit(emit) => emit,
            other => panic!("{other:?} was never emitted"),
        }
    }

    /// The JSON of an event.
    pub(crate) fn json(&self, author: usize, number: usize) -> String {
        let Emit {
            text, attachments, ..
        } = self.emit(author, number);
        let places = (0..attachments.len())
            .map(|index| format!(r#"{{"_placeholder":true,"num":{index}}}"#))
            .collect::<Vec<_>>()
            .join(",");
        format!(r#"["n",{author},{number},"{text}",[{places}]]"#)
    }
}

fn steps(author: usize, below: &mut impl FnMut(usize) -> usize) -> Vec<Step> {
    let mut steps = Vec::new();
    let end = 60 + below(60);
    let disconnects = below(end);
    while steps.len() < end {
        let (one, room) = (below(RECEIVERS.len()), below(ROOMS));
        match below(10) {
            0 | 1 => steps.push(Step::Join(one, room)),
            2 => steps.push(Step::Leave(one, room)),
            _ => {
                let emit = Step::Emit(emit(below));
                // Bursts are what can go wrong.
                steps.extend(vec![emit; 1 + below(6)]);
            }
        }
    }
    if author == 0 {
        let leaving = (0..RECEIVERS.len()).filter(|one| RECEIVERS[*one].1 == Fate::Disconnected);
        for one in leaving {
            steps.insert(disconnects, Step::Disconnect(one));
        }
    }
    // The sign that there is nothing more to come.
    steps.push(Step::Emit(Emit {
        to: To::All,
        volatile: false,
        asks: false,
        elsewhere: false,
        text: "end".to_owned(),
        attachments: Vec::new(),
    }));
    steps
}

fn emit(below: &mut impl FnMut(usize) -> usize) -> Emit {
    let one = below(RECEIVERS.len());
    let to = match below(8) {
        0..4 => To::All,
        4 | 5 => To::Room(below(ROOMS)),
        6 => To::AllBut(below(ROOMS)),
        _ => To::One(one),
    };
    let mut length = |usual| match below(40) {
        0 => 20_000,
        1 => 5_000,
        2..6 => 1_000,
        _ => below(usual),
    };
    let text = ["x", "\u{e9}"][length(2) % 2].repeat(length(80));
    let attachments = (0..length(8).saturating_sub(5).min(3))
        .map(|index| vec![index as u8; length(80)].into())
        .collect();
    let (volatile, asks) = [(false, false), (true, false), (false, true)][below(10).min(2)];
    Emit {
        to,
        volatile,
        asks: asks && below(4) == 0,
        elsewhere: below(16) == 0,
        text,
        attachments,
    }
}

/// What one author's steps owe to one receiver.
fn owed(receiver: usize, steps: &[Step]) -> Vec<(usize, bool)> {
    let mut owed = Vec::new();
    let mut rooms = [false; ROOMS];
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Join(one, room) if one == receiver => rooms[room] = true,
            Step::Leave(one, room) if one == receiver => rooms[room] = false,
            Step::Disconnect(one) if one == receiver => break,
            Step::Emit(ref emit) => {
                let meant = match emit.to {
                    To::All => true,
                    To::Room(room) => rooms[room],
                    To::AllBut(room) => !rooms[room],
                    To::One(one) => one == receiver,
                };
                owed.extend(meant.then_some((number, !emit.volatile)));
            }
            _ => {}
        }
    }
    owed
}
