//! `com.microsoft:remove-rule`: a subscription loses a rule.

use peeklock_core::command::Command;
use peeklock_core::topic::command::TopicCommand;

use super::super::condition::Refusal;
use super::Context;
use super::request::{Request, wrong};

pub(super) fn command(request: Request<'_>, context: &Context<'_>) -> Result<Command, Refusal> {
    let name = request.text("rule-name")?.ok_or_else(|| wrong("rule-name", "a string"))?;
    let (origin, path) = (context.origin, context.path.clone());
    let name = name.as_str().into();
    let command = TopicCommand::RemoveRule { origin, path, name };
    Ok(Command::OfTopic(Box::new(command)))
}
