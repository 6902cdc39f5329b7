//! A request out of octets: each choice takes some of them. What is chosen from is what clients write.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request};

use super::world::{HOST, token};

const METHODS: [&str; 12] = [
    "POST", "DELETE", "PUT", "GET", "POST", "DELETE", "PUT", "GET", "HEAD", "PATCH", "OPTIONS",
    "FOO",
];

const ENTITIES: [&str; 10] =
    ["q", "q", "q", "sessions", "small", "t", "t/Subscriptions/s", "a/b", "missing", "off"];

const SUFFIXES: [&str; 16] = [
    "/messages",
    "/messages",
    "/messages",
    "/messages/head",
    "/messages/head",
    "/$DeadLetterQueue/messages/head",
    "/messages/1/7da9cfd5-40d5-4bb1-8d64-ec5a52e1c547",
    "/messages/1/00000000-0000-0000-0000-000000000000",
    "",
    "",
    "",
    "/Subscriptions",
    "/Subscriptions/s2",
    "/Subscriptions/s/Rules",
    "/Subscriptions/s/Rules/r",
    "/$management",
];

const FIXED: [&str; 12] = [
    "/$Resources/queues",
    "/$Resources/Topics",
    "/$namespaceinfo",
    "/health",
    "/healthz",
    "/readyz",
    "/$servicebus/websocket",
    "/",
    "/$cbs",
    "/messages",
    "//messages/head",
    "/%00/%ff",
];

const QUERIES: [&str; 12] = [
    "",
    "api-version=2021-05",
    "api-version=2017-04&enrich=True",
    "$skip=0&$top=1",
    "%24skip=1&%24top=2",
    "$top=99999999999999999999",
    "$skip=-1",
    "timeout=1",
    "timeout=99999999999",
    "timeout=x",
    "a=%ff&%00",
    "&&=&=",
];

const BROKER_PROPERTIES: [&str; 10] = [
    r#"{"MessageId":"m","Label":"l","CorrelationId":"c","To":"t","ReplyTo":"r"}"#,
    r#"{"SessionId":"s","PartitionKey":"s","ReplyToSessionId":"r"}"#,
    r#"{"TimeToLive":40,"ScheduledEnqueueTimeUtc":"Fri, 01 Jan 2100 00:00:00 GMT"}"#,
    r#"{"TimeToLiveTimeSpan":"0.00:00:40","ViaPartitionKey":"v"}"#,
    r#"{"TimeToLive":922337203685.47754,"DeliveryCount":1,"State":"Active"}"#,
    r#"{"TimeToLive":1e308,"MessageId":7,"Label":null}"#,
    r#"{"TimeToLive":-1}"#,
    r#"{"ScheduledEnqueueTimeUtc":"Sat, 01 Jan 0000 00:00:00 +9999"}"#,
    "{",
    "[]",
];

const TYPES: [&str; 7] = [
    "application/vnd.microsoft.servicebus.json",
    "application/vnd.microsoft.servicebus.json; charset=utf-8",
    "application/atom+xml;type=entry;charset=utf-8",
    "application/xml",
    "text/plain",
    "",
    ";;;",
];

const HEADERS: [(&str, &str); 16] = [
    ("if-match", "*"),
    ("if-match", "*"),
    ("if-match", "\"1\""),
    ("priority", "\"High\""),
    ("count", "42"),
    ("ratio", "1.5e308"),
    ("flag", "true"),
    ("odd", "\"\\ud800\""),
    ("odd", "\"\\"),
    ("when", "\"Wed, 02 Jul 2014 01:32:27 GMT\""),
    ("x-forwarded-proto", "https"),
    ("servicebussupplementaryauthorization", "SharedAccessSignature sr=x"),
    ("upgrade", "websocket"),
    ("connection", "upgrade"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const BATCHES: [&str; 6] = [
    r#"[{"Body":"a"},{"Body":"b","BrokerProperties":{"Label":"l"},"UserProperties":{"p":1}}]"#,
    r#"[{"Body":"a","BrokerProperties":{"SessionId":"s","TimeToLiveTimeSpan":"1.02:03:04.5"}}]"#,
    r#"[{"UserProperties":{"a":"Wed, 02 Jul 2014 01:32:27 GMT","b":1.5,"c":true,"d":null}}]"#,
    r#"[{"Body":7}]"#,
    "[]",
    r#"{"Body":"a"}"#,
];

const DESCRIPTIONS: [(&str, &str); 8] = [
    (
        "QueueDescription",
        "<LockDuration>PT1M</LockDuration><MaxSizeInMegabytes>1024</MaxSizeInMegabytes>\
         <RequiresSession>false</RequiresSession><MaxDeliveryCount>10</MaxDeliveryCount>\
         <DefaultMessageTimeToLive>P1D</DefaultMessageTimeToLive><Status>Active</Status>\
         <UserMetadata>&lt;script&gt;</UserMetadata><ForwardTo>small</ForwardTo>",
    ),
    ("QueueDescription", ""),
    (
        "QueueDescription",
        "<RequiresDuplicateDetection>true</RequiresDuplicateDetection>\
         <DuplicateDetectionHistoryTimeWindow>PT20S</DuplicateDetectionHistoryTimeWindow>\
         <AutoDeleteOnIdle>PT5M</AutoDeleteOnIdle><Status>SendDisabled</Status>",
    ),
    (
        "TopicDescription",
        "<DefaultMessageTimeToLive>P10675199DT2H48M5.4775807S</DefaultMessageTimeToLive>",
    ),
    (
        "SubscriptionDescription",
        "<LockDuration>PT5S</LockDuration><DefaultRuleDescription><Filter i:type=\"SqlFilter\">\
         <SqlExpression>a &gt; 5 AND b LIKE 'x%'</SqlExpression></Filter><Name>n</Name>\
         </DefaultRuleDescription>",
    ),
    (
        "RuleDescription",
        "<Filter i:type=\"SqlFilter\"><SqlExpression>1=1</SqlExpression></Filter>\
         <Action i:type=\"SqlRuleAction\"><SqlExpression>SET a = 1</SqlExpression></Action>",
    ),
    (
        "RuleDescription",
        "<Filter i:type=\"CorrelationFilter\"><Label>l</Label><Properties>\
         <KeyValueOfstringanyType><Key>k</Key><Value xmlns:d=\"http://www.w3.org/2001/XMLSchema\" \
         i:type=\"d:int\">1</Value></KeyValueOfstringanyType></Properties></Filter>",
    ),
    ("RuleDescription", "<Filter i:type=\"TrueFilter\"/><Action i:type=\"EmptyRuleAction\"/>"),
];

/// What parsers have stumbled over before.
const TROUBLE: [&str; 20] = [
    "<",
    ">",
    "&",
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]]>",
    "<![CDATA[",
    "<!DOCTYPE a>",
    "&#0;",
    "%",
    "\u{0}",
    "\u{feff}",
    "é",
    "99999999999999999999",
    "-",
    "\r\n",
];

