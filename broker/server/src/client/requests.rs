//! Requests over a pair of links: `$cbs`, and `$management` of entities.

use std::time::Duration;

use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::message::{Message, MessageId, Properties};
use peeklock_protocol::performative::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::{Map, Str, Value};

use super::failure::{Failure, for_people};
use super::messaging::Messaging;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_mins(1);

/// Answers that may come before credit is given again. Each request waits for its own.
const ANSWERS: u32 = 10;

/// A node that answers.
#[derive(Clone, Debug)]
pub(super) struct Node {
    requests: LinkId,
    answers: LinkId,
    reply_to: String,
}

/// What a request came to.
#[derive(Debug)]
pub(super) struct Answer {
    /// 204: there is nothing of what was asked for.
    pub(super) empty: bool,
    pub(super) body: Map,
}

impl Messaging<'_> {
    /// Asks an entity for an operation of its management node.
    pub(super) async fn manage(
        &mut self,
        entity: &str,
        operation: &str,
        body: Map,
    ) -> Result<Answer, Failure> {
        self.authorize(entity).await?;
        let properties = Map::new()
            .with("operation", format!("com.microsoft:{operation}"))
            .with("com.microsoft:server-timeout", 60_000_u32);
        let request = Message::value(body).with_application_properties(properties);
        let answer = self.ask(&format!("{entity}/$management"), request).await?;
        let status = answer.application_property("statusCode").and_then(Value::as_i64);
        if matches!(status, Some(200..300)) {
            let body = answer.body.as_value().and_then(Value::as_map).cloned();
            return Ok(Answer { empty: status == Some(204), body: body.unwrap_or_default() });
        }
        let text = |key| answer.application_property(key).and_then(Value::as_str);
        let said = text("statusDescription").unwrap_or("no reason given");
        let condition = text("errorCondition").unwrap_or_default();
        let text = format!("{entity}: {}", for_people(said));
        Err(match (status, condition) {
            (_, "com.microsoft:message-not-found") | (Some(404), _) => Failure::NotFound(text),
            (Some(400..500), _) => Failure::Refused(text),
            _ => Failure::Other(text),
        })
    }

    /// Shows the broker a token.
    pub(super) async fn put_token(&mut self, audience: &str, token: &str) -> Result<(), Failure> {
        let properties = Map::new()
            .with("operation", "put-token")
            .with("type", "servicebus.windows.net:sastoken")
            .with("name", audience);
        let request = Message::value(token).with_application_properties(properties);
        let answer = self.ask("$cbs", request).await?;
        let status = answer.application_property("status-code").and_then(Value::as_i64);
        if matches!(status, Some(200..300)) {
            return Ok(());
        }
        let text = answer.application_property("status-description").and_then(Value::as_str);
        Err(Failure::Refused(format!(
            "{audience}: {}",
            for_people(text.unwrap_or("the token was refused"))
        )))
    }

    async fn ask(&mut self, address: &str, mut request: Message) -> Result<Message, Failure> {
        let node = if let Some(node) = self.nodes.get(address) {
            node.clone()
        } else {
            let node = self.attach_node(address).await?;
            self.nodes.insert(address.to_owned(), node.clone());
            node
        };
        let id = MessageId::String(Str::from(format!("{}", self.number())));
        request.properties = Some(Properties {
            message_id: Some(id.clone()),
            reply_to: Some(Str::from(node.reply_to.as_str())),
            ..Properties::default()
        });
        self.credit(node.answers, ANSWERS)?;
        // Without a look at tokens: the request may be the one that brings a token.
        let sent = self.send_now(node.requests, request.to_bytes()).await?;
        let delivery = self
            .until("waiting for an answer", ANSWER_WITHIN, |this| {
                let at = this.arrived.iter().position(|one| one.link == node.answers)?;
                this.arrived.remove(at)
            })
            .await?;
        self.accepted(node.requests, sent).await?;
        if !delivery.settled {
            let state = DeliveryState::Accepted;
            let settled =
                self.client.connection().settle_incoming(node.answers, delivery.id, state, true);
            settled.map_err(|error| Failure::Unreachable(error.to_string()))?;
        }
        let wrong = || Failure::Other(format!("{address}: the answer cannot be read"));
        let answer = Message::decode(&delivery.payload).map_err(|_| wrong())?;
        let answered = answer.properties.as_ref().and_then(|p| p.correlation_id.as_ref());
        if answered != Some(&id) {
            return Err(wrong());
        }
        Ok(answer)
    }

    async fn attach_node(&mut self, address: &str) -> Result<Node, Failure> {
        let number = self.number();
        let reply_to = format!("cli-answers-{}-{number}", std::process::id());
        let mut attach = Attach::new(reply_to.clone(), 0, Role::Receiver);
        attach.snd_settle_mode = Some(SenderSettleMode::Mixed);
        attach.rcv_settle_mode = Some(ReceiverSettleMode::First);
        attach.source = Some(Source::new(Str::from(address)).into());
        attach.target = Some(TargetNode::new(Str::from(reply_to.as_str())).into());
        let (answers, _) = self.attach(attach, ANSWER_WITHIN).await?;
        let name = format!("cli-requests-{}-{number}", std::process::id());
        let mut attach = Attach::new(name.clone(), 0, Role::Sender);
        attach.snd_settle_mode = Some(SenderSettleMode::Mixed);
        attach.rcv_settle_mode = Some(ReceiverSettleMode::First);
        attach.source = Some(Source::new(Str::from(name)).into());
        attach.target = Some(TargetNode::new(Str::from(address)).into());
        let (requests, _) = self.attach(attach, ANSWER_WITHIN).await?;
        Ok(Node { requests, answers, reply_to })
    }
}
