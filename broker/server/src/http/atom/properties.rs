//! The properties of a description: read with their types and bounds, and written with their names.

use std::str::FromStr;

use peeklock_core::effect::Counts;
use peeklock_core::entity::path::{EntityPath, Subqueue};
use peeklock_core::entity::settings::{EntityStatus, QueueSettings, Remarks};
use peeklock_core::time::{Span, Timestamp};

use super::error::Fault;
use super::time;
use super::values;
use super::xml::{COUNTS, Element, Writer};

pub(super) const MEGABYTE: u64 = 1024 * 1024;
pub(super) const KILOBYTE: u64 = 1024;
/// What an entity may hold that does not say: a gigabyte, as in Service Bus.
pub(super) const ENTITY_MEGABYTES: u64 = 1024;
/// The largest entity of Service Bus Premium.
const ENTITY_MEGABYTES_MAX: u64 = 81_920;
/// The window of duplicate detection that does not say: ten minutes, as in Service Bus.
pub(super) const DUPLICATE_WINDOW: Span = Span::from_secs(600);

/// The settable properties of an entity, as a request has them.
pub(super) struct Properties<'a>(pub(super) &'a Element);

impl Properties<'_> {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.text_of(name)
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let flag = values::flag(text);
        flag.map(Some).ok_or_else(|| Fault::property(name, "it is neither true nor false"))
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let number = text.trim().parse();
        number.map(Some).map_err(|_| Fault::property(name, "it is not such a number"))
    }

    /// How long something lasts that lasts for ever unless the request says otherwise.
    pub(super) fn span(&self, name: &str) -> Result<Option<Span>, Fault> {
        Ok(self.any_span(name)?.filter(|span| *span != time::FOREVER))
    }

    /// A duration that ends.
    pub(super) fn finite_span(&self, name: &str) -> Result<Option<Span>, Fault> {
        match self.any_span(name)? {
            Some(time::FOREVER) => Err(Fault::property(name, "it is too long")),
            span => Ok(span),
        }
    }

    fn any_span(&self, name: &str) -> Result<Option<Span>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let span = time::parse_span(text);
        span.map(Some).ok_or_else(|| Fault::property(name, "it is not a duration"))
    }

    /// An entity to forward to, by its name or address.
    pub(super) fn target(&self, name: &str) -> Result<Option<EntityPath>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong = |_| Fault::property(name, "it is not the address of a queue or topic");
        let address = EntityPath::parse(text.trim()).map_err(wrong)?;
        if address.management || address.path.subqueue() != Subqueue::Main {
            return Err(Fault::property(name, "messages cannot be forwarded to a subqueue"));
        }
        EntityPath::for_new_entity(address.path.name()).map(Some).map_err(wrong)
    }

    pub(super) fn status(&self) -> Result<EntityStatus, Fault> {
        let Some(text) = self.text("Status") else { return Ok(EntityStatus::Active) };
        let found = STATUSES.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(text.trim()));
        let unsettable = || Fault::property("Status", "an entity cannot be set to it");
        found.map(|(status, _)| status).ok_or_else(unsettable)
    }

    /// What an entity may hold. A number that was shown and comes back means what it was made of.
    pub(super) fn entity_bytes(&self, before: Option<u64>) -> Result<u64, Fault> {
        let default = ENTITY_MEGABYTES * MEGABYTE;
        self.bytes("MaxSizeInMegabytes", MEGABYTE, ENTITY_MEGABYTES_MAX, before, default)
    }

    /// What a message may have.
    pub(super) fn message_bytes(&self, before: Option<u64>) -> Result<u64, Fault> {
        let most = QueueSettings::MESSAGE_BYTES_CEILING / KILOBYTE;
        let default = QueueSettings::default().message_bytes_max;
        self.bytes("MaxMessageSizeInKilobytes", KILOBYTE, most, before, default)
    }

    fn bytes(
        &self,
        name: &str,
        unit: u64,
        most: u64,
        before: Option<u64>,
        default: u64,
    ) -> Result<u64, Fault> {
        match (self.number::<u64>(name)?, before) {
            (None, _) => Ok(default),
            (Some(number), Some(before)) if before / unit == number => Ok(before),
            (Some(number), _) if (1..=most).contains(&number) => Ok(number * unit),
            (Some(_), _) => Err(Fault::property(name, &format!("it has to be 1 to {most}"))),
        }
    }

    /// The window of duplicate detection, and the one to remember while there is none.
    pub(super) fn duplicate_windows(
        &self,
        before: Option<&QueueSettings>,
    ) -> Result<(Option<Span>, Option<Span>), Fault> {
        let is_on = before.is_some_and(|before| before.duplicate_window.is_some());
        let wanted = self.flag("RequiresDuplicateDetection")?.unwrap_or(is_on);
        let window = self.finite_span("DuplicateDetectionHistoryTimeWindow")?;
        let window = window.unwrap_or(DUPLICATE_WINDOW);
        let unused = Some(window).filter(|window| *window != DUPLICATE_WINDOW);
        Ok(if wanted { (Some(window), None) } else { (None, unused) })
    }

    /// What is only kept. What cannot be changed stays as it is unless the request says otherwise.
    pub(super) fn remarks(
        &self,
        before: Option<&QueueSettings>,
        unused_duplicate_window: Option<Span>,
    ) -> Result<Remarks, Fault> {
        let default = Remarks::default();
        let before = before.map_or(default, |before| before.remarks);
        let flag = |name, default| self.flag(name).map(|flag| flag.unwrap_or(default));
        Ok(Remarks {
            partitioned: flag("EnablePartitioning", before.partitioned)?,
            express: flag("EnableExpress", default.express)?,
            batched: flag("EnableBatchedOperations", default.batched)?,
            ordered: flag("SupportOrdering", default.ordered)?,
            filters_before_publishing: flag(
                "FilteringMessagesBeforePublishing",
                default.filters_before_publishing,
            )?,
            subscriptions_partitioned: flag(
                "EnableSubscriptionPartitioning",
                default.subscriptions_partitioned,
            )?,
            unused_duplicate_window,
        })
    }

    /// Refuses what would be wrong to take and do nothing about.
    pub(super) fn refuse_what_is_not_there(&self) -> Result<(), Fault> {
        for name in ["IsAnonymousAccessible", "IsClientAffine"] {
            if self.flag(name)? == Some(true) {
                return Err(Fault::property(name, "this broker does not have it"));
            }
        }
        Ok(())
    }
}

