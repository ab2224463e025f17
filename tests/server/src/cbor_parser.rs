//! A parser with binary values: the packet object of Node in CBOR, one binary message each. The
//! tests have the same in JavaScript (`tests/lib/parsers.js`).

use antiphon::parser::{Decoded, Messages, PacketDecoder, PacketKind, PacketParser, RawPacket};
use antiphon::{Bytes, DecodeError, EncodeError, Limits};
use ciborium::Value;
use serde::{Deserialize, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
struct Wire {
    r#type: u8,
    nsp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

/// A value whose floats are of 64 bits, as JavaScript's are. `ciborium` makes them of 32 bits where
/// it can, and JSON has fewer digits for these: 9007199000000000 for 2^53.
struct Exact<'v>(&'v Value);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Float(number) => to.serialize_f64(*number),
            Value::Array(values) => to.collect_seq(values.iter().map(Exact)),
            Value::Map(entries) => to.collect_map(
                entries
                    .iter()
                    .map(|(key, value)| (Exact(key), Exact(value))),
            ),
            scalar => scalar.serialize(to),
        }
    }
}

/// The parser. It keeps nothing between messages, so that it is its own decoder.
#[derive(Debug)]
pub struct Cbor;

impl PacketParser for Cbor {
    fn encode(&self, packet: &RawPacket<'_>, messages: &mut Messages) -> Result<(), EncodeError> {
        let wire = Wire {
            r#type: packet.kind.number(),
            nsp: packet.namespace.to_string(),
            id: packet.id,
            data: packet.read_data()?,
        };
        let mut message = Vec::new();
        ciborium::into_writer(&wire, &mut message).map_err(EncodeError::custom)?;
        messages.binary(&message);
        Ok(())
    }

    fn decoder(&self) -> Box<dyn PacketDecoder> {
        Box::new(Self)
    }
}

impl PacketDecoder for Cbor {
    fn binary(
        &mut self,
        data: Bytes,
        limits: &Limits,
    ) -> Result<Option<Decoded<'static>>, DecodeError> {
        // The packet is a level of its own.
        let depth = usize::from(limits.depth) + 1;
        let wire: Wire = ciborium::de::from_reader_with_recursion_limit(&data[..], depth)
            .map_err(DecodeError::custom)?;
        let mut packet = RawPacket::new(PacketKind::from_number(wire.r#type)?, wire.nsp);
        packet.id = wire.id;
        if let Some(data) = &wire.data {
            packet = packet.with_data(&Exact(data), limits)?;
        }
        Ok(Some(packet.into()))
    }
}
