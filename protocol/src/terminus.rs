//! §3.5: sources, targets and the coordinator. A terminus is kept as the bytes it came in beside
//! the view of it, because attach replies echo it exactly.

use bytes::BytesMut;

use crate::codec::{
    Composite, CompositeSpec, DecodeError, Reader, Wire, composite, put_symbol, put_uint,
    read_descriptor, read_uint,
};
use crate::value::{Map, RawValue, Symbol, Value};

/// §3.5.5: what survives of a terminus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TerminusDurability {
    /// Nothing.
    #[default]
    None,
    /// That it exists and how it is configured.
    Configuration,
    /// Its unsettled deliveries too.
    UnsettledState,
}

impl TerminusDurability {
    fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Configuration => 1,
            Self::UnsettledState => 2,
        }
    }
}

impl Wire for TerminusDurability {
    const TYPE: &'static str = "uint";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match read_uint(r)? {
            0 => Ok(Self::None),
            1 => Ok(Self::Configuration),
            2 => Ok(Self::UnsettledState),
            _ => Err(DecodeError::InvalidField { field: "terminus-durability" }),
        }
    }
    fn write(&self, out: &mut BytesMut) {
        put_uint(out, self.number());
    }
}

impl From<TerminusDurability> for Value {
    fn from(durability: TerminusDurability) -> Self {
        Self::Uint(durability.number())
    }
}

/// §3.5.6: when the expiry timer of a terminus starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ExpiryPolicy {
    /// With the detach.
    LinkDetach,
    /// With the end of the AMQP session.
    #[default]
    SessionEnd,
    /// With the end of the connection.
    ConnectionClose,
    /// Not at all.
    Never,
}

impl ExpiryPolicy {
    fn text(self) -> &'static str {
        match self {
            Self::LinkDetach => "link-detach",
            Self::SessionEnd => "session-end",
            Self::ConnectionClose => "connection-close",
            Self::Never => "never",
        }
    }
}

impl Wire for ExpiryPolicy {
    const TYPE: &'static str = "symbol";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match Symbol::read(r)?.as_str() {
            "link-detach" => Ok(Self::LinkDetach),
            "session-end" => Ok(Self::SessionEnd),
            "connection-close" => Ok(Self::ConnectionClose),
            "never" => Ok(Self::Never),
            _ => Err(DecodeError::InvalidField { field: "terminus-expiry-policy" }),
        }
    }
    fn write(&self, out: &mut BytesMut) {
        put_symbol(out, self.text());
    }
}

impl From<ExpiryPolicy> for Value {
    fn from(policy: ExpiryPolicy) -> Self {
        Self::Symbol(Symbol::from_static(policy.text()))
    }
}

composite! {
    /// §3.5.3 source: where messages of a link come from.
    #[derive(Default)]
    pub struct Source = "amqp:source:list" 0x28 {
        /// The node. A string by the specification; any type by the grammar.
        pub address: Option<Value> = "address",
        /// What survives.
        pub durable: TerminusDurability = "durable" or TerminusDurability::None,
        /// When it expires.
        pub expiry_policy: ExpiryPolicy = "expiry-policy" or ExpiryPolicy::SessionEnd,
        /// Seconds from then on.
        pub timeout: u32 = "timeout" or 0_u32,
        /// Whether the node is to be made for this link.
        pub dynamic: bool = "dynamic" or false,
        /// How to make it.
        pub dynamic_node_properties: Option<Map> = "dynamic-node-properties",
        /// `move` or `copy`.
        pub distribution_mode: Option<Symbol> = "distribution-mode",
        /// Which messages to deliver: a described filter under each name.
        pub filter: Option<Map> = "filter",
        /// The outcome of deliveries that settle without one.
        pub default_outcome: Option<Value> = "default-outcome",
        /// The outcomes that may be chosen.
        pub outcomes: Option<Vec<Symbol>> = "outcomes",
        /// Extensions.
        pub capabilities: Option<Vec<Symbol>> = "capabilities",
    }
}

composite! {
    /// §3.5.4 target: where messages of a link go.
    #[derive(Default)]
    pub struct TargetNode = "amqp:target:list" 0x29 {
        /// The node. A string by the specification; any type by the grammar.
        pub address: Option<Value> = "address",
        /// What survives.
        pub durable: TerminusDurability = "durable" or TerminusDurability::None,
        /// When it expires.
        pub expiry_policy: ExpiryPolicy = "expiry-policy" or ExpiryPolicy::SessionEnd,
        /// Seconds from then on.
        pub timeout: u32 = "timeout" or 0_u32,
        /// Whether the node is to be made for this link.
        pub dynamic: bool = "dynamic" or false,
        /// How to make it.
        pub dynamic_node_properties: Option<Map> = "dynamic-node-properties",
        /// Extensions.
        pub capabilities: Option<Vec<Symbol>> = "capabilities",
    }
}

