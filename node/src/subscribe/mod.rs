//! Long polls: waiting for a stream or the log of all events to grow.
