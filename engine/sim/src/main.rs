//! Runs simulated worlds from the command line: one seed to replay, or many to search.

fn main() -> std::process::ExitCode {
    tapeloop_sim::main()
}