composite! {
    /// §4.5.1 coordinator: a target that takes transactions in place of messages.
    #[derive(Default)]
    pub struct Coordinator = "amqp:coordinator:list" 0x30 {
        /// What kinds of transactions.
        pub capabilities: Option<Vec<Symbol>> = "capabilities",
    }
}

/// What the codec takes each terminus to look like.
pub(crate) const SPECS: &[CompositeSpec] = &[Source::SPEC, TargetNode::SPEC, Coordinator::SPEC];

/// What stands in the target field of an attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node.
    Node(TargetNode),
    /// The transaction coordinator.
    Coordinator(Coordinator),
    /// Something with a descriptor that is not known here.
    Unknown,
}

/// A source as it came and as it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceField {
    raw: RawValue,
    view: Source,
}

/// A target as it came and as it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetField {
    raw: RawValue,
    view: Target,
}

impl Source {
    /// A source that is the node at `address`.
    pub fn new(address: impl Into<Value>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }

    /// The same with filters.
    #[must_use]
    pub fn with_filter(mut self, filter: Map) -> Self {
        self.filter = Some(filter);
        self
    }

    /// The address, when it is text.
    pub fn address(&self) -> Option<&str> {
        self.address.as_ref()?.as_str()
    }
}

impl TargetNode {
    /// A target that is the node at `address`.
    pub fn new(address: impl Into<Value>) -> Self {
        Self { address: Some(address.into()), ..Self::default() }
    }

    /// The address, when it is text.
    pub fn address(&self) -> Option<&str> {
        self.address.as_ref()?.as_str()
    }
}

impl Target {
    /// A target that is the node at `address`.
    pub fn new(address: impl Into<Value>) -> Self {
        Self::Node(TargetNode::new(address))
    }

    /// The address of a node, when it is text.
    pub fn address(&self) -> Option<&str> {
        if let Self::Node(node) = self { node.address() } else { None }
    }
}

impl SourceField {
    /// The bytes, to echo.
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }
    /// What they say.
    pub fn view(&self) -> &Source {
        &self.view
    }
    /// The address, when it is text.
    pub fn address(&self) -> Option<&str> {
        self.view.address()
    }
}

impl TargetField {
    /// The bytes, to echo.
    pub fn raw(&self) -> &RawValue {
        &self.raw
    }
    /// What they say.
    pub fn view(&self) -> &Target {
        &self.view
    }
    /// The address of a node, when it is text.
    pub fn address(&self) -> Option<&str> {
        self.view.address()
    }
}

fn encoded(composite: &impl Composite) -> RawValue {
    let mut out = BytesMut::new();
    composite.write_described(&mut out);
    RawValue::new(out.freeze()).expect("what we encode is one value")
}

impl From<Source> for SourceField {
    fn from(view: Source) -> Self {
        Self { raw: encoded(&view), view }
    }
}

impl From<TargetNode> for TargetField {
    fn from(node: TargetNode) -> Self {
        Self { raw: encoded(&node), view: Target::Node(node) }
    }
}

impl From<Coordinator> for TargetField {
    fn from(coordinator: Coordinator) -> Self {
        Self { raw: encoded(&coordinator), view: Target::Coordinator(coordinator) }
    }
}

impl Wire for SourceField {
    const TYPE: &'static str = "*";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let raw = RawValue::read(r)?;
        let view = Source::read_described(&mut Reader::new(raw.as_bytes()))?;
        Ok(Self { raw, view })
    }
    fn write(&self, out: &mut BytesMut) {
        self.raw.encode(out);
    }
}

impl Wire for TargetField {
    const TYPE: &'static str = "*";
    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let raw = RawValue::read(r)?;
        let mut r = Reader::new(raw.as_bytes());
        let view = match read_descriptor(&mut r, "target")? {
            Some(0x29) => Target::Node(TargetNode::read_list(&mut r)?),
            Some(0x30) => Target::Coordinator(Coordinator::read_list(&mut r)?),
            _ => Target::Unknown,
        };
        Ok(Self { raw, view })
    }
    fn write(&self, out: &mut BytesMut) {
        self.raw.encode(out);
    }
}

#[cfg(test)]
mod tests;
