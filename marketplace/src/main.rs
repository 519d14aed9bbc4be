//! The `marketplace` binary.

fn main() -> std::process::ExitCode {
    millstream_marketplace::cli::main()
}
