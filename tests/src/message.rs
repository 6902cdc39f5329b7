//! Messages, section by section, written and read without the broker's message code: what a client
//! sent is to be compared with what a client gets.

use bytes::{Bytes, BytesMut};
use peeklock_protocol::codec::Reader;
use peeklock_protocol::value::{Map, Value};

use crate::raw;

/// Descriptor codes of the sections (§3.2).
const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const AMQP_VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// Places in the list of the properties section (§3.2.4).
const MESSAGE_ID: usize = 0;
const TO: usize = 2;
const REPLY_TO: usize = 4;
const CORRELATION_ID: usize = 5;
const GROUP_ID: usize = 10;

/// A message as its sections; what is empty is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The fields of the header, in order.
    pub header: Option<Vec<Value>>,
    /// Delivery annotations.
    pub delivery_annotations: Map,
    /// Message annotations.
    pub annotations: Map,
    /// The fields of the properties, in order.
    pub properties: Vec<Value>,
    /// Application properties.
    pub application_properties: Map,
    /// The sections of the body, each with its descriptor.
    pub body: Vec<(u64, Value)>,
    /// The footer.
    pub footer: Map,
}

impl Message {
    /// A message with one data section.
    pub fn data(octets: impl Into<Bytes>) -> Self {
        Self { body: vec![(DATA, Value::Binary(octets.into()))], ..Self::default() }
    }

    /// A message whose body is one value.
    pub fn value(value: impl Into<Value>) -> Self {
        Self { body: vec![(AMQP_VALUE, value.into())], ..Self::default() }
    }

    /// Sets the message-id.
    #[must_use]
    pub fn with_id(self, id: impl Into<Value>) -> Self {
        self.with_field(MESSAGE_ID, id.into())
    }

    /// Sets the message session it belongs to.
    #[must_use]
    pub fn with_session(self, session: &str) -> Self {
        self.with_field(GROUP_ID, session.into())
    }

    /// Sets the node that is to be answered.
    #[must_use]
    pub fn with_reply_to(self, address: &str) -> Self {
        self.with_field(REPLY_TO, address.into())
    }

    /// Sets a field of the properties by its place.
    #[must_use]
    pub fn with_field(mut self, place: usize, value: Value) -> Self {
        if self.properties.len() <= place {
            self.properties.resize(place + 1, Value::Null);
        }
        if let Some(field) = self.properties.get_mut(place) {
            *field = value;
        }
        self
    }

    /// Adds an application property.
    #[must_use]
    pub fn with_property(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.application_properties.insert(key, value);
        self
    }

    /// Adds a message annotation.
    #[must_use]
    pub fn with_annotation(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.annotations.insert(peeklock_protocol::value::Symbol::from_static(key), value);
        self
    }

