//! Logins by keys at a NATS server that knows the key, or an account that has signed for it.

#![cfg(feature = "keys")]
#![allow(clippy::unwrap_used)]

mod support;

use antiphon_nats::{Error, Nats};
use antiphon_test_nats::NatsServer;
use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use support::ready;

/// What names of keys begin with: operators, accounts, users, and seeds.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;
const SEED: u8 = 18 << 3;

/// A key of any of them.
struct Key {
    pair: Ed25519KeyPair,
    name: String,
    seed: String,
}

impl Key {
    fn new(kind: u8, number: u8) -> Self {
        let seed = [number; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let name = text(&[&[kind], pair.public_key().as_ref()].concat());
        let head = [SEED | (kind >> 5), (kind & 31) << 3];
        let seed = text(&[&head[..], &seed].concat());
        Self { pair, name, seed }
    }

    /// Signs what is said of a key.
    fn says(&self, of: &Self, nats: &Value) -> String {
        let claims = json!({"jti": "1", "iat": 1, "iss": self.name, "sub": of.name, "nats": nats});
        let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
        let parts = [head, claims].map(|part| BASE64URL_NOPAD.encode(part.to_string().as_bytes()));
        let signed = parts.join(".");
        let sig = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(sig.as_ref()))
    }
}

/// Bytes and their checksum, in letters.
fn text(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc: u16, _| {
            (crc << 1) ^ if crc & 0x8000 == 0 { 0 } else { 0x1021 }
        })
    });
    BASE32_NOPAD.encode(&[bytes, &sum.to_le_bytes()].concat())
}

#[tokio::test]
async fn a_seed_logs_in_where_its_public_key_is_known() {
    let (known, other) = (Key::new(USER, 1), Key::new(USER, 2));
    let users = format!("authorization {{ users: [{{ nkey: {} }}] }}", known.name);
    let nats = NatsServer::with(&users);
    let able = Nats::builder(&nats.url()).nkey(&known.seed);
    ready(&able.connect().await.unwrap()).await;
    for builder in [
        Nats::builder(&nats.url()),
        Nats::builder(&nats.url()).nkey(&other.seed),
    ] {
        let error = builder.connect().await.unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error:?}");
        assert!(!error.to_string().contains(&other.seed), "{error}");
    }
    let wrong = Nats::builder(&nats.url()).wait().nkey(&known.name);
    let error = wrong.connect().await.unwrap_err();
    assert!(matches!(error, Error::Key { .. }), "{error:?}");
}

#[tokio::test]
async fn credentials_log_in_where_the_operator_trusts_their_account() {
    let keys =
        [(OPERATOR, 1), (ACCOUNT, 2), (USER, 3)].map(|(kind, number)| Key::new(kind, number));
    let [operator, account, user] = &keys;
    let of_operator = operator.says(operator, &json!({"type": "operator", "version": 2}));
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1,
    });
    let of_account = json!({"type": "account", "version": 2, "limits": limits});
    let of_account = operator.says(account, &of_account);
    let nats = NatsServer::with(&format!(
        "operator: \"{of_operator}\"\nresolver: MEMORY\n\
         resolver_preload {{ {}: \"{of_account}\" }}",
        account.name
    ));
    let of_user = json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1});
    let credentials = |by: &Key| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            by.says(user, &of_user),
            user.seed
        )
    };
    let able = Nats::builder(&nats.url()).credentials(&credentials(account));
    ready(&able.connect().await.unwrap()).await;
    // An account that the operator hasn't signed for.
    let stranger = Key::new(ACCOUNT, 9);
    let builder = Nats::builder(&nats.url()).credentials(&credentials(&stranger));
    let error = builder.connect().await.unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
}
