//! Packets in MessagePack, told by the text that is the same packet for the standard parser.

mod decode;
mod encode;
mod limits;
mod oracle;
mod properties;
mod stock;

use bytes::Bytes;

use super::super::{
    Assembled, DecodeError, Decoder, EncodeError, Limits, Packet, ack_from, event_from, msgpack,
};
use crate::engine::Revision;

/// The text that is the same packet. Attachments follow it, as hexadecimal digits.
fn text(message: &[u8]) -> Result<String, DecodeError> {
    text_within(&Limits::default(), message)
}

fn text_within(limits: &Limits, message: &[u8]) -> Result<String, DecodeError> {
    let mut buffer = msgpack::Buffer::default();
    msgpack::decode(message, limits, &mut buffer).map(|packet| of_packet(&packet))
}

fn of_packet(packet: &Packet<'_>) -> String {
    let namespace = match packet.namespace() {
        "/" => String::new(),
        other => format!("{other},"),
    };
    let message = match *packet {
        Packet::Connect { auth, query, .. } => {
            assert_eq!(query, None);
            return format!("0{namespace}{}", auth.unwrap_or_default());
        }
        Packet::Disconnect { .. } => return format!("1{namespace}"),
        Packet::ConnectError { data, .. } => return format!("4{namespace}{data}"),
        Packet::Event {
            namespace,
            id,
            ref name,
            args,
        } => event_from(namespace, id, name, args),
        Packet::Ack {
            namespace,
            id,
            args,
        } => ack_from(namespace, id, args),
    };
    let message = message.unwrap();
    let mut text = super::wire(&message).to_owned();
    for data in super::attachments(&message) {
        text.push(' ');
        text.extend(data.iter().map(|byte| format!("{byte:02x}")));
    }
    text
}

/// The JSON of a value that is the argument of an event. Attachments follow as in [`text`].
fn value(message: &[u8]) -> Result<String, DecodeError> {
    value_within(&Limits::default(), message)
}

fn value_within(limits: &Limits, value: &[u8]) -> Result<String, DecodeError> {
    let event = [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e", value].concat();
    let text = text_within(limits, &event)?;
    let (_, json) = text.split_once(r#"["e","#).unwrap();
    let (json, attachments) = json.rsplit_once(']').unwrap();
    Ok(format!("{json}{attachments}"))
}

/// The message that is the same packet as a text with these attachments.
fn message(text: &str, attachments: &[&'static [u8]]) -> Result<Vec<u8>, EncodeError> {
    let mut decoder = Decoder::new(Revision::V4, Limits::default());
    let packet = decoder.text(text).expect(text);
    let mut last: Option<Assembled> = None;
    for attachment in attachments {
        last = decoder.binary(Bytes::from_static(attachment)).unwrap();
    }
    let mut message = b"before".to_vec();
    msgpack::encode(
        &packet.unwrap_or_else(|| last.as_ref().expect("attachments are missing").packet()),
        &mut message,
    )?;
    Ok(message.strip_prefix(b"before").unwrap().to_vec())
}
