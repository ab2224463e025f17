//! Logins by keys: a server says a number once, and whoever has the key signs it.
//!
//! A key (NKEY) is a seed of Ed25519 in base32, with a letter for what it is of and a checksum. With a
//! JWT it isn't the server that knows the key, but an account that has signed for it.

use std::fmt;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use crate::error::Error;

/// What a seed begins with, and the key of a user.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;

/// The key of a user.
pub(crate) struct Key {
    pair: Ed25519KeyPair,
    jwt: Option<String>,
}

/// What says that one has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// The public half of the key. `None` where it is in the JWT.
    pub(crate) nkey: Option<String>,
    pub(crate) jwt: Option<String>,
    /// What the server has said, signed.
    pub(crate) sig: String,
}

impl Key {
    /// The key of a seed, `SU..`.
    pub(crate) fn of_seed(seed: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| Error::Key {
            problem: problem.to_owned(),
        };
        let bytes = BASE32_NOPAD.decode(seed.trim().as_bytes());
        let bytes = bytes.map_err(|_| wrong("a seed has capital letters and the digits 2 to 7"))?;
        let (bytes, sum) = bytes
            .split_last_chunk::<2>()
            .ok_or_else(|| wrong("a seed is longer"))?;
        if crc(bytes) != u16::from_le_bytes(*sum) {
            return Err(wrong("its checksum doesn't fit: a letter is wrong"));
        }
        let ([first, second], seed) = bytes
            .split_first_chunk::<2>()
            .ok_or_else(|| wrong("a seed is longer"))?;
        // Two letters of five bits each, of which the first is the rest of the first byte.
        if first & 0xf8 != SEED || (first << 5) | (second >> 3) != USER {
            return Err(wrong("the seed of a user begins with SU"));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        Ok(Self {
            pair: pair.map_err(|_| wrong("a seed has 58 letters"))?,
            jwt: None,
        })
    }

    /// The JWT and the key of what `nsc` calls credentials, a `.creds` file.
    pub(crate) fn of_credentials(text: &str) -> Result<Self, Error> {
        let behind = |head: &str| {
            let mut lines = text.lines().skip_while(|line| !line.contains(head));
            lines.nth(1).map(str::trim)
        };
        let parts = behind("BEGIN NATS USER JWT").zip(behind("BEGIN USER NKEY SEED"));
        let (jwt, seed) = parts.ok_or_else(|| Error::Key {
            problem: "credentials have a JWT and a seed, as nsc writes them".to_owned(),
        })?;
        Ok(Self {
            jwt: Some(jwt.to_owned()),
            ..Self::of_seed(seed)?
        })
    }

    /// Signs what the server has said.
    pub(crate) fn sign(&self, nonce: &str) -> Signed {
        let sig = BASE64URL_NOPAD.encode(self.pair.sign(nonce.as_bytes()).as_ref());
        let jwt = self.jwt.clone();
        let nkey = match jwt {
            Some(_) => None,
            None => Some(self.public()),
        };
        Signed { nkey, jwt, sig }
    }

    /// The public half, as the server's configuration has it.
    fn public(&self) -> String {
        let mut bytes = vec![USER];
        bytes.extend(self.pair.public_key().as_ref());
        bytes.extend(crc(&bytes).to_le_bytes());
        BASE32_NOPAD.encode(&bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.public()).finish()
    }
}

/// CRC-16/XMODEM.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            let polynomial = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ polynomial
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed whose bytes are all 1, and its public key, made by another program.
    const USER_SEED: &str = "SUAACAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAIBAEAQCAN7EY";
    const PUBLIC: &str = "UCFIRY65OQE7DFP5KLNS2PF2LVZMUZYJX4OZIEQ36N2IQANUB5XVZ45L";

    #[test]
    fn a_seed_has_its_public_key() {
        let key = Key::of_seed(USER_SEED).unwrap();
        assert_eq!(key.public(), PUBLIC);
        let signed = key.sign("nonce");
        assert_eq!(signed.nkey.as_deref(), Some(PUBLIC));
        // 64 bytes, and the same each time.
        assert_eq!((signed.sig.len(), &signed), (86, &key.sign("nonce")));
        assert!(!format!("{key:?}").contains(&USER_SEED[..6]));
    }

    #[test]
    fn what_is_no_seed_of_a_user_is_told_without_it() {
        let mistyped = USER_SEED.replacen("AE", "EA", 1);
        for seed in ["", "SU", "no seed", PUBLIC, &mistyped] {
            let error = Key::of_seed(seed).unwrap_err();
            assert!(matches!(error, Error::Key { .. }), "{seed}");
            assert!(
                seed.len() < 3 || !error.to_string().contains(seed),
                "{error}"
            );
        }
    }

    #[test]
    fn credentials_are_a_jwt_and_a_seed() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.a.b\n------END NATS USER JWT------\n\n\
             ***** IMPORTANT *****\n\n\
             -----BEGIN USER NKEY SEED-----\n{USER_SEED}\n------END USER NKEY SEED------\n"
        );
        let signed = Key::of_credentials(&text).unwrap().sign("nonce");
        assert_eq!(
            (signed.jwt.as_deref(), signed.nkey),
            (Some("eyJ0.a.b"), None)
        );
        assert!(Key::of_credentials(USER_SEED).is_err());
    }
}
