//! The management API, as far as tests of something else need it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::broker::{DEV_KEY, DEV_RULE};
use crate::peer::PATIENCE;
use crate::{TestBroker, sas};

const SERVICE_BUS: &str = "http://schemas.microsoft.com/netservices/2010/10/servicebus/connect";

/// An access rule: name, primary key, and rights with spaces between them. Keys are the base64 of 32
/// octets.
pub type Rule<'a> = (&'a str, &'a str, &'a str);

/// Creates a queue with access rules, and gives the status.
#[track_caller]
pub fn create_queue(broker: &TestBroker, name: &str, rules: &[Rule<'_>]) -> u16 {
    request(broker, "PUT", name, "", &description(rules))
}

/// Gives a queue other access rules, and gives the status.
#[track_caller]
pub fn update_queue(broker: &TestBroker, name: &str, rules: &[Rule<'_>]) -> u16 {
    request(broker, "PUT", name, "If-Match: *\r\n", &description(rules))
}

/// Deletes a queue, and gives the status.
#[track_caller]
pub fn delete_queue(broker: &TestBroker, name: &str) -> u16 {
    request(broker, "DELETE", name, "", "")
}

/// Creates a subscription of a topic, and gives the status.
#[track_caller]
pub fn create_subscription(broker: &TestBroker, topic: &str, name: &str) -> u16 {
    let description = format!("<SubscriptionDescription xmlns=\"{SERVICE_BUS}\"/>");
    request(broker, "PUT", &format!("{topic}/subscriptions/{name}"), "", &entry(&description))
}

fn entry(description: &str) -> String {
    format!(
        "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
         {description}</content></entry>"
    )
}

fn description(rules: &[Rule<'_>]) -> String {
    let rule = |(name, key, rights): &Rule<'_>| {
        let rights: Vec<_> = rights
            .split(' ')
            .map(|right| format!("<AccessRights>{right}</AccessRights>"))
            .collect();
        format!(
            "<AuthorizationRule><ClaimType>SharedAccessKey</ClaimType><Rights>{}</Rights>\
             <KeyName>{name}</KeyName><PrimaryKey>{key}</PrimaryKey></AuthorizationRule>",
            rights.concat()
        )
    };
    let rules = rules.iter().map(rule).collect::<Vec<_>>().concat();
    entry(&format!(
        "<QueueDescription xmlns=\"{SERVICE_BUS}\"><AuthorizationRules>{rules}</AuthorizationRules>\
         </QueueDescription>"
    ))
}

#[track_caller]
fn request(broker: &TestBroker, method: &str, name: &str, headers: &str, body: &str) -> u16 {
    let token = sas::token("https://localhost", DEV_RULE, DEV_KEY, sas::now() + 3600);
    let mut stream = TcpStream::connect(broker.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a patience");
    let request = format!(
        "{method} /{name}?api-version=2021-05 HTTP/1.1\r\nHost: localhost\r\nAuthorization: {token}\r\n\
         Connection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("the broker reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer}"))
}
