//! The accepted figures, and the comparison with what is counted now.

use std::{collections::BTreeMap, fmt, str::FromStr};

/// How much more instructions a path may take, in percent. The same code differs by less than
/// 0.2; other code elsewhere moves what the compiler inlines here.
const TOLERANCE: f64 = 3.0;

/// How many more system calls: they are exact, but for one in a long while, such as for memory.
const MORE_SYSTEM_CALLS: f64 = 0.2;

const HEAD: &str = "\
# What each hot path costs, once: instructions, system calls. Server paths have the client's side
# in them. Written by `./dev instructions --accept`; it holds where the environment is the same.
";
const ENVIRONMENT: &str = "environment: ";

/// What a path costs, once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Counts {
    pub(crate) instructions: u64,
    /// Under valgrind reading a clock is one, too.
    pub(crate) system_calls: f64,
}

/// The costs of each path by its name, and what they were counted with.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Figures {
    pub(crate) environment: String,
    pub(crate) counts: BTreeMap<String, Counts>,
}

impl FromStr for Figures {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut figures = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(environment) = line.strip_prefix(ENVIRONMENT) {
                figures.environment = environment.to_owned();
                continue;
            }
            let mut words = line.split_whitespace();
            let mut next = || words.next();
            let counts = (|| {
                let name = next()?.to_owned();
                let instructions = next()?.parse().ok()?;
                let system_calls = next()?.parse().ok()?;
                let counts = Counts {
                    instructions,
                    system_calls,
                };
                next().is_none().then_some((name, counts))
            })();
            let (name, counts) = counts.ok_or_else(|| format!("not a figure: {line:?}"))?;
            figures.counts.insert(name, counts);
        }
        Ok(figures)
    }
}