    /// As it travels.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let mut put = |code: u64, value: Value| raw::described(code, value).encode(&mut out);
        if let Some(header) = &self.header {
            put(HEADER, Value::List(header.clone()));
        }
        let maps = [
            (DELIVERY_ANNOTATIONS, &self.delivery_annotations),
            (MESSAGE_ANNOTATIONS, &self.annotations),
        ];
        for (code, map) in maps.into_iter().filter(|(_, map)| !map.is_empty()) {
            put(code, Value::Map(map.clone()));
        }
        if !self.properties.is_empty() {
            put(PROPERTIES, Value::List(self.properties.clone()));
        }
        if !self.application_properties.is_empty() {
            put(APPLICATION_PROPERTIES, Value::Map(self.application_properties.clone()));
        }
        for (code, section) in &self.body {
            put(*code, section.clone());
        }
        if !self.footer.is_empty() {
            put(FOOTER, Value::Map(self.footer.clone()));
        }
        out.freeze()
    }

    /// Reads a message; its sections must carry `smallulong` descriptors, as pyamqp expects.
    #[track_caller]
    pub fn decode(octets: &Bytes) -> Self {
        let mut message = Self::default();
        let mut rest = octets.clone();
        while !rest.is_empty() {
            assert_eq!(rest.get(..2), Some(&[0x00, 0x53][..]), "a section starts with 00 53");
            let mut reader = Reader::new(&rest);
            let section = Value::decode(&mut reader).expect("a section");
            let left = reader.rest().len();
            rest = rest.slice(rest.len() - left..);
            let Value::Described(described) = section else { panic!("not a section: {section:?}") };
            match *described {
                (Value::Ulong(HEADER), Value::List(fields)) => message.header = Some(fields),
                (Value::Ulong(DELIVERY_ANNOTATIONS), Value::Map(map)) => {
                    message.delivery_annotations = map;
                }
                (Value::Ulong(MESSAGE_ANNOTATIONS), Value::Map(map)) => message.annotations = map,
                (Value::Ulong(PROPERTIES), Value::List(fields)) => message.properties = fields,
                (Value::Ulong(APPLICATION_PROPERTIES), Value::Map(map)) => {
                    message.application_properties = map;
                }
                (Value::Ulong(FOOTER), Value::Map(map)) => message.footer = map,
                (Value::Ulong(code @ DATA..=AMQP_VALUE), value) => message.body.push((code, value)),
                other => panic!("not a section: {other:?}"),
            }
        }
        message
    }

    /// The octets of the only data section.
    #[track_caller]
    pub fn data_octets(&self) -> &Bytes {
        match &self.body[..] {
            [(DATA, Value::Binary(octets))] => octets,
            other => panic!("not one data section: {other:?}"),
        }
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.data_octets()).expect("text in the body")
    }

    /// The body that is one value.
    #[track_caller]
    pub fn body_value(&self) -> &Value {
        match &self.body[..] {
            [(AMQP_VALUE, value)] => value,
            other => panic!("not one value: {other:?}"),
        }
    }

    /// The delivery-count of the header, which has to be there (.NET reads it unasked).
    #[track_caller]
    pub fn delivery_count(&self) -> u32 {
        let header = self.header.as_ref().expect("a header");
        match header.get(4) {
            Some(Value::Uint(count)) => *count,
            other => panic!("the header has no delivery-count: {other:?}"),
        }
    }

    /// A message annotation.
    pub fn annotation(&self, key: &str) -> Option<&Value> {
        self.annotations.get(key)
    }

    /// An application property.
    pub fn property(&self, key: &str) -> Option<&Value> {
        self.application_properties.get(key)
    }

    /// An application property that is a string.
    pub fn text_property(&self, key: &str) -> Option<&str> {
        self.property(key).and_then(Value::as_str)
    }

    /// The sequence number, which is a long (Go asserts the type).
    #[track_caller]
    pub fn sequence_number(&self) -> i64 {
        match self.annotation("x-opt-sequence-number") {
            Some(Value::Long(number)) => *number,
            other => panic!("no sequence number: {other:?}"),
        }
    }

    /// The lock token among the delivery annotations.
    #[track_caller]
    pub fn lock_token(&self) -> [u8; 16] {
        match self.delivery_annotations.get("x-opt-lock-token") {
            Some(Value::Uuid(token)) => *token,
            other => panic!("no lock token: {other:?}"),
        }
    }

    /// The end of the lock, in milliseconds since 1970.
    #[track_caller]
    pub fn locked_until(&self) -> i64 {
        match self.annotation("x-opt-locked-until") {
            Some(Value::Timestamp(at)) => *at,
            other => panic!("no end of the lock: {other:?}"),
        }
    }

    /// A field of the properties by its place.
    pub fn field(&self, place: usize) -> &Value {
        self.properties.get(place).unwrap_or(&Value::Null)
    }

    /// The message-id.
    pub fn id(&self) -> &Value {
        self.field(MESSAGE_ID)
    }

    /// The correlation-id.
    pub fn correlation_id(&self) -> &Value {
        self.field(CORRELATION_ID)
    }

    /// The node it is for.
    pub fn to(&self) -> &Value {
        self.field(TO)
    }
}

/// An envelope with these encoded messages, as the SDKs batch them (message-format 0x80013700).
pub fn envelope(messages: &[Bytes]) -> Bytes {
    let body = messages.iter().map(|message| (DATA, Value::Binary(message.clone()))).collect();
    Message { body, ..Message::default() }.encode()
}

/// The message-format of an envelope.
pub const ENVELOPE_FORMAT: u32 = 0x8001_3700;