/// Octets to choose by. When they are used up, all choices are the first.
pub(super) struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    fn octet(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.octet() << 8 | self.octet()) % bound.max(1)
    }

    pub(super) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 1
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A text with something wrong in it.
    fn spoil(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(3) {
            let (from, to) = (self.below(chars.len() + 1), self.below(chars.len() + 1));
            let range = from.min(to)..from.max(to);
            match self.below(5) {
                0 => drop(chars.drain(range)),
                1 => {
                    let copy: Vec<char> = chars[range].to_vec();
                    chars.splice(from..from, copy);
                }
                2 => {
                    let octet = u8::try_from(self.octet()).unwrap_or_default();
                    chars.splice(from..from, [char::from(octet)]);
                }
                3 => {
                    // The same, again and again.
                    let copy: String = chars[range].iter().take(40).collect();
                    let many = copy.repeat(self.below(200));
                    chars.splice(from..from, many.chars().collect::<Vec<_>>());
                }
                _ => {
                    let trouble = self.of(&TROUBLE);
                    chars.splice(from..from, trouble.chars());
                }
            }
        }
        chars.into_iter().collect()
    }

    fn perhaps_spoil(&mut self, text: &str) -> String {
        if self.one_in(4) { self.spoil(text) } else { text.to_owned() }
    }

    fn path(&mut self) -> String {
        let path = if self.one_in(8) {
            self.of(&FIXED).to_owned()
        } else {
            format!("/{}{}", self.of(&ENTITIES), self.of(&SUFFIXES))
        };
        let path = match self.below(8) {
            0 => self.spoil(&path),
            1 => path.replace('/', "%2F").replacen("%2F", "/", 1),
            2 => path.to_uppercase(),
            _ => path,
        };
        // What no client of HTTP can write does not get as far as this.
        let is_plain = |c: char| c.is_ascii_graphic() && !"\"<>\\^`{|}?#".contains(c);
        path.chars().filter(|c| is_plain(*c)).collect()
    }

    fn body(&mut self) -> Vec<u8> {
        let text = match self.below(4) {
            0 => String::new(),
            1 => self.of(&BATCHES).to_owned(),
            _ => {
                let (kind, properties) = self.of(&DESCRIPTIONS);
                format!(
                    "<entry xmlns=\"http://www.w3.org/2005/Atom\"><content type=\"application/xml\">\
                     <{kind} xmlns=\"http://schemas.microsoft.com/netservices/2010/10/servicebus/connect\" \
                     xmlns:i=\"http://www.w3.org/2001/XMLSchema-instance\">{properties}</{kind}>\
                     </content></entry>"
                )
            }
        };
        let mut body = self.perhaps_spoil(&text).into_bytes();
        if self.one_in(10) && !body.is_empty() {
            let at = self.below(body.len());
            body[at] = u8::try_from(self.octet()).unwrap_or_default();
        }
        if self.one_in(40) {
            body = body.repeat(self.below(4000));
        }
        body
    }

    /// A request, and what it is for whoever reads of its failure.
    pub(super) fn request(&mut self) -> (Request<Body>, String) {
        let method = self.of(&METHODS);
        let path = self.path();
        // Nobody waits for a minute here. The first time-out is what counts.
        let uri = format!("{path}?timeout=0&{}", self.of(&QUERIES));
        let body = self.body();
        let told = format!("{method} {uri} {}", String::from_utf8_lossy(&body));
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = method;
        // A path that is none is not asked for.
        *request.uri_mut() = uri.parse().unwrap_or_default();
        let mut headers = Vec::new();
        if !self.one_in(50) {
            headers.push(("host", HOST.to_owned()));
        }
        if !self.one_in(20) {
            let token = token(self.one_in(20));
            headers
                .push(("authorization", if self.one_in(30) { self.spoil(&token) } else { token }));
        }
        if self.one_in(2) {
            let text = self.of(&BROKER_PROPERTIES);
            headers.push(("brokerproperties", self.perhaps_spoil(text)));
        }
        if self.one_in(2) {
            headers.push(("content-type", self.of(&TYPES).to_owned()));
        }
        for _ in 0..self.below(4) {
            let (name, value) = self.of(&HEADERS);
            headers.push((name, self.perhaps_spoil(value)));
        }
        let told = format!("{told} {headers:?}");
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                request.headers_mut().append(HeaderName::from_static(name), value);
            }
        }
        (request, told)
    }
}
