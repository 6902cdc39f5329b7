mod doors;
mod issuers;
mod namespaces;
mod topics;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peeklock_core::entity::settings::QueueSettings;
use peeklock_core::time::Span;

use super::*;

/// A configuration file that goes away with the test.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn with(text: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("peeklock-config-{}-{unique}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file left behind in the temporary directory does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn load_text(
    text: &str,
    pairs: &[(&str, &str)],
    mut overrides: Overrides,
) -> Result<Settings, String> {
    let file = Scratch::with(text);
    overrides.config = Some(file.0.clone());
    load(&overrides, variables(pairs))
        .map_err(|error| error.to_string().replace(&file.0.display().to_string(), "FILE"))
}

fn from_file(text: &str) -> Result<Settings, String> {
    load_text(text, &[], Overrides::default())
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    assert_eq!(from_file(text).unwrap_err(), expected);
}

pub(super) fn addresses(settings: &Settings) -> Vec<String> {
    settings.listeners.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_file_is_valid_and_says_the_defaults() {
    let text = include_str!("../../../../deploy/peeklock.example.toml");
    let settings = from_file(text).unwrap();
    assert_eq!(settings.data_dir, PathBuf::from("/var/lib/peeklock"));
    assert_eq!(addresses(&settings), ["0.0.0.0:5671", "0.0.0.0:5672"]);
    assert!(settings.tls.is_some() && !settings.plain_text);
    let names: Vec<_> = settings.queues.iter().map(|queue| queue.path.to_string()).collect();
    assert_eq!(names, ["orders", "eu/invoices"]);
    assert_eq!(settings.queues[1].settings.lock_duration, Span::from_secs(30));
    assert_eq!(settings.topics[0].subscriptions[1].rules.as_ref().map(Vec::len), Some(2));
    assert_eq!(settings.warnings, Vec::<String>::new());

    // What it shows commented out must be the default and must be valid.
    let is_value = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
    };
    let shown = text.lines().filter(|line| is_value(line)).count();
    assert!(20 <= shown, "only {shown} defaults are shown");
    let uncommented: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("listen"))
        .map(|line| if is_value(line) { &line[1..] } else { line })
        .collect();
    let explicit = from_file(&uncommented.join("\n")).unwrap();
    let default = from_file("").unwrap();
    assert_eq!(explicit.limits, default.limits);
    assert_eq!(explicit.storage, default.storage);
    assert_eq!(explicit.core, default.core);
    assert_eq!(explicit.log, default.log);
    assert_eq!(explicit.metrics.entities_max, default.metrics.entities_max);
    assert_eq!(explicit.listeners, default.listeners);
    assert_eq!(explicit.queues[0].settings, QueueSettings::default());
    assert_eq!(explicit.topics[0].subscriptions[0].settings, QueueSettings::default());
}

#[test]
fn nothing_configured_is_safe() {
    let settings = load(&Overrides::default(), []).unwrap();
    assert!(settings.listeners.iter().all(ListenAddress::is_loopback));
    assert_eq!(addresses(&settings), ["127.0.0.1:5672", "127.0.0.1:5300"]);
    assert!(!settings.plain_text && settings.tls.is_none());
    assert!(!settings.dev && !settings.ephemeral && !settings.virtual_time);
    assert!(settings.queues.is_empty());
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
}

#[test]
fn virtual_time_is_asked_for_and_warned_of() {
    let option = || Overrides { virtual_time: true, dev: true, ..Overrides::default() };
    let by_option = load_text("virtual_time = false", &[], option());
    let variable = [("PEEKLOCK_VIRTUAL_TIME", "true"), ("PEEKLOCK_DEV", "true")];
    let by_variable = load_text("", &variable, Overrides::default());
    let by_file = from_file("virtual_time = true\ndev = true");
    for settings in [by_option, by_variable, by_file] {
        let settings = settings.unwrap();
        assert!(settings.virtual_time);
        let [warning] = &settings.warnings[..] else { panic!("{:?}", settings.warnings) };
        assert!(warning.starts_with("virtual time is on"), "{warning}");
    }
}

