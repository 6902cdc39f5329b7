//! What was found, for people and for programs.

use std::fmt::Write as _;

use peeklock_core::check::{Finding, Severity, Totals};
use serde::Serialize;

/// Findings of one store that are told one by one. Behind them they are only counted.
const TOLD_MAX: usize = 1000;

/// Of a data directory.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) stores: Vec<StoreReport>,
}

/// What it comes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// All fits.
    Clean,
    /// All messages are there, and not all of what stands beside them.
    Repairable,
    /// Something is lost or cannot be read.
    Damaged,
}

impl Verdict {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Repairable => "repairable",
            Self::Damaged => "damaged",
        }
    }
}

/// Of one store.
#[derive(Debug, Serialize)]
pub(crate) struct StoreReport {
    /// Empty for the default one.
    pub(crate) namespace: String,
    pub(crate) format: u32,
    pub(crate) entities: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) repairable: u64,
    pub(crate) damaged: u64,
    pub(crate) findings: Vec<Told>,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    pub(crate) verdict: Verdict,
    pub(crate) problem: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entity: Option<String>,
    pub(crate) what: String,
    /// Whether it is known what would put it right.
    pub(crate) has_fix: bool,
}

impl StoreReport {
    pub(crate) fn new(namespace: String, format: u32) -> Self {
        Self {
            namespace,
            format,
            entities: 0,
            messages: 0,
            bytes: 0,
            rows: 0,
            repairable: 0,
            damaged: 0,
            findings: Vec::new(),
        }
    }

    pub(crate) fn find(&mut self, finding: &Finding) {
        let verdict = match finding.severity {
            Severity::Repairable => Verdict::Repairable,
            Severity::Damaged => Verdict::Damaged,
        };
        self.tell(Told {
            verdict,
            problem: finding.problem.name(),
            entity: finding.entity.clone(),
            what: finding.what.clone(),
            has_fix: !finding.fix.is_empty(),
        });
    }

    pub(crate) fn tell(&mut self, told: Told) {
        match told.verdict {
            Verdict::Damaged => self.damaged += 1,
            Verdict::Repairable | Verdict::Clean => self.repairable += 1,
        }
        if self.findings.len() < TOLD_MAX {
            self.findings.push(told);
        }
    }

    pub(crate) fn count(&mut self, totals: Totals) {
        let Totals { entities, messages, bytes, rows } = totals;
        (self.entities, self.messages, self.bytes, self.rows) = (entities, messages, bytes, rows);
    }

    fn verdict(&self) -> Verdict {
        match (self.damaged, self.repairable) {
            (0, 0) => Verdict::Clean,
            (0, _) => Verdict::Repairable,
            _ => Verdict::Damaged,
        }
    }

    fn name(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }
}

impl Report {
    pub(crate) fn of(stores: Vec<StoreReport>) -> Self {
        let verdict = stores.iter().map(StoreReport::verdict).max().unwrap_or(Verdict::Clean);
        Self { verdict, stores }
    }

    /// As people read it.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for store in &self.stores {
            let StoreReport { entities, messages, bytes, rows, .. } = store;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "{}: {} ({entities} entities, {messages} messages with {bytes} octets, {rows} rows)",
                store.name(),
                store.verdict().name()
            );
            for Told { verdict, problem, entity, what, .. } in &store.findings {
                let entity = entity.as_deref().unwrap_or("-");
                let _ = writeln!(text, "  {:10} {problem}: {entity}: {what}", verdict.name());
            }
            let told = store.findings.len() as u64;
            let more = (store.repairable + store.damaged).saturating_sub(told);
            if more != 0 {
                let _ = writeln!(text, "  and {more} more");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_decides_and_all_are_counted() {
        let told = |verdict| Told {
            verdict,
            problem: "numbers",
            entity: Some("q".to_owned()),
            what: "it counts wrongly".to_owned(),
            has_fix: true,
        };
        let clean = || StoreReport::new(String::new(), 1);
        assert_eq!(Report::of(vec![clean()]).verdict, Verdict::Clean);
        let mut other = StoreReport::new("other".to_owned(), 1);
        for _ in 0..TOLD_MAX + 5 {
            other.tell(told(Verdict::Repairable));
        }
        let report = Report::of(vec![clean(), other]);
        assert_eq!(report.verdict, Verdict::Repairable);
        let text = report.text();
        assert!(text.starts_with("default: clean (0 entities"), "{text}");
        assert!(text.contains("other: repairable") && text.ends_with("and 5 more\n"), "{text}");
        let mut bad = clean();
        bad.tell(told(Verdict::Damaged));
        bad.tell(told(Verdict::Repairable));
        assert_eq!(Report::of(vec![clean(), bad]).verdict, Verdict::Damaged);
    }
}
