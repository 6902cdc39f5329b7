//! `peeklock drain`, `reload` and `log-level`: the life of a running broker.

use clap::Args;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Common;
use super::failure::Failure;
use super::http::HttpClient;
use super::output;

/// Nothing of its own.
#[derive(Args, Debug)]
pub struct LifeArguments {
    #[command(flatten)]
    common: Common,
}

/// What to log.
#[derive(Args, Debug)]
pub struct LogLevelArguments {
    /// error, warn, info, debug, trace, or directives for parts of the broker, as `serve` takes them;
    /// left out, what is logged now is shown
    level: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// What came of a reload.
#[derive(Deserialize)]
struct Reloaded {
    file: String,
    rules: Vec<String>,
    changed: Vec<Changed>,
}

#[derive(Deserialize)]
struct Changed {
    text: String,
}

pub(super) async fn drain(arguments: &LifeArguments) -> Result<(), Failure> {
    let answer = ask(&arguments.common, Method::POST, "$peeklock/drain", None).await?;
    if arguments.common.json {
        return output::print_json(&answer);
    }
    output::print("the broker drains and stops\n")
}

pub(super) async fn reload(arguments: &LifeArguments) -> Result<(), Failure> {
    let answer = ask(&arguments.common, Method::POST, "$peeklock/reload", None).await?;
    if arguments.common.json {
        return output::print_json(&answer);
    }
    let wrong = |_| Failure::Other("the answer is not that of a reload".to_owned());
    let Reloaded { file, rules, changed } = serde_json::from_value(answer).map_err(wrong)?;
    let rules = rules.into_iter().map(|rule| format!("{rule} (from now on)"));
    let mut lines: Vec<_> = rules.chain(changed.into_iter().map(|one| one.text)).collect();
    if lines.is_empty() {
        lines.push("nothing has changed".to_owned());
    }
    let lines = lines.into_iter().map(|line| format!("  {}\n", output::one_line(&line)));
    let first = format!("{}\n", output::one_line(&file));
    output::print(&std::iter::once(first).chain(lines).collect::<String>())
}

pub(super) async fn log_level(arguments: &LogLevelArguments) -> Result<(), Failure> {
    let (method, body) = match &arguments.level {
        Some(level) => (Method::PUT, Some(json!({ "level": level }))),
        None => (Method::GET, None),
    };
    let answer = ask(&arguments.common, method, "$peeklock/log-level", body).await?;
    if arguments.common.json {
        return output::print_json(&answer);
    }
    let level = answer["level"].as_str().unwrap_or_default();
    output::print(&format!("{}\n", output::one_line(level)))
}

async fn ask(
    common: &Common,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, Failure> {
    let server = common.connection.server()?;
    HttpClient::new(&server).control(method, path, body).await
}