#[test]
fn the_later_source_wins() {
    let file = "
        listen = ['127.0.0.1:1']
        data = 'from-file'
        ephemeral = true
        [limits]
        connections = 10
        links_per_connection = 7
        [log]
        level = 'warn'";
    let environment = [
        ("PEEKLOCK_LISTEN", "127.0.0.1:2, [::1]:2"),
        ("PEEKLOCK_LIMITS__CONNECTIONS", "20"),
        ("PEEKLOCK_LIMITS__ENTITIES", "30000"),
        ("PEEKLOCK_LIMITS__IDLE_TIMEOUT", "30s"),
        ("PEEKLOCK_DATA", "from-environment"),
        ("PEEKLOCK_LOG__LEVEL", "error"),
        ("PEEKLOCK_QUEUE", "one,two"),
        ("RUST_LOG", "trace"),
    ];
    let settings = load_text(file, &environment, Overrides::default()).unwrap();
    assert_eq!(addresses(&settings), ["127.0.0.1:2", "[::1]:2"]);
    assert_eq!((settings.limits.connections_max, settings.core.queues_max), (20, 30_000));
    assert_eq!(settings.limits.links_per_connection, 7);
    assert_eq!(settings.limits.idle_timeout, Duration::from_secs(30));
    assert_eq!(settings.data_dir, PathBuf::from("from-environment"));
    assert!(settings.ephemeral);
    assert_eq!(settings.log.level, "error");
    assert_eq!(settings.queues.len(), 2);

    let overrides = Overrides {
        data: Some("from-options".into()),
        listen: vec!["localhost:3".to_owned()],
        log_level: Some("debug".to_owned()),
        ..Overrides::default()
    };
    let settings = load_text(file, &environment, overrides).unwrap();
    assert_eq!(addresses(&settings), ["localhost:3"]);
    assert_eq!(settings.data_dir, PathBuf::from("from-options"));
    assert!(!settings.ephemeral, "--data asks for a store on disk");
    assert_eq!(settings.log.level, "debug");
    assert_eq!(settings.limits.connections_max, 20);
}

#[test]
fn the_level_comes_from_rust_log_when_nothing_else_says_it() {
    let settings = load(&Overrides::default(), variables(&[("RUST_LOG", "debug")])).unwrap();
    assert_eq!(settings.log.level, "debug");
}

#[test]
fn a_variable_may_hold_toml() {
    let rule = "[{ name = 'app', primary_key = 'k', rights = ['send'], entity = 'orders' }]";
    let queue = "[{ name = 'orders', lock_duration = '5s' }]";
    let pairs = [("PEEKLOCK_RULE", rule), ("PEEKLOCK_QUEUE", queue), ("PEEKLOCK_DEV", "true")];
    let settings = load(&Overrides::default(), variables(&pairs)).unwrap();
    assert_eq!(settings.queues[0].settings.lock_duration, Span::from_secs(5));
    assert!(settings.dev);
}

#[test]
fn a_queue_by_name_does_not_change_a_configured_one() {
    let overrides =
        Overrides { queues: vec!["ORDERS".into(), "new".into()], ..Overrides::default() };
    let text = "[[queue]]\nname = 'orders'\nmax_delivery_count = 3";
    let settings = load_text(text, &[], overrides).unwrap();
    let [orders, new] = settings.queues.as_slice() else { panic!("{:?}", settings.queues) };
    assert_eq!((orders.settings.attempts_max, orders.only_if_missing), (3, false));
    assert_eq!((new.settings.attempts_max, new.only_if_missing), (10, true));
}

#[test]
fn a_refusal_names_file_line_key_and_reason() {
    check_refused(
        "\n[[queue]]\nname = 'a'\n[[queue]]\nname = 'b'\nlock_duration = '1s'",
        "FILE:6: queue[1].lock_duration: 1s is not between 5s and 5m",
    );
    check_refused(
        "[[queue]]\nname = 'a'\nlock_duration = '1 year'",
        "FILE:3: queue[0].lock_duration: \"1 year\" is not a span of time: write it as \"60s\", \
         \"1m30s\" or \"500ms\"",
    );
    check_refused(
        "[[queue]]\nname = 'a'\nmax_delivery_count = 0",
        "FILE:3: queue[0].max_delivery_count: 0 is not between 1 and 2147483647",
    );
    check_refused(
        "[[queue]]\nname = 'a'\nmax_delivery_count = 99999999999",
        "FILE:3: queue[0].max_delivery_count: 99999999999 is not between 1 and 2147483647",
    );
    check_refused(
        "[[queue]]\nname = 'a'\nmax_message_size = '200 MiB'",
        "FILE:3: queue[0].max_message_size: 200 MiB is not between 1 KiB and 100 MiB",
    );
    check_refused(
        "[[queue]]\nname = 'a'\nmax_message_size = -1",
        "FILE:3: queue[0].max_message_size: is negative",
    );
    check_refused(
        "[[queue]]\nname = 'a'\nmax_message_size = '4 MiB'\nmax_size = '2 MiB'",
        "FILE:4: queue[0].max_size: 2 MiB is less than one message may have (max_message_size is 4 \
         MiB)",
    );
    check_refused(
        "[[queue]]\nname = 'a'\n\n[[queue]]\nname = 'A'",
        "FILE:5: queue[1].name: the queue A is declared twice",
    );
    check_refused("listen = []", "FILE:1: listen: at least one address is needed");
    check_refused(
        "listen = [\n  '127.0.0.1:5672',\n  '127.0.0.1']",
        "FILE:3: listen[1]: \"127.0.0.1\" is not HOST:PORT, as 127.0.0.1:5672 or [::1]:5672",
    );
    check_refused("listen = ['a:1', 'a:1']", "FILE:1: listen[1]: a:1 is listed twice");
    check_refused(
        "hosts = ['sb://host']",
        "FILE:1: hosts[0]: \"sb://host\" is not a host name (no scheme, no port)",
    );
    check_refused(
        "[limits]\nidle_timeout = '1s'",
        "FILE:2: limits.idle_timeout: 1s is not between 10s and 1h",
    );
    check_refused("[log]\nformat = 'xml'", "FILE:2: log.format: is \"human\" or \"json\"");
    check_refused(
        "[storage]\ncache = '1 KiB'",
        "FILE:2: storage.cache: 1 KiB is not between 8 MiB and 1024 GiB",
    );
}

