//! What the fuzz targets share: JSON that is made from the bytes of an input, so that nearly every
//! input is a value; and what must hold for all that servers tell each other.

pub mod cluster;

/// Texts that mean something to one type or another, as the inside of a string of JSON.
const TEXTS: [&str; 32] = [
    "",
    "a",
    "A",
    "b",
    "num",
    "1",
    " 1",
    "1 ",
    "-1",
    "01",
    "+1",
    "1.0",
    "1e0",
    "256",
    "70000",
    "true",
    " true",
    "false",
    "null",
    "Unit",
    "One",
    "Two",
    "Fields",
    "\\u0031",
    "\\u0041",
    "\\n",
    "\\\"",
    "\\ud83d",
    "\\ude00",
    "\\ud83d\\ude00",
    "é",
    "\\\\ud83d",
];

const NUMBERS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "-0",
    "255",
    "256",
    "65536",
    "1.5",
    "-2.5",
    "1e3",
    "1E-2",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "0.0",
    "1e400",
];

const SPACES: [&str; 4] = ["", "", " ", "\n\t"];

/// Writes JSON, byte by byte of an input.
#[derive(Debug)]
pub struct Json<'i> {
    input: &'i [u8],
    text: String,
}

impl<'i> Json<'i> {
    /// From an input.
    #[must_use]
    pub const fn new(input: &'i [u8]) -> Self {
        Self {
            input,
            text: String::new(),
        }
    }

    /// Values with commas between them, until the input ends: at least one.
    #[must_use]
    pub fn values(mut self) -> String {
        loop {
            self.value(0);
            if self.input.is_empty() {
                return self.text;
            }
            self.text.push(',');
        }
    }

    fn next(&mut self) -> u8 {
        match self.input.split_first() {
            Some((&first, rest)) => {
                self.input = rest;
                first
            }
            None => 0,
        }
    }

    fn space(&mut self, choice: u8) {
        self.text.push_str(SPACES[usize::from(choice >> 6)]);
    }

    fn string(&mut self) {
        self.text.push('"');
        let choice = self.next();
        self.text.push_str(TEXTS[usize::from(choice) % TEXTS.len()]);
        if choice >= 224 {
            let more = self.next();
            self.text.push_str(TEXTS[usize::from(more) % TEXTS.len()]);
        }
        self.text.push('"');
    }

    fn value(&mut self, depth: usize) {
        let choice = self.next();
        self.space(choice);
        match choice & 7 {
            0 => self.text.push_str("null"),
            1 => self
                .text
                .push_str(if choice & 8 == 0 { "true" } else { "false" }),
            2 => {
                let number = self.next();
                self.text
                    .push_str(NUMBERS[usize::from(number) % NUMBERS.len()]);
            }
            3 | 4 => self.string(),
            5 if depth < 8 => self.all(choice, ('[', ']'), |json| json.value(depth + 1)),
            6 if depth < 8 => self.all(choice, ('{', '}'), |json| {
                json.string();
                json.text.push(':');
                json.value(depth + 1);
            }),
            _ => self.text.push('1'),
        }
    }

    /// A list or an object with up to seven parts.
    fn all(&mut self, choice: u8, (open, close): (char, char), mut part: impl FnMut(&mut Self)) {
        self.text.push(open);
        for index in 0..choice >> 3 & 7 {
            if index > 0 {
                self.text.push(',');
            }
            part(self);
        }
        self.text.push(close);
    }
}
