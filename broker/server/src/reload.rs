//! Taking the configuration again while the broker runs: when the file changes, on SIGHUP, and when
//! somebody asks. Rules and the level of the log count at once, all else from the next start; what is
//! different is told in either case.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::audit::{self, Audit, Event, Outcome};
use crate::auth::{Authority, RuleChange};
use crate::config::{Counts, Difference, Given, Settings, Source};
use crate::life::{Life, NotReloaded, ReloadRequest};
use crate::namespaces::NamespaceName;

/// How often the file is looked at: whoever takes a key away wants that to count soon. It is small.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Those who decide in the namespaces of the configuration.
pub(crate) struct Authorities {
    default: Arc<Authority>,
    others: Vec<(NamespaceName, Arc<Authority>)>,
}

impl Authorities {
    pub(crate) fn of(settings: &Settings) -> Self {
        let others = settings.namespaces.iter();
        let others = others.map(|one| (one.name.clone(), Arc::clone(&one.authority)));
        Self { default: Arc::clone(&settings.authority), others: others.collect() }
    }

    /// Takes the rules of a configuration that was read again, as far as its namespaces are there.
    fn adopt(&self, settings: &Settings) -> Vec<(Option<&NamespaceName>, RuleChange)> {
        let new = Authorities::of(settings);
        let own = self.default.adopt(&new.default).into_iter().map(|change| (None, change));
        let mut changes: Vec<_> = own.collect();
        for (name, authority) in &self.others {
            match new.others.iter().find(|(other, _)| other == name) {
                Some((_, new)) => {
                    let own = authority.adopt(new).into_iter();
                    changes.extend(own.map(|change| (Some(name), change)));
                }
                None => {
                    warn!(namespace = %name, "it is to go, which takes a restart; its rules stay");
                }
            }
        }
        changes
    }
}

/// Takes new rules when there are any, and looks at once on SIGHUP and when somebody asks.
pub(crate) async fn watch(
    mut reader: Reader,
    mut requests: mpsc::Receiver<ReloadRequest>,
    mut stop: watch::Receiver<bool>,
) {
    // Also without a file: unhandled, the signal would end the broker.
    let mut hangup: Option<Signal> = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            warn!(%error, "SIGHUP cannot be waited for, new rules are found all the same");
            None
        }
    };
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let mut request = None;
        let is_asked = tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY), if reader.source.path().is_some() => false,
            _ = hung_up => true,
            Some(asked) = requests.recv() => {
                request = Some(asked);
                true
            }
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let looked = tokio::task::spawn_blocking(move || {
            let looked = reader.look(is_asked);
            (reader, looked)
        });
        let looked = match looked.await {
            Ok((back, looked)) => {
                reader = back;
                looked
            }
            Err(error) => {
                warn!(%error, "the configuration cannot be looked at any more");
                return;
            }
        };
        if let Some(request) = request {
            // Whoever asked may have gone.
            let _ = request.send(looked.answer());
        }
    }
}

/// What came of taking the configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Reloaded {
    file: String,
    /// What became of access rules, and of clients with certificates: that counts already.
    rules: Vec<String>,
    /// Which keys say something else than what the broker goes by.
    changed: Vec<Changed>,
}

/// A difference, and how it is told to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Changed {
    #[serde(flatten)]
    difference: Difference,
    text: String,
}

/// Reads the configuration again.
pub(crate) struct Reader {
    source: Source,
    /// What the broker goes by.
    given: Given,
    authorities: Authorities,
    life: Life,
    audit: Audit,
    /// What was in the file when it was last taken or refused.
    judged: Option<Vec<u8>>,
    /// What was in it at the last look.
    seen: Option<Vec<u8>>,
    unreadable: bool,
}

/// What came of a look.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Looked {
    /// There is no file.
    NoFile,
    /// It cannot be read now.
    Unreadable(String),
    /// Nothing is new.
    Same,
    /// The file is another one. It may still be being written.
    Waiting,
    Taken(Reloaded),
    Refused(String),
}

impl Looked {
    fn answer(self) -> Result<Reloaded, NotReloaded> {
        match self {
            Self::Taken(reloaded) => Ok(reloaded),
            Self::NoFile => Err(NotReloaded::NoFile),
            Self::Unreadable(why) | Self::Refused(why) => Err(NotReloaded::Wrong(why)),
            // Whoever asks gets neither.
            Self::Same | Self::Waiting => Err(NotReloaded::Stopping),
        }
    }
}

impl Reader {
    pub(crate) fn new(
        source: Source,
        given: Given,
        authorities: Authorities,
        life: Life,
        audit: Audit,
    ) -> Self {
        let judged = source.text().map(|text| text.as_bytes().to_vec());
        Self { source, given, authorities, life, audit, judged, seen: None, unreadable: false }
    }