#[test]
fn what_the_parser_refuses_has_its_key_too() {
    check_refused(
        "[limits]\nconnections = 'many'",
        "FILE:2: limits.connections: invalid type: string, expected i64",
    );
    let unknown = from_file("[limits]\n\nconections = 1").unwrap_err();
    assert!(
        unknown.starts_with("FILE:3: limits.conections: unknown field `conections`"),
        "{unknown}"
    );
    let missing = from_file("[[rule]]\nname = 'a'\nrights = ['send']").unwrap_err();
    assert!(missing.contains("rule: missing field `primary_key`"), "{missing}");
    let syntax = from_file("data = 'a'\nlisten = [").unwrap_err();
    assert!(syntax.starts_with("FILE:2: listen: "), "{syntax}");
    let size = from_file("[storage]\ncache = true").unwrap_err();
    assert_eq!(size, "FILE:2: storage.cache: expected a number of bytes, as 1048576 or \"1 MiB\"");
}

#[test]
fn a_refusal_names_the_variable_or_option() {
    let refused = |pairs: &[(&str, &str)], overrides: Overrides| {
        load(&overrides, variables(pairs)).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&[("PEEKLOCK_LIMITS__CONNECTIONS", "0")], Overrides::default()),
        "environment variable PEEKLOCK_LIMITS__CONNECTIONS: limits.connections: 0 is not between 1 \
         and 1000000"
    );
    let unknown = refused(&[("PEEKLOCK_LIMITS__CONECTIONS", "1")], Overrides::default());
    assert!(
        unknown.starts_with("environment variable PEEKLOCK_LIMITS__CONECTIONS: unknown field"),
        "{unknown}"
    );
    let listen = Overrides { listen: vec!["5672".into()], ..Overrides::default() };
    assert_eq!(
        refused(&[], listen),
        "--listen: listen[0]: \"5672\" is not HOST:PORT, as 127.0.0.1:5672 or [::1]:5672"
    );
    let level = Overrides { log_level: Some("a=b=c".into()), ..Overrides::default() };
    assert!(refused(&[], level).starts_with("--log-level: log.level: \"a=b=c\" is not a level"));
    let queue = Overrides { queues: vec!["$cbs".into()], ..Overrides::default() };
    assert!(refused(&[], queue).starts_with("--queue: \"$cbs\" cannot name a queue: "));
    let missing = Overrides { config: Some("/no/such/file".into()), ..Overrides::default() };
    assert!(refused(&[], missing).starts_with("/no/such/file: cannot be read: "));
}

#[test]
fn a_variable_cannot_bring_further_keys() {
    let pairs = [("PEEKLOCK_DATA", "'a'\ndev = true")];
    let settings = load(&Overrides::default(), variables(&pairs)).unwrap();
    assert!(!settings.dev);
    assert_eq!(settings.data_dir, PathBuf::from("'a'\ndev = true"));
}

#[test]
fn variables_of_kubernetes_are_no_mistakes() {
    let pairs = [("PEEKLOCK_PORT", "tcp://10.0.0.1:5672"), ("PEEKLOCK_SERVICE_HOST", "10.0.0.1")];
    let overrides = Overrides { dev: true, ..Overrides::default() };
    let settings = load(&overrides, variables(&pairs)).unwrap();
    assert_eq!(settings.warnings.len(), 2, "{:?}", settings.warnings);
}

