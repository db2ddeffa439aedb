//! One command per house chore: test, ci, lint.
#![forbid(unsafe_code)]

fn main() {}
