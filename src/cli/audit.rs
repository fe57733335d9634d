//! `l4sd eval --audit`: whether a model does anything.

use std::num::NonZero;
use std::thread::available_parallelism;

use anyhow::anyhow;
use clap::Args;

use super::eval::{EvalArgs, refused, write};
use super::exit::{Exit, Failure};
use super::print;
use crate::config::Policy;
use crate::control::model::{ModelFile, shipped};
use crate::eval::EvalPlan;
use crate::eval::audit::{self, AuditError, ModelSubject};
use crate::eval::plan::{self, Draws};
use crate::report::ReportError;
use crate::sim::run::SimError;
use crate::telemetry::features::schema::Schema;

/// Arguments of the audit.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// Check that the one --policy, model or model:FILE, does something: held at its mean, fed with another link's inputs, without
    /// some of its features, late. A line for each of eight checks, audit.json and audit.csv; exit code 65 if one fails
    #[arg(long, conflicts_with_all = ["oracle", "fresh"])]
    pub(super) audit: bool,
    /// With --audit: at most so many links of each grid
    #[arg(long, value_name = "N", requires = "audit")]
    links: Option<NonZero<usize>>,
}

/// Runs it.
pub(super) fn audit(args: &EvalArgs) -> Result<(), Failure> {
    let which = match &args.policy[..] {
        [] => None,
        [Policy::Model(which)] => which.clone(),
        _ => {
            let error = anyhow!(
                "--audit is of one model: say --policy model, model:FILE, or none for the built-in one"
            );
            return Err(Failure::new(Exit::Usage, error));
        }
    };
    let model = ModelFile::open(which.as_deref(), &Schema::embedded(), None)?;
    let split = plan::split(&args.split).map_err(refused)?;
    let draws = Draws { split, seed: args.split_seed, draws: args.draws, smoke: args.smoke };
    let cells = EvalPlan::new(&args.grids, &[], &draws, args.seeds).map_err(refused)?.cells;
    let cells = audit::thinned(cells, args.check.links.map_or(usize::MAX, NonZero::get));
    let jobs = args.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get);
    std::fs::create_dir_all(&args.out)
        .map_err(|source| ReportError::Write { path: args.out.clone(), source })?;
    print::note(&format!("l4sd: {} links, {} seeds, model {}", cells.len(), args.seeds, model.sha256));
    let outcome =
        audit::audit(&cells, &ModelSubject(which.clone()), args.seeds, jobs).map_err(|e| match e {
            AuditError::Sim(SimError::Model(e)) => e.into(),
            e => Failure::new(Exit::Internal, e),
        })?;
    let json = serde_json::json!({
        "schema": 1, "model_sha256": model.sha256, "split": args.split, "split_seed": args.split_seed,
        "links": outcome.links, "seeds": outcome.seeds, "checks": outcome.checks,
    });
    let json = format!("{json:#}\n");
    write(&args.out, "audit.json", json.as_bytes())?;
    write(&args.out, "audit.csv", outcome.csv().as_bytes())?;
    if args.json {
        print::text(&json)?;
    } else {
        print::text(&outcome.text())?;
    }
    match outcome.failed() {
        0 => Ok(()),
        n => {
            let (name, of) = (shipped::name(which.as_deref()), outcome.checks.len());
            Err(Failure::new(
                Exit::Data,
                anyhow!("{}: {n} of the {of} checks of its audit fail", name.display()),
            ))
        }
    }
}
