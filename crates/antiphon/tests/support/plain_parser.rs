//! The parser that Socket.IO's documentation begins with: `JSON.stringify` of the packet. It has no
//! binary values. The tests have the same in JavaScript (`tests/lib/parsers.js`).

use antiphon::parser::{Decoded, Messages, PacketDecoder, PacketKind, PacketParser, RawPacket};
use antiphon::{DecodeError, EncodeError, Limits};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The packet object of Node.
#[derive(Serialize, Deserialize)]
struct Wire {
    r#type: u8,
    nsp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// The parser. It keeps nothing between messages, so that it is its own decoder.
#[derive(Debug)]
pub struct Plain;

impl PacketParser for Plain {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        let wire = Wire {
            r#type: packet.kind.number(),
            nsp: packet.namespace.to_string(),
            id: packet.id,
            data: packet.read_data()?,
        };
        messages.text(&serde_json::to_string(&wire)?);
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Self)
    }
}

impl PacketDecoder for Plain {
    fn text<'m>(
        &mut self,
        text: &'m str,
        limits: &Limits,
    ) -> Result<Option<Decoded<'m>>, DecodeError> {
        let wire: Wire = serde_json::from_str(text).map_err(DecodeError::custom)?;
        let mut packet = RawPacket::new(PacketKind::from_number(wire.r#type)?, wire.nsp);
        packet.id = wire.id;
        if let Some(data) = &wire.data {
            packet = packet.with_data(data, limits)?;
        }
        Ok(Some(packet.into()))
    }
}
