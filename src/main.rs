//! Flags in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Two providers may be compiled in; the first to be installed is the one that counts.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            imagesetd::cli::output::say(&format!("error: starting the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(imagesetd::cli::main(std::env::args_os().collect()))
}
