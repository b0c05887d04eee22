//! The machine of one group: see group/mod (being written).
