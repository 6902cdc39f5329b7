//! Taking the rules of the configuration again while the broker runs: when the file changes, and on
//! SIGHUP. What else the file says counts from the next start.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::auth::{Authority, RuleChange};
use crate::config::{Settings, Source};
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

/// Takes new rules when there are any, and looks at once on SIGHUP.
pub(crate) async fn watch(
    source: Source,
    authorities: Authorities,
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
    let mut reader = Reader::new(source, authorities);
    loop {
        let asked = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let is_asked = tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY), if reader.source.path().is_some() => false,
            _ = asked => true,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let looked = tokio::task::spawn_blocking(move || {
            let _ = reader.look(is_asked);
            reader
        });
        reader = match looked.await {
            Ok(reader) => reader,
            Err(error) => {
                warn!(%error, "the configuration cannot be looked at any more");
                return;
            }
        };
    }
}

struct Reader {
    source: Source,
    authorities: Authorities,
    /// What was in the file when it was last taken or refused.
    judged: Option<Vec<u8>>,
    /// What was in it at the last look.
    seen: Option<Vec<u8>>,
    unreadable: bool,
}

/// What came of a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Looked {
    /// There is no file, or it cannot be read now, or nothing is new.
    Nothing,
    /// The file is another one. It may still be being written.
    Waiting,
    Taken,
    Refused,
}

impl Reader {
    fn new(source: Source, authorities: Authorities) -> Self {
        let judged = source.text().map(|text| text.as_bytes().to_vec());
        Self { source, authorities, judged, seen: None, unreadable: false }
    }

    fn look(&mut self, is_asked: bool) -> Looked {
        let Some(path) = self.source.path() else {
            info!("SIGHUP: there is no configuration file to read again");
            return Looked::Nothing;
        };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) => {
                self.complain(&error, is_asked);
                return Looked::Nothing;
            }
        };
        self.unreadable = false;
        if !is_asked && self.judged.as_ref() == Some(&text) {
            self.seen = None;
            return Looked::Nothing;
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

    fn take(&self, path: &Path) -> Looked {
        let path = path.display();
        match self.source.load() {
            Ok(settings) => {
                let changes = self.authorities.adopt(&settings);
                info!(file = %path, changes = changes.len(), "the rules were read again");
                for (namespace, change) in changes {
                    if let Some(namespace) = namespace {
                        info!(%namespace, "{change}");
                    } else {
                        info!("{change}");
                    }
                }
                Looked::Taken
            }
            Err(error) => {
                warn!("the rules stay as they are: {error}");
                Looked::Refused
            }
        }
    }

    /// Once, unless somebody has asked: a file that is being replaced may be away for a moment.
    fn complain(&mut self, error: &io::Error, is_asked: bool) {
        if is_asked || !self.unreadable {
            warn!("the rules stay as they are: the configuration file cannot be read: {error}");
        }
        self.unreadable = true;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::auth::{SaslDenied, sasl};
    use crate::config::{self, Overrides};

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
            Reader::new(settings.source, authorities)
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
        assert_eq!(reader.look(false), Looked::Nothing);
        file.write("");
        assert_eq!(reader.look(false), Looked::Waiting);
        check(&reader, "a", "canary", true);
        file.write(&(rule("a", "new") + &rule("b", "b")));
        assert_eq!(reader.look(false), Looked::Waiting);
        assert_eq!(reader.look(false), Looked::Taken);
        check(&reader, "a", "canary", false);
        check(&reader, "a", "new", true);
        check(&reader, "b", "b", true);
        assert_eq!(reader.look(false), Looked::Nothing);
        file.write(&rule("b", "b"));
        assert_eq!(reader.look(true), Looked::Taken);
        check(&reader, "a", "new", false);
        check(&reader, "b", "b", true);
        assert_eq!(reader.look(true), Looked::Taken);
    }

    #[test]
    fn a_file_that_is_wrong_or_missing_changes_nothing() {
        let file = Scratch::with(&rule("a", "a"));
        let mut reader = file.reader();
        for wrong in ["[[rule]]\nname = 5", "listen = []", &rule("a", ""), "\u{0}"] {
            file.write(wrong);
            assert_eq!(reader.look(false), Looked::Waiting);
            assert_eq!(reader.look(false), Looked::Refused);
            assert_eq!(reader.look(false), Looked::Nothing, "it is complained of once");
            assert_eq!(reader.look(true), Looked::Refused);
            check(&reader, "a", "a", true);
        }
        fs::remove_file(&file.0).unwrap();
        assert_eq!((reader.look(false), reader.look(true)), (Looked::Nothing, Looked::Nothing));
        check(&reader, "a", "a", true);
        file.write(&rule("a", "b"));
        assert_eq!((reader.look(false), reader.look(false)), (Looked::Waiting, Looked::Taken));
        check(&reader, "a", "b", true);
        // What was there at first is as good as anything.
        file.write(&rule("a", "a"));
        assert_eq!((reader.look(false), reader.look(false)), (Looked::Waiting, Looked::Taken));
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
        assert_eq!(reader.look(true), Looked::Taken);
        assert!(is_known("two") && !is_known("one"));
        // It is there until the broker starts again, and so are its rules.
        file.write("");
        assert_eq!(reader.look(true), Looked::Taken);
        assert!(is_known("two"));
    }

    #[test]
    fn without_a_file_there_is_nothing_to_look_at() {
        let settings = config::load(&Overrides { dev: true, ..Overrides::default() }, []).unwrap();
        let authorities = Authorities::of(&settings);
        let mut reader = Reader::new(settings.source, authorities);
        assert_eq!(reader.look(true), Looked::Nothing);
        check(&reader, "RootManageSharedAccessKey", "SAS_KEY_VALUE", true);
    }
}
