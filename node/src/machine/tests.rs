//! The rules of contract/streams 6.7, 7 and 12, row by row, and the machine against a model.

mod model;
mod rules;