    fn look(&mut self, is_asked: bool) -> Looked {
        if is_asked {
            self.audit.reopen();
        }
        let Some(path) = self.source.path() else {
            info!("there is no configuration file to read again");
            return Looked::NoFile;
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) => return self.complain(&error, is_asked),
        };
        self.unreadable = false;
        if !is_asked && self.judged.as_ref() == Some(&text) {
            self.seen = None;
            return Looked::Same;
        }
        // An editor empties a file before it writes. Whoever sends a signal has finished.
        if !is_asked && self.seen.as_ref() != Some(&text) {
            self.seen = Some(text);
            return Looked::Waiting;
        }
        let path = path.to_owned();
        self.judged = Some(text);
        self.seen = None;
        self.take(&path)
    }

    fn take(&mut self, path: &Path) -> Looked {
        let settings = match self.source.load() {
            Ok(settings) => settings,
            Err(error) => {
                warn!("the configuration stays as it is: {error}");
                return Looked::Refused(error.to_string());
            }
        };
        let rules = self.authorities.adopt(&settings);
        let differences = self.given.differences(&settings.given);
        let changes = rules.len() + differences.len();
        info!(file = %path.display(), changes, "the configuration was read again");
        let mut told = Vec::new();
        for (namespace, change) in rules {
            if let Some(namespace) = namespace {
                info!(%namespace, "{change}");
                told.push(format!("namespace {namespace}: {change}"));
            } else {
                info!("{change}");
                told.push(change.to_string());
            }
        }
        for difference in &differences {
            info!("{difference}");
            if difference.counts == Counts::Now {
                self.change_level(&settings.log.level);
            }
        }
        self.given.take_live(&settings.given);
        for change in told.iter().cloned().chain(differences.iter().map(ToString::to_string)) {
            let door = audit::Door::Configuration;
            let event = Event::new(door, "change", Outcome::Allowed).about(&change);
            self.audit.record(event);
        }
        let changed = differences.into_iter().map(|difference| {
            let text = difference.to_string();
            Changed { difference, text }
        });
        let changed = changed.collect();
        Looked::Taken(Reloaded { file: path.display().to_string(), rules: told, changed })
    }

    fn change_level(&self, level: &str) {
        if let Err(error) = self.life.log_level().set(level) {
            warn!(%error, "the level of the log stays as it is");
        }
    }

    /// Once, unless somebody has asked: a file that is being replaced may be away for a moment.
    fn complain(&mut self, error: &io::Error, is_asked: bool) -> Looked {
        let text = format!("the configuration file cannot be read: {error}");
        if is_asked || !self.unreadable {
            warn!("the configuration stays as it is: {text}");
        }
        self.unreadable = true;
        Looked::Unreadable(text)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::{SaslDenied, sasl};
    use crate::config::{self, Overrides};
    use crate::telemetry::LogLevel;

    /// A configuration file that goes away with the test.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn with(text: &str) -> Self {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            let unique = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("peeklock-reload-{}-{unique}.toml", std::process::id());
            let file = Self(std::env::temp_dir().join(name));
            file.write(text);
            file
        }

        fn write(&self, text: &str) {
            fs::write(&self.0, text).unwrap();
        }

        fn reader(&self) -> Reader {
            let overrides = Overrides { config: Some(self.0.clone()), ..Overrides::default() };
            let settings = config::load(&overrides, []).unwrap();
            assert!(!format!("{settings:?}").contains("canary"), "keys are not shown");
            let authorities = Authorities::of(&settings);
            let (life, _) = Life::new(LogLevel::of_no_log());
            Reader::new(settings.source, settings.given, authorities, life, Audit::nowhere())
        }
    }

    /// Looks, and says in a word what came of it.
    fn look(reader: &mut Reader, is_asked: bool) -> &'static str {
        match reader.look(is_asked) {
            Looked::NoFile => "no file",
            Looked::Unreadable(_) => "unreadable",
            Looked::Same => "same",
            Looked::Waiting => "waiting",
            Looked::Taken(_) => "taken",
            Looked::Refused(_) => "refused",
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // A file left behind in the temporary directory does no harm.
            let _ = fs::remove_file(&self.0);
        }
    }

    fn rule(name: &str, key: &str) -> String {
        format!("[[rule]]\nname = \"{name}\"\nprimary_key = \"{key}\"\nrights = [\"send\"]\n")
    }

    #[track_caller]
    fn check(reader: &Reader, user: &str, key: &str, is_known: bool) {
        let judged =
            sasl(&reader.authorities.default, "PLAIN", Some(format!("\0{user}\0{key}").as_bytes()));
        assert_eq!(judged.is_ok(), is_known, "{user}");
        assert!(is_known || judged == Err(SaslDenied::Password));
    }

    #[test]
    fn new_rules_are_taken_when_the_file_is_at_rest_or_at_once_when_asked() {
        let file = Scratch::with(&rule("a", "canary"));
        let mut reader = file.reader();
        assert_eq!(look(&mut reader, false), "same");
        file.write("");
        assert_eq!(look(&mut reader, false), "waiting");
        check(&reader, "a", "canary", true);
        file.write(&(rule("a", "new") + &rule("b", "b")));
        assert_eq!(look(&mut reader, false), "waiting");
        assert_eq!(look(&mut reader, false), "taken");
        check(&reader, "a", "canary", false);
        check(&reader, "a", "new", true);
        check(&reader, "b", "b", true);
        assert_eq!(look(&mut reader, false), "same");
        file.write(&rule("b", "b"));
        assert_eq!(look(&mut reader, true), "taken");
        check(&reader, "a", "new", false);
        check(&reader, "b", "b", true);
        assert_eq!(look(&mut reader, true), "taken");
    }

    #[test]
    fn a_file_that_is_wrong_or_missing_changes_nothing() {
        let file = Scratch::with(&rule("a", "a"));
        let mut reader = file.reader();
        for wrong in ["[[rule]]\nname = 5", "listen = []", &rule("a", ""), "\u{0}"] {
            file.write(wrong);
            assert_eq!(look(&mut reader, false), "waiting");
            assert_eq!(look(&mut reader, false), "refused");
            assert_eq!(look(&mut reader, false), "same", "it is complained of once");
            assert_eq!(look(&mut reader, true), "refused");
            check(&reader, "a", "a", true);
        }
        fs::remove_file(&file.0).unwrap();
        assert_eq!(look(&mut reader, false), "unreadable");
        assert_eq!(look(&mut reader, true), "unreadable");
        check(&reader, "a", "a", true);
        file.write(&rule("a", "b"));
        assert_eq!((look(&mut reader, false), look(&mut reader, false)), ("waiting", "taken"));
        check(&reader, "a", "b", true);
        // What was there at first is as good as anything.
        file.write(&rule("a", "a"));
        assert_eq!((look(&mut reader, false), look(&mut reader, false)), ("waiting", "taken"));
        check(&reader, "a", "a", true);
    }

    #[test]
    fn a_namespace_takes_its_own_rules() {
        let section = |rest: &str| format!("[[namespace]]\nname = \"shop\"\n{rest}");
        let own = |key: &str| section(&rule("a", key).replace("[[rule", "[[namespace.rule"));
        let file = Scratch::with(&own("one"));
        let mut reader = file.reader();
        let shop = Arc::clone(&reader.authorities.others[0].1);
        let is_known =
            |key: &str| sasl(&shop, "PLAIN", Some(format!("\0a\0{key}").as_bytes())).is_ok();
        assert!(is_known("one"));
        file.write(&own("two"));
        assert_eq!(look(&mut reader, true), "taken");
        assert!(is_known("two") && !is_known("one"));
        // It is there until the broker starts again, and so are its rules.
        file.write("");
        assert_eq!(look(&mut reader, true), "taken");
        assert!(is_known("two"));
    }

    #[test]
    fn without_a_file_there_is_nothing_to_look_at() {
        let settings = config::load(&Overrides { dev: true, ..Overrides::default() }, []).unwrap();
        let authorities = Authorities::of(&settings);
        let (life, _) = Life::new(LogLevel::of_no_log());
        let audit = Audit::nowhere();
        let mut reader = Reader::new(settings.source, settings.given, authorities, life, audit);
        assert_eq!(look(&mut reader, true), "no file");
        check(&reader, "RootManageSharedAccessKey", "SAS_KEY_VALUE", true);
    }

    #[test]
    fn what_is_different_is_told_until_the_broker_goes_by_it() {
        let file = Scratch::with(&(rule("a", "canary") + "[limits]\nconnections = 7\n"));
        let mut reader = file.reader();
        file.write(
            &(rule("a", "canary-2") + "[limits]\nconnections = 9\n[log]\nlevel = \"debug\""),
        );
        let mut told = || match reader.look(true) {
            Looked::Taken(Reloaded { rules, changed, .. }) => {
                let changed = changed.into_iter().map(|changed| changed.text);
                rules.into_iter().chain(changed).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let connections = "limits.connections: 7 -> 9 (from the next start on)";
        let level = "log.level: \"debug\", was not set (from now on)";
        assert_eq!(told(), ["rule a: primary key changed", connections, level]);
        assert_eq!(told(), [connections], "it still waits for a start");
    }
}
