//! `headwater import` and `headwater export`: events out of a running server or a file, into a
//! running node or a file (docs/adr/0023-import.md).
//!
//! A source gives events in the order of its log, in pages, each with the place where the next one
//! begins. The target stores a page and that place in one step. So an import that was interrupted
//! anywhere goes on behind the last page that is stored, and a page that is sent again is found to
//! be there.

mod atom;
mod entries;
mod error;
mod export;
mod file;
mod headwater;
mod import;
mod links;
mod log_file;
mod pages;
mod skip;
mod source;
mod target;
mod truncated;

pub(crate) use export::export;
pub(crate) use import::import;
