//! `l4sd check`: is the configuration right, and can this host do what it asks? Changes nothing.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::controller::{Source, left_out};
use super::exit::{Exit, Failure};
use super::look_ahead::Named;
use super::print;
#[cfg(target_os = "linux")]
use super::target;
use super::target::Target;
use crate::config::Config;
use crate::control::model::{Fault, ModelError, ModelFile, Session};
use crate::runtime::privileges::Privileges;

/// Arguments of `l4sd check`.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    target: Target,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    severity: &'static str,
    subject: String,
    message: String,
    privilege: bool,
}

/// Runs the verb. A finding that would stop forwarding ends it with 69, or 77 if a
/// privilege is missing.
pub(super) fn check(args: &CheckArgs) -> Result<(), Failure> {
    let config = args.target.config()?;
    let source = Source::of(&config)?;
    super::netmap::refuse_idle_keeper(&config)?;
    Privileges::look_up(config.runtime.user.as_deref())?;
    let mut rows = findings(&config);
    match &source {
        Some(source @ Source::Model(file, path, _)) => {
            rows.push(model("model", file, path, &config)?);
            rows.extend(context(source, &config)?);
        }
        Some(Source::LookAhead(pair)) => {
            for (role, Named { file, path }) in [("drafter", &pair.drafter), ("verifier", &pair.verifier)] {
                rows.push(model(role, file, path, &config)?);
            }
        }
        Some(Source::Replay(_) | Source::Rules(_)) | None => {}
    }
    if args.json {
        let json = serde_json::to_string_pretty(&rows).map_err(|e| Failure::new(Exit::Internal, e))?;
        print::line(&json)?;
    } else {
        let width = rows.iter().map(|r| r.subject.len()).max().unwrap_or(0);
        for r in &rows {
            print::line(&format!("{:<4}  {:<width$}  {}", r.severity, r.subject, r.message))?;
        }
    }
    let failed: Vec<&Row> = rows.iter().filter(|r| r.severity == "FAIL").collect();
    if failed.is_empty() {
        return Ok(());
    }
    let exit = if failed.iter().any(|r| r.privilege) { Exit::Privilege } else { Exit::Host };
    let error = anyhow::anyhow!("{} finding(s) would stop forwarding or damage traffic", failed.len());
    Err(Failure::new(exit, error))
}

/// The model, tried on this host. That nothing here can run it is no error, since `run` does without it.
fn model(role: &str, file: &ModelFile, path: &Path, config: &Config) -> Result<Row, Failure> {
    let (severity, message) = match Session::open(file, path, config.control.onnxruntime.as_deref()) {
        Ok(session) => ("ok", format!("{}, {}", path.display(), session.backend())),
        Err(e @ ModelError { fault: Fault::NoBackend(_), .. }) => ("warn", left_out(&e)),
        Err(e) => return Err(e.into()),
    };
    Ok(Row { severity, subject: role.to_owned(), message, privilege: false })
}

/// What the model is shown, tried on this host; nothing can be said where nothing runs the model.
fn context(source: &Source, config: &Config) -> Result<Option<Row>, Failure> {
    let shown = match source.try_context(config) {
        Err(e) if e.exit == Exit::Host => return Ok(None),
        other => other?,
    };
    let row = |[left, right]: [Option<String>; 2]| {
        let severity = if left.is_some() && right.is_some() { "ok" } else { "warn" };
        let [left, right] = [left, right].map(|name| name.unwrap_or("no profile of a near rate".to_owned()));
        let message = format!("{left} left to right, {right} right to left");
        Row { severity, subject: "context".to_owned(), message, privilege: false }
    };
    Ok(shown.map(row))
}

fn findings(config: &Config) -> Vec<Row> {
    let config_row = Row {
        severity: "ok",
        subject: "config".to_owned(),
        message: format!(
            "{} to {} at {} ({} back), {}",
            config.left, config.right, config.link.rate, config.link.rate_right_to_left, config.aqm.policy
        ),
        privilege: false,
    };
    let netmap = super::netmap::findings(config).into_iter().map(|n| Row {
        severity: n.severity.label(),
        subject: n.subject,
        message: n.message,
        privilege: n.privilege,
    });
    std::iter::once(config_row).chain(host(config)).chain(netmap).collect()
}

#[cfg(target_os = "linux")]
fn host(config: &Config) -> Vec<Row> {
    target::preflight(config)
        .into_iter()
        .map(|f| Row {
            severity: f.severity.label(),
            subject: f.subject,
            message: f.message,
            privilege: f.privilege,
        })
        .collect()
}

#[cfg(not(target_os = "linux"))]
fn host(config: &Config) -> Vec<Row> {
    // What a netmap port needs has findings of its own.
    if config.left.kind() == crate::config::PortKind::Netmap {
        return Vec::new();
    }
    vec![Row {
        severity: "warn",
        subject: "host".to_owned(),
        message: "interfaces, offloads and privileges are not examined on this operating system".to_owned(),
        privilege: false,
    }]
}
