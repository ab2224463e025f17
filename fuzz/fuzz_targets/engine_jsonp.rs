//! No form panics or grows, what a client would post of a payload is read back, and a script holds
//! just the payload that it was made of.

#![no_main]

use antiphon_protocol::engine::jsonp::{Callback, decode_form};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(payload) = decode_form(data) {
        assert!(payload.len() < data.len(), "at least `d=` is gone");
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(callback) = Callback::parse(text) {
        assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(callback.script(b"").len() < 24);
    }
    let script = Callback::parse("0").expect("digits").script(data);
    let script = String::from_utf8(script).expect("as the payload was");
    let literal = script
        .strip_prefix("___eio[0](")
        .and_then(|rest| rest.strip_suffix(");"));
    let literal = literal.expect("a call");
    assert!(!literal.contains(['\n', '\r', '\u{2028}', '\u{2029}']));
    assert_eq!(
        serde_json::from_str::<String>(literal).expect("a literal"),
        text
    );

    // The one thing that the escape of a client can't carry, and that no JSON has.
    if !text.contains("\\\n") {
        let escaped = text.replace(r"\n", "\\\n").replace('\n', r"\n");
        let encoded: String = escaped.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let read = decode_form(format!("d={encoded}").as_bytes());
        assert_eq!(read.as_deref(), Ok(data));
    }
});
