//! Rings, arena, volumes and probing: the only home of unsafe in tapeloop.
#![deny(unsafe_op_in_unsafe_fn)]
