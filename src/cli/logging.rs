//! Log lines on standard error.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Changes the level while the program runs.
pub(super) struct LogControl(Box<dyn Fn(EnvFilter) + Send + Sync>);

impl LogControl {
    /// Takes another level, from the next line on. `L4SD_LOG` still wins.
    pub(super) fn set(&self, level: LogLevel) {
        (self.0)(filter(level));
    }
}

/// `L4SD_LOG` overrides the level.
fn filter(level: LogLevel) -> EnvFilter {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    EnvFilter::builder().with_default_directive(level.into()).with_env_var("L4SD_LOG").from_env_lossy()
}

/// Starts logging.
pub(super) fn start(config: LogConfig) -> LogControl {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter(config.level))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // A log that nobody reads any more must not end what it is about.
        .log_internal_errors(false);
    // A second start, in a test, keeps the first; then there is nothing to change either.
    macro_rules! start {
        ($builder:expr) => {{
            let builder = $builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            LogControl(Box::new(move |filter| {
                let _ = handle.reload(filter);
            }))
        }};
    }
    match config.format {
        LogFormat::Text => start!(builder),
        LogFormat::Json => start!(builder.json()),
    }
}
