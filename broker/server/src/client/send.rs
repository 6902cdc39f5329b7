//! `peeklock send`.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use peeklock_protocol::message::{Header, Message, MessageId, Properties};
use peeklock_protocol::value::{Map, Str, Symbol, Value};
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::input::{BODY_BYTES_MAX, Lines, open};
use super::messaging::Messaging;
use super::outbox::Outbox;
use super::properties::duration;
use super::{output, typed};
use crate::clock;

/// Sends messages.
#[derive(Args, Debug)]
#[command(next_help_heading = "Message")]
pub struct SendArguments {
    /// Queue or topic to send to
    entity: String,
    /// The body; without it, and without --file, standard input
    body: Option<String>,
    /// File with the body, - for standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "body")]
    file: Option<PathBuf>,
    /// Send each line of the input as a message of its own
    #[arg(long, conflicts_with_all = ["body", "count"])]
    lines: bool,
    /// Send the message so many times
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    count: u64,
    /// Application property, may be repeated; a type is string (the default), bool, int, long, double,
    /// timestamp, uuid, binary (base64), or any other simple type of AMQP
    #[arg(long, short, value_name = "NAME[:TYPE]=VALUE", value_parser = typed::parse)]
    property: Vec<(String, Value)>,
    /// Id; for several messages, -1, -2 and so on follow it
    #[arg(long, value_name = "TEXT")]
    message_id: Option<String>,
    /// Message session
    #[arg(long, short, value_name = "ID")]
    session: Option<String>,
    /// What it is about
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Id of what it answers
    #[arg(long, value_name = "TEXT")]
    correlation_id: Option<String>,
    /// MIME type of the body
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Who it is for
    #[arg(long, value_name = "TEXT")]
    to: Option<String>,
    /// Where answers go
    #[arg(long, value_name = "ENTITY")]
    reply_to: Option<String>,
    /// Message session for answers
    #[arg(long, value_name = "ID")]
    reply_to_session: Option<String>,
    /// Partition key
    #[arg(long, value_name = "TEXT")]
    partition_key: Option<String>,
    /// How long it is of use
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    ttl: Option<Duration>,
    /// Deliver it at this time, as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment, conflicts_with = "delay")]
    at: Option<i64>,
    /// Deliver it when so much time has passed
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    #[command(flatten)]
    common: Common,
}

fn moment(text: &str) -> Result<i64, String> {
    typed::moment(text).ok_or_else(|| format!("{text:?} is not a time as 2026-01-31T12:00:00Z"))
}

pub(super) async fn run(arguments: &SendArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let template = arguments.template()?;
    let mut source = Source::of(arguments)?;
    let mut messaging = Messaging::open(&server).await?;
    let link = messaging.sender(&arguments.entity).await?;
    let total = if arguments.lines { None } else { Some(arguments.count) };
    let bar = output::progress(total, "sent");
    let mut outbox = Outbox::new(link);
    let ended = feed(&mut messaging, &mut outbox, &mut source, &template, arguments, &bar).await;
    let noun = if arguments.lines { "line" } else { "message" };
    let done = outbox.finish(&mut messaging, ended, noun).await?;
    bar.finish_and_clear();
    messaging.close().await?;
    if arguments.common.json {
        return output::print_json(&json!({ "sent": done }));
    }
    output::print(&format!("sent {done} to {}\n", arguments.entity))
}

/// Sends all there is, unless the broker refuses some of it.
async fn feed(
    messaging: &mut Messaging<'_>,
    outbox: &mut Outbox,
    source: &mut Source,
    template: &Message,
    arguments: &SendArguments,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut number = 0_u64;
    while let Some(Some(body)) = outbox.next(messaging, source.next()).await? {
        number += 1;
        let mut message = Message { body: Message::data(body?).body, ..template.clone() };
        if let (Some(id), Some(properties)) = (&arguments.message_id, &mut message.properties)
            && (arguments.lines || 1 < arguments.count)
        {
            properties.message_id = Some(MessageId::from(format!("{id}-{number}").as_str()));
        }
        outbox.send(messaging, number, message.to_bytes()).await?;
        bar.set_position(outbox.accepted());
    }
    Ok(())
}

impl SendArguments {
    /// All of a message but its body.
    fn template(&self) -> Result<Message, Failure> {
        let text = |text: &Option<String>| text.as_deref().map(Str::from);
        let content_type = self.content_type.clone().map(Symbol::try_from).transpose();
        let properties = Properties {
            message_id: self.message_id.as_deref().map(MessageId::from),
            to: text(&self.to),
            subject: text(&self.subject),
            reply_to: text(&self.reply_to),
            correlation_id: self.correlation_id.as_deref().map(MessageId::from),
            content_type: content_type
                .map_err(|_| Failure::Argument("a content type is ASCII".to_owned()))?,
            group_id: text(&self.session),
            reply_to_group_id: text(&self.reply_to_session),
            ..Properties::default()
        };
        let ttl = self.ttl.map(|ttl| u32::try_from(ttl.as_millis())).transpose();
        let ttl = ttl.map_err(|_| Failure::Argument("a --ttl has 49 days at most".to_owned()))?;
        let mut annotations = Map::new();
        if let Some(key) = &self.partition_key {
            annotations.insert(Symbol::from_static("x-opt-partition-key"), key.as_str());
        }
        let delayed = self.delay.map(|delay| {
            let since = clock::time_of_day().duration_since(std::time::UNIX_EPOCH);
            i64::try_from((since.unwrap_or_default() + delay).as_millis()).unwrap_or(i64::MAX)
        });
        if let Some(at) = self.at.or(delayed) {
            let key = Symbol::from_static("x-opt-scheduled-enqueue-time");
            annotations.insert(key, Value::Timestamp(at));
        }
        let mut user = Map::new();
        for (name, value) in &self.property {
            user.insert(name.as_str(), value.clone());
        }
        Ok(Message {
            header: Some(Header { durable: Some(true), ttl, ..Header::default() }),
            message_annotations: (!annotations.is_empty()).then_some(annotations),
            properties: Some(properties),
            application_properties: (!user.is_empty()).then_some(user),
            ..Message::default()
        })
    }
}

/// Where bodies come from.
enum Source {
    Same { body: Vec<u8>, left: u64 },
    Lines(Lines),
}

impl Source {
    fn of(arguments: &SendArguments) -> Result<Self, Failure> {
        let stdin = PathBuf::from("-");
        let path = arguments.file.clone().unwrap_or(stdin);
        if arguments.lines {
            return Lines::open(&path).map(Self::Lines);
        }
        let body = if let Some(body) = &arguments.body {
            body.clone().into_bytes()
        } else {
            let mut body = Vec::new();
            let read = open(&path)?.take(BODY_BYTES_MAX + 1).read_to_end(&mut body);
            read.map_err(|error| Failure::file(&path, error))?;
            body
        };
        if BODY_BYTES_MAX < body.len() as u64 {
            return Err(Failure::Argument("a body has 100 MiB at most".to_owned()));
        }
        Ok(Self::Same { body, left: arguments.count })
    }

    async fn next(&mut self) -> Option<Result<Vec<u8>, Failure>> {
        match self {
            Self::Same { left: 0, .. } => None,
            Self::Same { body, left } => {
                *left -= 1;
                Some(Ok(body.clone()))
            }
            Self::Lines(lines) => lines.next().await,
        }
    }
}
