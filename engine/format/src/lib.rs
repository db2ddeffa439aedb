//! The bytes tapeloop keeps on disk: layouts, encoders, strict decoders.
#![forbid(unsafe_code)]
