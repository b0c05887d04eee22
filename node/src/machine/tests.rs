//! The rules of contract/streams 6.7, 7 and 12, row by row on a state in memory; machine, state in
//! memory and state database against a model, and against each other where events are removed.

mod imports;
mod model;
mod node;
mod removal;
mod rules;
mod versions;
