//! The `l4sd` program; see the library for everything.

fn main() -> std::process::ExitCode {
    l4sd::cli::main()
}
