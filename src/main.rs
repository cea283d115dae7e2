//! The `biplane` binary: the allocator, then the command line.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    biplane::cli::main(std::env::args_os())
}
