//! What operators and tests ask of a broker below `/$peeklock/`, in JSON.

use hyper::Method;
use serde_json::Value;

use super::failure::Failure;
use super::http::{HttpClient, Question};

/// What a token has to be for.
const DOOR: &str = "$peeklock";

impl HttpClient<'_> {
    /// Asks, and gives what the broker says if it is good. A refusal says why in its body.
    pub(super) async fn control(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let question = Question { method, path, audience: Some(DOOR), body, ..Question::default() };
        let answer = self.ask(question).await?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if answer.status.is_success() {
            return Ok(said);
        }
        let text = match said["error"].as_str() {
            Some(text) => text.to_owned(),
            None => format!("the broker answers {}", answer.status),
        };
        Err(answer.failure(text))
    }
}
