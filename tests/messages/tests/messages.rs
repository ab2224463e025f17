//! What the compiler says of programs that use antiphon in a wrong way, and that it says nothing of
//! those that are right.
//!
//! Each program is a file in `cases/`. Its head says what is wrong with it, and behind `//~` what
//! must stand in the compiler's output, in this order. That is our own part of it (messages and
//! notes of the traits), or the words of rustc that name what is wrong. The whole output isn't
//! compared, as `trybuild` would do: it changes with each version of rustc, and the oldest that we
//! support says the same things at other places. Each case held with Rust 1.88, 1.95 and 1.97.
//!
//! rustc is called by itself, with the library that this test was built with: cargo would build it
//! once more. What is found at code generation alone, as two `Data` in a handler, is found too,
//! since code is generated.

// Helpers beside the tests fail them.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The folder of the libraries, and in it the one that stands for `antiphon`: the newest, since
/// other sets of features leave theirs there.
fn library() -> &'static (PathBuf, PathBuf) {
    static LIBRARY: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let test = env::current_exe().unwrap();
        let folder = test.parent().unwrap().to_owned();
        let is_library = |path: &PathBuf| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap();
            name.starts_with("libantiphon_test_messages-") && name.ends_with(".rlib")
        };
        let files = fs::read_dir(&folder).unwrap();
        let newest = files
            .map(|file| file.unwrap().path())
            .filter(is_library)
            .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        let newest = newest.unwrap_or_else(|| panic!("no library in {}", folder.display()));
        (folder, newest)
    })
}

/// Compiles a program; gives whether that worked, and what was said.
fn compile(program: &Path) -> (bool, String) {
    let (folder, library) = library();
    let name = program.file_stem().unwrap().to_str().unwrap();
    let object = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.o"));
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "obj"])
        .args(["--color", "never", "-D", "unused_must_use", "-L"])
        .arg(format!("dependency={}", folder.display()))
        .arg("--extern")
        .arg(format!("antiphon={}", library.display()))
        .arg("-o")
        .args([object.as_path(), program])
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// The program is refused with what its head says.
fn is_refused(case: &str) {
    let program = Path::new(ROOT).join("cases").join(format!("{case}.rs"));
    let source = fs::read_to_string(&program).unwrap();
    let expected: Vec<_> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//~ "))
        .collect();
    assert!(!expected.is_empty(), "{case}.rs says nothing with `//~`");
    let (compiles, said) = compile(&program);
    assert!(!compiles, "{case}.rs compiles");
    let mut rest = &*said;
    for part in expected {
        let found = rest.split_once(part);
        let (_, behind) = found.unwrap_or_else(|| panic!("no `{part}` (here) in:\n{said}"));
        rest = behind;
    }
}

macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                is_refused(stringify!($case));
            }
        )*

        const CASES: &[&str] = &[$(stringify!($case)),*];
    };
}

cases! {
    answer_not_deserializable
    argument_without_type
    async_closure_owns
    async_forgotten
    await_forgotten
    await_forgotten_close
    await_forgotten_last
    captures_local
    connect_returns
    data_without_deserialize
    emitted_elsewhere_not_serializable
    emitted_not_serializable
    error_not_serializable
    extractor_of_events_in_connect
    function_connect_returns
    function_holds_future
    function_middleware_error
    function_mutates
    function_no_extractor
    function_not_send
    function_reply_not_serializable
    future_not_send
    map_events_not_async
    middleware_error
    middleware_nothing
    moves_out
    nine_arguments
    no_extractor
    reason_in_event
    reference_argument
    reply_not_serializable
    state_not_clone
    two_data
    typescript_without_schema
}

#[test]
fn every_case_is_a_test() {
    let files = fs::read_dir(Path::new(ROOT).join("cases")).unwrap();
    let names = files.map(|file| file.unwrap().path());
    let names = names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let tested: BTreeSet<_> = CASES.iter().map(|case| (*case).to_owned()).collect();
    assert_eq!(names.collect::<BTreeSet<_>>(), tested);
}

#[test]
fn what_is_right_compiles_without_a_word() {
    let (compiles, said) = compile(&Path::new(ROOT).join("right/handlers.rs"));
    assert!(compiles && said.is_empty(), "{said}");
}
