//! `peeklock send`.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use peeklock_protocol::message::{Header, Message, MessageId, Properties};
use peeklock_protocol::value::{Map, Str, Symbol, Value};
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::messaging::{IN_FLIGHT, Messaging};
use super::properties::duration;
use super::{output, typed};
use crate::clock;

/// The largest body: what one message may have on any broker.
const BODY_BYTES_MAX: u64 = 100 << 20;

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
    let (mut pending, mut number, mut done) = (VecDeque::new(), 0_u64, 0_u64);
    while let Some(body) = source.next()? {
        number += 1;
        let mut message = Message { body: Message::data(body).body, ..template.clone() };
        if let (Some(id), Some(properties)) = (&arguments.message_id, &mut message.properties)
            && (arguments.lines || 1 < arguments.count)
        {
            properties.message_id = Some(MessageId::from(format!("{id}-{number}").as_str()));
        }
        pending.push_back(messaging.send(link, message.to_bytes(), None).await?);
        while IN_FLIGHT <= pending.len()
            && let Some(id) = pending.pop_front()
        {
            messaging.accepted(link, id).await.map_err(|failure| after(done, failure))?;
            done += 1;
            bar.set_position(done);
        }
    }
    while let Some(id) = pending.pop_front() {
        messaging.accepted(link, id).await.map_err(|failure| after(done, failure))?;
        done += 1;
        bar.set_position(done);
    }
    bar.finish_and_clear();
    messaging.close().await?;
    if arguments.common.json {
        return output::print_json(&json!({ "sent": done }));
    }
    output::print(&format!("sent {done} to {}\n", arguments.entity))
}

/// How far it came before it went wrong.
fn after(done: u64, failure: Failure) -> Failure {
    let say = |text: String| if done == 0 { text } else { format!("{text} (sent before: {done})") };
    match failure {
        Failure::Refused(text) => Failure::Refused(say(text)),
        Failure::Unreachable(text) => Failure::Unreachable(say(text)),
        other => other,
    }
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
    Lines { reader: Box<dyn BufRead>, path: PathBuf },
}

impl Source {
    fn of(arguments: &SendArguments) -> Result<Self, Failure> {
        let stdin = PathBuf::from("-");
        let path = arguments.file.clone().unwrap_or(stdin);
        if arguments.lines {
            return Ok(Self::Lines { reader: open(&path)?, path });
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

    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Same { left: 0, .. } => Ok(None),
            Self::Same { body, left } => {
                *left -= 1;
                Ok(Some(body.clone()))
            }
            Self::Lines { reader, path } => next_line(reader.as_mut(), path),
        }
    }
}

/// Opens a file, or standard input.
pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The next line without its end, as octets: bodies need not be text.
pub(super) fn next_line(
    mut reader: &mut dyn BufRead,
    path: &Path,
) -> Result<Option<Vec<u8>>, Failure> {
    let mut line = Vec::new();
    // Base64 is longer than what it stands for, and a line has other sections besides.
    let limited = Read::take(&mut reader, 2 * BODY_BYTES_MAX).read_until(b'\n', &mut line);
    limited.map_err(|error| Failure::file(path, error))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}
