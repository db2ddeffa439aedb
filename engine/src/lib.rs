//! The tapeloop storage engine: open, put, get, follow, delete, list.
#![forbid(unsafe_code)]
