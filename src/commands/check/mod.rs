//! `check -f`: preflight. Asks the real nodes, the store's and the webhook's host, leaves nothing behind, and says what to fix.

use std::process::ExitCode;

use serde_json::json;

use super::{
    load::{Declared, Files},
    output::{Output, say},
    run::load,
};
use crate::{
    api::Platform,
    dial::{self, Cidr, Dialler, Egress},
    model::ListenerId,
    plan::Plan,
};

mod cluster;
mod finding;
mod node;
mod permissions;
mod settings;
mod store;
mod webhook;

use finding::{Finding, Level};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    files: Files,
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Who is to run them. The operator knows Services, and its stores lie in the watched Redis unless they say otherwise.
    #[arg(long = "for", value_enum, default_value_t, value_name = "WHOM")]
    whom: Whom,
    /// With `--for operator`: its flag of that name. `run` dials every address.
    #[arg(long, value_delimiter = ',', value_name = "CIDR")]
    allow_egress: Vec<Cidr>,
}

/// `--for`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Whom {
    #[default]
    Run,
    Operator,
}

impl From<Whom> for Platform {
    fn from(whom: Whom) -> Self {
        match whom {
            Whom::Run => Self::Process,
            Whom::Operator => Self::Kubernetes,
        }
    }
}

/// Something is to be fixed before the listener can run well.
const FAILED: u8 = 1;
/// The files themselves are wrong, so nothing was asked.
const BAD_FILE: u8 = 2;

/// Exit code 0: all is well, warnings aside; 1: something is to be fixed; 2: the files are wrong.
pub async fn check(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { files, output, whom, allow_egress } = arguments;
    let platform = Platform::from(whom);
    let dialler = match whom {
        Whom::Run => Dialler::everything(),
        Whom::Operator => Dialler::new(Egress::guarded(allow_egress)),
    };
    let declared = match load(files, platform).await? {
        Ok(declared) => declared,
        Err(error) => {
            for problem in error.problems {
                match output {
                    Output::Text => eprintln!("{problem}"),
                    Output::Json => say(&json!({"level": "fail", "subject": "file", "what": problem}).to_string()),
                }
            }
            return Ok(ExitCode::from(BAD_FILE));
        }
    };
    let mut failed = false;
    for Declared { plan, place } in &declared {
        if output == Output::Text {
            say(&format!("{} ({place})", plan.listener));
        }
        let (mut findings, reached) = Box::pin(cluster::check(plan, &dialler)).await;
        findings.extend(template(plan));
        findings.extend(Box::pin(store::check(plan, &dialler, platform, reached)).await);
        findings.extend(webhook::check(&plan.webhook, &dialler).await);
        failed |= findings.iter().any(|finding| finding.level == Level::Fail);
        show(output, &plan.listener, &findings);
    }
    Ok(if failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// A template that was written for other keys.
fn template(plan: &Plan) -> Option<Finding> {
    let what = "no key of spec.keyPattern can be of the form of spec.idTemplate: data would lack its names";
    let fix = "let both begin alike, such as order:pay:* and order:pay:{orderId}";
    (!plan.id_template.fits(&plan.pattern)).then(|| Finding::warn("idTemplate", what, fix))
}

/// What is wrong where the operator would not dial, and what to do.
fn not_dialled(error: &(dyn std::error::Error + 'static)) -> Option<(String, String)> {
    let text = dial::refused(error)?.to_string();
    let (what, fix) = text.split_once("; ")?;
    Some((what.to_owned(), format!("use another address; {fix}")))
}

fn show(output: Output, listener: &ListenerId, findings: &[Finding]) {
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    for finding in findings {
        match output {
            Output::Text => say(&finding.row(width)),
            Output::Json => say(&finding.object(listener).to_string()),
        }
    }
}
