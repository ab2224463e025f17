//! Counts what each hot path costs under callgrind, and compares it with the figures in
//! `bench/instructions.txt`: a regression shows without a quiet machine.

mod callgrind;
mod figures;

use std::{
    env, fs,
    io::{self, ErrorKind},
    process::ExitCode,
};

use antiphon_micro::{Path, paths};

use crate::figures::Figures;

type Error = Box<dyn std::error::Error + Send + Sync>;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../instructions.txt");

const USAGE: &str = "usage: ./dev instructions [--accept] [WORD]
  WORD      only the paths whose name contains it
  --accept  write what is counted as the new figures";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args[..] {
        ["run", name, times] => once(name, times),
        [] => check(""),
        ["--accept"] => accept(""),
        ["--accept", word] | [word, "--accept"] if !word.starts_with('-') => accept(word),
        [word] if !word.starts_with('-') => check(word),
        _ => Err(USAGE.into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What runs under callgrind.
fn once(name: &str, times: &str) -> Result<bool, Error> {
    let path = paths().find(|path| path.name == name);
    path.ok_or("no such path")?.run(times.parse()?);
    Ok(true)
}

fn chosen(word: &str) -> Result<Vec<Path>, Error> {
    let chosen: Vec<Path> = paths().filter(|path| path.name.contains(word)).collect();
    if chosen.is_empty() {
        return Err(format!("no path has {word} in its name").into());
    }
    Ok(chosen)
}

fn read() -> Result<Figures, Error> {
    match fs::read_to_string(FILE) {
        Ok(text) => text
            .parse()
            .map_err(|error| format!("{FILE}: {error}").into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Figures::default()),
        Err(error) => Err(io::Error::new(error.kind(), format!("{FILE}: {error}")).into()),
    }
}

fn accept(word: &str) -> Result<bool, Error> {
    let environment = callgrind::environment()?;
    // When all are counted, the file is not even read: it may be the two sides of a merge.
    let mut figures = if word.is_empty() {
        Figures::default()
    } else {
        read()?
    };
    if !word.is_empty() && figures.environment != environment {
        let was = figures.environment;
        return Err(format!("the other figures are of {was}: accept all, without {word}").into());
    }
    figures.environment = environment;
    for (path, counts) in callgrind::count(&chosen(word)?)? {
        figures.counts.insert(path.name.to_owned(), counts);
    }
    let names: Vec<&str> = paths().map(|path| path.name).collect();
    fs::write(FILE, figures.to_text(&names))?;
    println!("written: git diff bench/instructions.txt");
    Ok(true)
}

fn check(word: &str) -> Result<bool, Error> {
    let accepted = read()?;
    let environment = callgrind::environment()?;
    let mut now = Figures {
        environment,
        ..Figures::default()
    };
    let counted = callgrind::count(&chosen(word)?)?;
    for (path, counts) in counted {
        now.counts.insert(path.name.to_owned(), counts);
    }
    let names: Vec<&str> = paths().map(|path| path.name).collect();
    let comparison = figures::compare(&accepted, &now, &names);
    print!("{comparison}");
    Ok(comparison.failed == 0)
}