const STATUSES: [(EntityStatus, &str); 4] = [
    (EntityStatus::Active, "Active"),
    (EntityStatus::Disabled, "Disabled"),
    (EntityStatus::SendDisabled, "SendDisabled"),
    (EntityStatus::ReceiveDisabled, "ReceiveDisabled"),
];

pub(super) fn write_status(writer: &mut Writer, status: EntityStatus) {
    let found = STATUSES.into_iter().find(|(known, _)| *known == status);
    writer.leaf("Status", found.map_or("Unknown", |(_, name)| name));
}

pub(super) fn write_span(writer: &mut Writer, name: &str, span: Option<Span>) {
    writer.leaf(name, &time::show_span(span));
}

/// Text that may not be there.
pub(super) fn write_text(writer: &mut Writer, name: &str, text: &str) {
    if !text.is_empty() {
        writer.leaf(name, text);
    }
}

/// Where something is forwarded to, as an address.
pub(super) fn write_target(writer: &mut Writer, name: &str, to: Option<&EntityPath>, host: &str) {
    if let Some(path) = to {
        writer.leaf(name, &format!("sb://{host}/{path}"));
    }
}

/// When an entity was created, changed and used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) accessed: Timestamp,
}

impl Ages {
    /// An answer to who has just created it does not say when it was used.
    pub(super) fn write(self, writer: &mut Writer, is_new: bool) {
        writer.leaf("CreatedAt", &time::show_moment(self.created));
        writer.leaf("UpdatedAt", &time::show_moment(self.updated));
        if is_new {
            return;
        }
        if self.accessed <= self.created {
            writer.leaf("AccessedAt", time::NEVER);
        } else {
            writer.leaf("AccessedAt", &time::show_moment(self.accessed));
        }
    }
}

/// JavaScript takes the prefix of the children from the one attribute that it expects here.
pub(super) fn write_counts(writer: &mut Writer, counts: &Counts) {
    writer.open("CountDetails", &[("xmlns:d2p1", COUNTS)]);
    writer.value("d2p1:ActiveMessageCount", counts.active);
    writer.value("d2p1:DeadLetterMessageCount", counts.dead_letter);
    writer.value("d2p1:ScheduledMessageCount", counts.scheduled);
    writer.value("d2p1:TransferMessageCount", counts.transfer);
    writer.value("d2p1:TransferDeadLetterMessageCount", counts.transfer_dead_letter);
    writer.close("CountDetails");
}

/// All messages, of whatever kind.
pub(super) const fn total(counts: &Counts) -> u64 {
    counts.active
        + counts.dead_letter
        + counts.scheduled
        + counts.transfer
        + counts.transfer_dead_letter
}
