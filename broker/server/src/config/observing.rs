//! What tells others of the broker beside its log: the audit log, and spans.

use std::path::PathBuf;

use toml::Spanned;

use super::build::{Check, parsed, refuse};
use super::raw::{Given, RawAudit, RawTracing};
use super::settings::{AuditSettings, TracingSettings};

/// What the broker is called by default.
const SERVICE_NAME: &str = "peeklock";

pub(super) fn audit(raw: RawAudit) -> Check<AuditSettings> {
    Ok(AuditSettings { file: path("audit.file", raw.file)? })
}

/// Without a collector there is nothing to tell, whatever else is set.
pub(super) fn tracing(raw: RawTracing) -> Check<Option<TracingSettings>> {
    let sample_ratio = match &raw.sample_ratio {
        Some(ratio) if (0.0..=1.0).contains(ratio.get_ref()) => *ratio.get_ref(),
        Some(ratio) => {
            let reason = format!("{} is not between 0 and 1", ratio.get_ref());
            return refuse("tracing.sample_ratio", ratio.span(), reason);
        }
        None => 1.0,
    };
    let service_name = match raw.service_name {
        Some(name) if name.get_ref().is_empty() => {
            return refuse("tracing.service_name", name.span(), "is empty");
        }
        Some(name) => name.into_inner(),
        None => SERVICE_NAME.to_owned(),
    };
    let ca_file = path("tracing.ca_file", raw.ca_file)?;
    let Some(endpoint) = raw.otlp_endpoint else { return Ok(None) };
    let endpoint = parsed("tracing.otlp_endpoint", &endpoint)?;
    Ok(Some(TracingSettings { endpoint, sample_ratio, service_name, ca_file }))
}

fn path(key: &str, raw: Given<String>) -> Check<Option<PathBuf>> {
    match raw {
        Some(text) if text.get_ref().is_empty() => refuse(key, text.span(), "is empty"),
        text => Ok(text.map(Spanned::into_inner).map(PathBuf::from)),
    }
}