impl Figures {
    /// The file, in the order of these names.
    pub(crate) fn to_text(&self, names: &[&str]) -> String {
        let mut text = format!("{HEAD}{ENVIRONMENT}{}\n", self.environment);
        for name in names {
            if let Some(counts) = self.counts.get(*name) {
                let (instructions, calls) = (counts.instructions, counts.system_calls);
                text += &format!("{name:<28}{instructions:>10}{calls:>10.2}\n");
            }
        }
        text
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Same,
    /// It costs less, by more than the tolerance.
    Less,
    More,
    /// It is counted, but has no figure.
    New,
    /// It has a figure, but is no path any more.
    Gone,
}

/// A path with what was accepted, what it is now, and what to say of it.
type Line = (String, Option<Counts>, Option<Counts>, Verdict);

/// What [`compare`] has found; shown as a table and what to do.
#[derive(Debug)]
pub(crate) struct Comparison {
    lines: Vec<Line>,
    /// The accepted environment and this one, where they differ: then nothing fails.
    elsewhere: Option<(String, String)>,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

/// Compares what was counted with what was accepted. `names` are all the paths that there are, in
/// order, whether they were counted or not.
pub(crate) fn compare(accepted: &Figures, now: &Figures, names: &[&str]) -> Comparison {
    let mut lines: Vec<Line> = Vec::new();
    for name in names {
        let Some(&now) = now.counts.get(*name) else {
            continue;
        };
        let accepted = accepted.counts.get(*name).copied();
        let verdict = accepted.map_or(Verdict::New, |accepted| verdict(accepted, now));
        lines.push(((*name).to_owned(), accepted, Some(now), verdict));
    }
    for (name, &counts) in &accepted.counts {
        if !names.contains(&&**name) {
            lines.push((name.clone(), Some(counts), None, Verdict::Gone));
        }
    }
    let is_fine = |line: &&Line| matches!(line.3, Verdict::Same | Verdict::Less);
    let passed = lines.iter().filter(is_fine).count();
    let failed = lines.len() - passed;
    let is_elsewhere = !accepted.environment.is_empty() && accepted.environment != now.environment;
    let elsewhere = (accepted.environment.clone(), now.environment.clone());
    Comparison {
        lines,
        elsewhere: is_elsewhere.then_some(elsewhere),
        passed: if is_elsewhere { 0 } else { passed },
        failed: if is_elsewhere { 0 } else { failed },
    }
}

fn verdict(accepted: Counts, now: Counts) -> Verdict {
    let percent = change(accepted, now);
    let calls = now.system_calls - accepted.system_calls;
    if percent > TOLERANCE || calls > MORE_SYSTEM_CALLS {
        Verdict::More
    } else if percent < -TOLERANCE || calls < -MORE_SYSTEM_CALLS {
        Verdict::Less
    } else {
        Verdict::Same
    }
}

/// Of the instructions, in percent.
fn change(accepted: Counts, now: Counts) -> f64 {
    (now.instructions as f64 / accepted.instructions.max(1) as f64 - 1.0) * 100.0
}

impl Comparison {
    fn has(&self, verdict: Verdict) -> bool {
        self.lines.iter().any(|line| line.3 == verdict)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = "path";
        writeln!(f, "{:<28}{:>30}{:>22}", "", "instructions", "system calls")?;
        write!(
            f,
            "{name:<28}{:>10}{:>10}{:>10}",
            "accepted", "now", "change"
        )?;
        writeln!(f, "{:>12}{:>10}", "accepted", "now")?;
        for (name, accepted, now, verdict) in &self.lines {
            let instructions = |counts: &Option<Counts>| {
                counts.map_or("-".to_owned(), |counts| counts.instructions.to_string())
            };
            let calls = |counts: &Option<Counts>| {
                counts.map_or("-".to_owned(), |counts| {
                    format!("{:.2}", counts.system_calls)
                })
            };
            let change = accepted
                .zip(*now)
                .map(|(accepted, now)| change(accepted, now));
            let change = change.map_or("-".to_owned(), |change| format!("{change:+.1} %"));
            let (before, after) = (instructions(accepted), instructions(now));
            write!(f, "{name:<28}{before:>10}{after:>10}{change:>10}")?;
            write!(f, "{:>12}{:>10}", calls(accepted), calls(now))?;
            writeln!(
                f,
                "{}",
                match verdict {
                    Verdict::Same => "",
                    Verdict::Less => "  less",
                    Verdict::More => "  MORE",
                    Verdict::New => "  NO FIGURE",
                    Verdict::Gone => "  NO SUCH PATH",
                }
            )?;
        }
        if let Some((accepted, now)) = &self.elsewhere {
            writeln!(
                f,
                "warning: instructions were not compared, since the figures are of"
            )?;
            writeln!(f, "warning:   {accepted}")?;
            writeln!(f, "warning: and this is")?;
            writeln!(f, "warning:   {now}")?;
            writeln!(
                f,
                "warning: `./dev instructions --accept` makes them this one's"
            )?;
        } else {
            if self.has(Verdict::More) {
                writeln!(
                    f,
                    "MORE: over {TOLERANCE} % more instructions, or a system call more. If that \
                     is the price of the\nchange, run `./dev instructions --accept`, commit \
                     bench/instructions.txt and say why."
                )?;
            }
            if self.has(Verdict::New) || self.has(Verdict::Gone) {
                writeln!(
                    f,
                    "NO FIGURE, NO SUCH PATH: run `./dev instructions --accept` and commit \
                     bench/instructions.txt."
                )?;
            }
            if self.has(Verdict::Less) {
                writeln!(
                    f,
                    "note: some paths cost less: `./dev instructions --accept` keeps it so"
                )?;
            }
        }
        writeln!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["decode", "echo"];

    fn figures(environment: &str, decode: (u64, f64), echo: (u64, f64)) -> Figures {
        let counts = |(instructions, system_calls)| Counts {
            instructions,
            system_calls,
        };
        Figures {
            environment: environment.into(),
            counts: [
                ("decode".into(), counts(decode)),
                ("echo".into(), counts(echo)),
            ]
            .into(),
        }
    }

    fn accepted() -> Figures {
        figures("here", (1000, 0.0), (9000, 8.0))
    }

    /// Passed, failed, and what is said.
    fn outcome(now: &Figures) -> (usize, usize, String) {
        let comparison = compare(&accepted(), now, &NAMES);
        let said = comparison.to_string();
        (comparison.passed, comparison.failed, said)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = accepted().to_text(&NAMES);
        assert_eq!(text.parse(), Ok(accepted()));
    }

    #[test]
    fn a_line_that_is_no_figure_is_an_error() {
        for line in [
            "<<<<<<< HEAD",
            "decode",
            "decode 7",
            "decode 7 1 1",
            "decode x 1",
        ] {
            assert!(
                line.parse::<Figures>()
                    .is_err_and(|error| error.contains(line))
            );
        }
    }

    #[test]
    fn small_changes_pass_without_a_word() {
        let (passed, failed, said) = outcome(&figures("here", (1029, 0.1), (8740, 7.9)));
        assert_eq!((passed, failed), (2, 0));
        assert!(!said.contains("--accept"));
        assert!(said.ends_with("\n2 passed, 0 failed\n"));
    }

    #[test]
    fn more_instructions_fail_with_path_figures_and_what_to_do() {
        let (passed, failed, said) = outcome(&figures("here", (1031, 0.0), (9000, 8.0)));
        assert_eq!((passed, failed), (1, 1));
        let line = said.lines().find(|line| line.contains("MORE"));
        let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
        assert_eq!(words[..5], ["decode", "1000", "1031", "+3.1", "%"]);
        assert!(said.contains("`./dev instructions --accept`"));
    }

    #[test]
    fn one_system_call_more_fails() {
        let (passed, failed, said) = outcome(&figures("here", (1000, 0.0), (9090, 9.0)));
        assert_eq!((passed, failed), (1, 1));
        assert!(said.contains("8.00      9.00  MORE"));
    }

    #[test]
    fn a_gain_is_a_note() {
        let (passed, failed, said) = outcome(&figures("here", (900, 0.0), (9000, 7.0)));
        assert_eq!((passed, failed), (2, 0));
        assert!(said.contains("note: some paths cost less"));
        assert_eq!(said.matches("  less\n").count(), 2);
    }

    #[test]
    fn elsewhere_nothing_fails_and_it_is_said() {
        let (passed, failed, said) = outcome(&figures("there", (2000, 0.0), (9000, 8.0)));
        assert_eq!((passed, failed), (0, 0));
        assert!(said.contains("warning:   here\n") && said.contains("warning:   there\n"));
    }

    #[test]
    fn a_path_without_a_figure_fails() {
        let comparison = compare(&Figures::default(), &accepted(), &NAMES);
        assert_eq!((comparison.passed, comparison.failed), (0, 2));
        assert!(comparison.to_string().contains("NO FIGURE"));
    }

    #[test]
    fn a_figure_without_a_path_fails() {
        let comparison = compare(&accepted(), &accepted(), &["echo"]);
        assert_eq!((comparison.passed, comparison.failed), (1, 1));
        assert!(comparison.to_string().contains("NO SUCH PATH"));
    }

    #[test]
    fn what_was_not_counted_is_not_compared() {
        let mut now = accepted();
        now.counts.remove("echo");
        assert_eq!(compare(&accepted(), &now, &NAMES).passed, 1);
    }
}
