//! `imagesetd serve`: what the daemon is started with.

use std::path::PathBuf;

/// Where settings are unless something else is said.
pub const DEFAULT_CONFIG: &str = "/etc/imagesetd/imagesetd.yaml";

/// Runs the daemon: watches the directory, plans, mirrors, writes cluster documents.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Settings file
    #[arg(long, value_name = "FILE", env = "IMAGESETD_CONFIG", default_value = DEFAULT_CONFIG)]
    pub config: PathBuf,
    /// Check the settings and the image sets of the directory, and exit
    #[arg(long)]
    pub check: bool,
    /// Check the settings alone, whatever the image sets are like, and exit
    #[arg(long, conflicts_with = "check")]
    pub check_settings: bool,
    /// What is logged on stderr: error, warn, info, debug, trace, or directives as in RUST_LOG
    #[arg(
        long,
        value_name = "LEVEL",
        env = "IMAGESETD_LOG",
        default_value = "info"
    )]
    pub log_level: String,
    /// Form of the log
    #[arg(long, value_enum, default_value_t, env = "IMAGESETD_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
