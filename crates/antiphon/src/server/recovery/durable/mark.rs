//! Up to which event clients may have had what isn't stored yet.
//!
//! A file beside the log's, with a slot for each namespace. The last sequence that was given is
//! written there before its event is delivered, without waiting for the disk: the system keeps that
//! when the process is killed. It is lost with the system, and so a slot names the boot that it
//! was written in.

use std::{fs::File, io, path::Path};

/// The id of a boot, and the sequence behind it.
const SLOT: usize = BOOT + size_of::<u64>();
const BOOT: usize = 16;

/// The file.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    boot: Option<[u8; BOOT]>,
}

impl Mark {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        Ok(Self {
            file: options.open(path)?,
            boot: boot(),
        })
    }

    /// The last sequence that was given to a client. `None` if that isn't known.
    pub(super) fn get(&self, slot: u64) -> Option<u64> {
        let mut bytes = [0; SLOT];
        read_at(&self.file, &mut bytes, slot * SLOT as u64).ok()?;
        let (boot, sequence) = bytes.split_first_chunk::<BOOT>()?;
        if self.boot.as_ref() != Some(boot) {
            return None;
        }
        Some(u64::from_le_bytes(sequence.try_into().ok()?))
    }

    /// A run of the server begins.
    pub(super) fn begin(&self, slot: u64, sequence: u64) -> io::Result<()> {
        let mut bytes = [0; SLOT];
        bytes[..BOOT].copy_from_slice(&self.boot.unwrap_or_default());
        bytes[BOOT..].copy_from_slice(&sequence.to_le_bytes());
        write_at(&self.file, &bytes, slot * SLOT as u64)
    }

    /// An event is about to be delivered.
    pub(super) fn set(&self, slot: u64, sequence: u64) -> io::Result<()> {
        let at = slot * SLOT as u64 + BOOT as u64;
        write_at(&self.file, &sequence.to_le_bytes(), at)
    }
}

/// Which boot of the system this is. `None` if it doesn't say: then nothing that was marked by
/// another process is believed.
fn boot() -> Option<[u8; BOOT]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    Some(u128::from_str_radix(&digits, 16).ok()?.to_le_bytes())
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing would be believed.
#[cfg(not(unix))]
fn write_at(_: &File, _: &[u8], _: u64) -> io::Result<()> {
    Ok(())
}
