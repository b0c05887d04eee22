//! Targets of rooms that can be called from here.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::access::user::User;
use crate::config::{self, Invocation};
use crate::event::list_check::{check_acl, check_beside, check_resembling_settings, check_settings};
use crate::event::metadata::{DefaultAcls, document_of, soft_delete_document, with_truncate_before};
use crate::event::{StreamMetadata, id_retention};
use crate::ndjson::{self, Line};
use crate::{files, record_files};

/// Metadata of a stream, or the document of default access lists.
pub(super) fn stream_metadata(document: &[u8]) -> Option<()> {
    // None of these may fail on anything that can be stored.
    let _ = (check_beside(document), check_resembling_settings(document), check_acl(document, false));
    let retention = id_retention::of(document);
    if id_retention::check(document).is_err() {
        assert_eq!(retention, None, "a setting that is refused is in force");
    }
    let defaults = DefaultAcls::parse(document);
    if check_settings(document).is_ok() {
        assert!(defaults.is_ok(), "default lists that were accepted are not in force");
    }
    let parsed = StreamMetadata::parse(document);
    if check_acl(document, true).is_ok() && mentions_list(document) {
        assert!(parsed.is_some(), "a list that was accepted is not in force");
    }
    deleted_and_truncated(document, parsed.as_ref());
    let metadata = parsed?;
    let again = StreamMetadata::parse(&document_of(&metadata));
    // The document is that of a stream that was deleted, whose beginning is said elsewhere.
    assert_eq!(again, Some(StreamMetadata { truncate_before: None, ..metadata }));
    Some(())
}

/// Whether the document is an object with the key of access lists.
fn mentions_list(document: &[u8]) -> bool {
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(document);
    object.is_ok_and(|object| object.contains_key("$acl"))
}

/// What is made of the document when its stream is deleted, and when it comes back.
fn deleted_and_truncated(document: &[u8], parsed: Option<&StreamMetadata>) {
    let deleted = StreamMetadata::parse(&soft_delete_document(document));
    let list = parsed.and_then(|metadata| metadata.acl.clone());
    assert!(deleted.is_some_and(|deleted| deleted.is_soft_deleted() && deleted.acl == list));
    let Some(truncated) = with_truncate_before(document, 7) else {
        assert!(parsed.is_none());
        return;
    };
    let again = StreamMetadata::parse(&truncated);
    if let Some(metadata) = parsed {
        assert_eq!(again, Some(StreamMetadata { truncate_before: Some(7), ..metadata.clone() }));
    }
    assert_eq!(with_truncate_before(&truncated, 7), Some(truncated));
}

/// A stored user.
pub(super) fn stored_users(data: &[u8]) -> Option<()> {
    let user = User::from_data(data)?;
    assert_eq!(User::from_data(&user.to_data()).as_ref(), Some(&user));
    // A password that cannot be read is no password.
    let principal = user.principal();
    assert_eq!(user.is_active_admin(), !user.disabled && principal.has_role("$admins"));
    Some(())
}

/// Small files of a node and what RocksDB writes, by the first byte.
pub(super) fn stored_files(input: &[u8]) -> Option<()> {
    let (&kind, file) = input.split_first()?;
    match kind % 5 {
        0 => crate::log::fuzzing::durable_mark(file),
        1 => crate::cluster::fuzzing::identity(file),
        2 => crate::backup::fuzzing::manifest(file),
        3 => {
            let name = record_files::manifest_named(file)?;
            assert!(name.starts_with("MANIFEST-") && !name.contains(['/', '\n']));
            Some(())
        }
        _ => {
            let (number, file) = file.split_first_chunk::<4>()?;
            let number = u32::from_le_bytes(*number);
            let found = [None, Some(number)].map(|number| record_files::first_wrong(file, number));
            assert!(found.iter().flatten().all(|at| *at < file.len()));
            // What was cut off in the middle of a write is not damaged.
            let half = &file[..file.len() / 2];
            if found[0].is_none() {
                assert_eq!(record_files::first_wrong(half, None), None);
            }
            found.iter().all(Option::is_none).then_some(())
        }
    }
}

/// Lines of an import, each read alone; an event, written again, is the same event.
pub(super) fn import_lines(input: &[u8]) -> Option<()> {
    let mut is_any = None;
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(read) = ndjson::parse(line) else { continue };
        is_any = Some(());
        let mut written = Vec::new();
        match &read {
            Line::Header(header) => ndjson::push_header(&mut written, header),
            Line::Event(event) => ndjson::push_event(&mut written, event.borrowed()),
            Line::Next(next) => ndjson::push_next(&mut written, next),
            Line::Page(page) => ndjson::push_page(&mut written, *page),
            Line::Ends(ends) => ndjson::push_ends(&mut written, ends),
            Line::Progress(progress) => ndjson::push_progress(&mut written, progress),
            Line::End(end) => ndjson::push_end(&mut written, *end),
        }
        let (last, line) = written.split_last()?;
        assert!(*last == b'\n' && !line.contains(&b'\n'), "{}", line.escape_ascii());
        let again = ndjson::parse(line);
        assert!(again.as_ref().is_ok_and(|again| *again == read), "{}: {again:?}", line.escape_ascii());
    }
    is_any
}

/// A transfer of a snapshot.
pub(super) fn snapshot_transfer(input: &[u8]) -> Option<()> {
    with_scratch(|scratch| crate::snapshot::fuzzing::transfer(input, scratch))
}

/// A configuration file, with a line of the command line in front of it: words apart by a byte 0.
/// The configuration that comes of it is printed, and is the same when it is read again.
pub(super) fn configuration(input: &[u8]) -> Option<()> {
    let at = input.iter().position(|byte| *byte == b'\n')?;
    let words: Vec<String> =
        input[..at].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    with_scratch(|scratch| {
        let file = scratch.join("headwater.yaml");
        fs::write(&file, &input[at + 1..]).ok()?;
        let named = format!("--config={}", file.display());
        let words = words.iter().filter(|word| !word.is_empty()).cloned().chain([named]);
        let Ok(Invocation::Run(config)) = resolve(words.clone()) else { return None };
        let Ok(Invocation::Print(printed)) = resolve(["config".to_owned()].into_iter().chain(words)) else {
            panic!("what can be run cannot be printed: {config:?}");
        };
        fs::write(&file, &printed).ok()?;
        let Ok(Invocation::Run(mut again)) = resolve([format!("--config={}", file.display())]) else {
            panic!("what is printed cannot be read: {printed}");
        };
        // Secrets are not printed.
        again.default_admin_password.clone_from(&config.default_admin_password);
        again.default_ops_password.clone_from(&config.default_ops_password);
        assert_eq!(again, config, "{printed}");
        Some(())
    })
}

fn resolve(words: impl IntoIterator<Item = String>) -> Result<Invocation, config::ConfigError> {
    let words = ["headwater".to_owned()].into_iter().chain(words);
    config::resolve(words.map(OsString::from), [])
}

/// Calls `run` with a directory of this thread, which is empty or has what an earlier input left
/// there.
fn with_scratch<T>(run: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Option<Scratch>> = const { RefCell::new(None) };
    }
    SCRATCH.with(|scratch| {
        let mut scratch = scratch.borrow_mut();
        run(&scratch.get_or_insert_with(Scratch::new).0)
    })
}

/// A directory that is removed with its thread.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        // Every input writes files.
        let path = files::quickest_directory().join(format!("headwater-fuzzing-{}", uuid::Uuid::new_v4()));
        if let Err(error) = fs::create_dir_all(&path) {
            panic!("{}: {error}", path.display());
        }
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
