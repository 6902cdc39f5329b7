//! The way of a [`Peer`] to an open connection: protocol headers, SASL and open.

use bytes::Bytes;
use peeklock_protocol::codec::Reader;
use peeklock_protocol::performative::Open;
use peeklock_protocol::value::{Symbol, Value};

use crate::peer::{MAX_FRAME_SIZE, Peer};
use crate::raw;

impl Peer {
    /// Exchanges the headers of the SASL layer and reads the mechanisms.
    #[track_caller]
    pub fn sasl_mechanisms(&mut self) -> Vec<String> {
        self.write(raw::SASL);
        assert_eq!(&self.read_header(), raw::SASL);
        let mechanisms = self.expect_sasl(0x40);
        mechanisms[0].items().iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Sends sasl-init.
    #[track_caller]
    pub fn sasl_init(&mut self, mechanism: &'static str, response: Option<&[u8]>) {
        let response =
            response.map_or(Value::Null, |octets| Value::Binary(Bytes::copy_from_slice(octets)));
        let mechanism = Symbol::from_static(mechanism);
        let init = raw::described(0x41, Value::List(vec![mechanism.into(), response]));
        self.write(&raw::frame(raw::TYPE_SASL, 0, &init.to_bytes()));
    }

    /// Reads sasl-outcome and gives its code.
    #[track_caller]
    pub fn sasl_outcome(&mut self) -> u64 {
        self.expect_sasl(0x44)[0].as_u64().expect("a code")
    }

    /// The whole exchange, which has to succeed.
    #[track_caller]
    #[must_use]
    pub fn sasl(mut self, mechanism: &'static str, response: Option<&[u8]>) -> Self {
        self.sasl_mechanisms();
        self.sasl_init(mechanism, response);
        assert_eq!(self.sasl_outcome(), 0, "the outcome of {mechanism}");
        self
    }

    /// SASL ANONYMOUS.
    #[track_caller]
    #[must_use]
    pub fn anonymous(self) -> Self {
        self.sasl("ANONYMOUS", Some(b""))
    }

    /// SASL PLAIN, which has to succeed.
    #[track_caller]
    #[must_use]
    pub fn plain(self, rule: &str, key: &str) -> Self {
        self.sasl("PLAIN", Some(format!("\0{rule}\0{key}").as_bytes()))
    }

    /// Reads a SASL frame and gives the fields of its list.
    #[track_caller]
    fn expect_sasl(&mut self, code: u64) -> Vec<Value> {
        let frame = self.frame().expect("a SASL frame");
        assert_eq!(frame.kind, raw::TYPE_SASL, "{frame:?}");
        assert!(frame.size <= 512, "SASL frames are at most 512 bytes (§5.3.1)");
        let value = Value::decode(&mut Reader::new(&frame.body)).expect("a SASL frame");
        let (descriptor, fields) = value.as_described().expect("a described list");
        assert_eq!(descriptor, &Value::Ulong(code), "{value:?}");
        fields.as_list().expect("a list").to_vec()
    }

    /// Exchanges the AMQP header and open.
    #[track_caller]
    #[must_use]
    pub fn open(self) -> Self {
        self.open_with(Open {
            container_id: "tests".into(),
            hostname: Some("localhost".into()),
            max_frame_size: Some(MAX_FRAME_SIZE),
            ..Open::default()
        })
    }

    /// Exchanges the AMQP header and this open.
    #[track_caller]
    #[must_use]
    pub fn open_with(mut self, open: Open) -> Self {
        self.write(raw::AMQP);
        self.announce(&open);
        self.write(&raw::amqp_frame(0, &open.into(), &[]));
        assert_eq!(&self.read_header(), raw::AMQP);
        self.expect_open();
        self
    }

    /// Remembers what frames this peer said it takes.
    fn announce(&mut self, open: &Open) {
        self.max_frame_size = open.max_frame_size.unwrap_or(u32::MAX);
    }

    /// Reads the broker's open.
    #[track_caller]
    pub fn expect_open(&mut self) -> Open {
        let open: Open = self.expect();
        self.remote_open = Some(open.clone());
        open
    }

    /// The broker's open.
    #[track_caller]
    pub fn remote_open(&self) -> &Open {
        self.remote_open.as_ref().expect("the broker's open")
    }

    /// The largest frame the broker takes.
    pub fn frame_size_max(&self) -> u32 {
        self.remote_open.as_ref().map_or(512, |open| open.max_frame_size.unwrap_or(u32::MAX))
    }
}