#[test]
fn the_well_known_key_on_an_open_listener_is_warned_of() {
    let overrides =
        Overrides { dev: true, listen: vec!["0.0.0.0:5672".into()], ..Overrides::default() };
    let settings = load(&overrides, []).unwrap();
    assert!(settings.warnings[0].contains("well-known key"), "{:?}", settings.warnings);
}

/// Keys are planted wherever a mistake could bring one into a message.
#[test]
fn keys_are_never_shown() {
    const CANARY: &str = "canary-7e1f";
    let rule = |body: &str| format!("[[rule]]\nname = 'app'\n{body}\n");
    let mistakes = [
        rule(&format!("primry_key = '{CANARY}'\nrights = ['send']")),
        rule(&format!("primary_key = ['{CANARY}']\nrights = ['send']")),
        rule(&format!("primary_key = '{CANARY}'\nrights = ['fly']")),
        rule(&format!("primary_key = '{CANARY}'\nrights = []")),
        rule(&format!("primary_key = '{CANARY}' rights = ['send']")),
        rule(&format!("primary_key = '{CANARY}\nrights = ['send']")),
        rule(&format!("primary_key = '{CANARY}'\nprimary_key = '{CANARY}'")),
        rule(&format!("primary_key = '{CANARY}'\nsecondary_key = ''\nrights = ['send']")),
        rule(&format!("primary_key = '{CANARY}'\nrights = ['send']\nentity = '$x'")),
    ];
    for text in mistakes {
        let refusal = from_file(&text).unwrap_err();
        assert!(refusal.starts_with("FILE:"), "{refusal}");
        assert!(!refusal.contains(CANARY), "{refusal}");
    }
    let good =
        rule(&format!("primary_key = '{CANARY}'\nsecondary_key = '{CANARY}'\nrights = ['send']"));
    let settings = from_file(&good).unwrap();
    let shown = format!("{settings:?}");
    assert!(shown.contains("app") && !shown.contains(CANARY), "{shown}");

    let value = format!("[{{ name = 'a', primary_key = '{CANARY}', rights = 1 }}]");
    let refusal = load(&Overrides::default(), variables(&[("PEEKLOCK_RULE", &value)])).unwrap_err();
    assert!(!refusal.to_string().contains(CANARY), "{refusal}");
}

#[test]
fn listen_addresses() {
    let parsed = |text: &str| text.parse::<ListenAddress>().map(|address| address.to_string()).ok();
    for good in ["127.0.0.1:5672", "localhost:0", "[::1]:5672", "broker-1.example:65535"] {
        assert_eq!(parsed(good).as_deref(), Some(good));
    }
    for bad in
        ["", ":5672", "host", "host:", "host:65536", "::1:5672", "[host]:1", "a b:1", "a/b:1"]
    {
        assert_eq!(parsed(bad), None, "{bad}");
    }
}

#[test]
fn frames_are_as_large_as_all_connections_can_have_one() {
    let frame = |limits: &str| {
        from_file(&format!("[limits]\n{limits}")).unwrap().limits.max_frame_size >> 10
    };
    assert_eq!(frame("memory = '16 GiB'"), 256);
    assert_eq!(frame("memory = '1 GiB'\nconnections = 100"), 256);
    assert_eq!(frame("memory = '1 GiB'"), 32);
    assert_eq!(frame("memory = '256 MiB'\nconnections = 1000000"), 16);
    assert_eq!(frame("memory = '256 MiB'\nmax_frame_size = '1 MiB'"), 1024);
}

#[test]
fn fewer_entities_are_shown_when_that_is_wanted() {
    assert_eq!(from_file("").unwrap().metrics.entities_max, 10_000);
    assert_eq!(from_file("[metrics]\nentities = 0").unwrap().metrics.entities_max, 0);
    let variable = [("PEEKLOCK_METRICS__ENTITIES", "20")];
    let settings = load_text("[metrics]\nentities = 7", &variable, Overrides::default()).unwrap();
    assert_eq!(settings.metrics.entities_max, 20);
    check_refused(
        "[metrics]\nentities = -1",
        "FILE:2: metrics.entities: -1 is not between 0 and 1000000",
    );
    check_refused(
        "[metrics]\nentities = 1000001",
        "FILE:2: metrics.entities: 1000001 is not between 0 and 1000000",
    );
}
