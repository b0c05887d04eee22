//! What a power cut leaves of files and names.

use super::*;

fn disk() -> (tempfile::TempDir, Volume) {
    let directory = tempfile::tempdir().unwrap();
    let volume = Volume::new(directory.path().to_owned(), u64::MAX);
    (directory, volume)
}

fn name(name: &str) -> &OsStr {
    OsStr::new(name)
}

/// A file with its content, both durable or neither.
fn file(volume: &mut Volume, parent: u64, called: &str, bytes: &[u8], synced: bool) -> u64 {
    let number = volume.create(parent, name(called), 0o600).unwrap();
    volume.write(number, 0, bytes).unwrap();
    if synced {
        sync(volume, number);
        volume.sync_names(parent).unwrap();
    }
    number
}

fn sync(volume: &mut Volume, number: u64) {
    let content = volume.content_mut(number).unwrap();
    content.sync(content.written()).unwrap();
}

/// Paths and contents of all files, directories with a slash.
fn tree(volume: &Volume) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut left = vec![(ROOT, String::new())];
    while let Some((number, path)) = left.pop() {
        for (called, node) in volume.list(number).unwrap() {
            let path = format!("{path}{}", called.to_str().unwrap());
            match volume.content(node) {
                Ok(content) => found.push((path, content.read(0, 1 << 20).unwrap())),
                Err(_) => {
                    found.push((format!("{path}/"), Vec::new()));
                    left.push((node, format!("{path}/")));
                }
            }
        }
    }
    found.sort();
    found
}

fn names(volume: &Volume) -> Vec<String> {
    tree(volume).into_iter().map(|(path, _)| path).collect()
}

#[test]
fn a_synced_file_without_a_synced_name_is_lost() {
    let (_directory, mut volume) = disk();
    let number = file(&mut volume, ROOT, "a", b"bytes", false);
    sync(&mut volume, number);
    let lost = volume.lose(Left::Synced).unwrap();
    assert_eq!((tree(&volume), lost.names), (vec![], 1));
    assert_eq!(volume.space().0, 0);
}

#[test]
fn a_synced_name_without_synced_bytes_is_an_empty_file() {
    let (_directory, mut volume) = disk();
    file(&mut volume, ROOT, "a", b"bytes", false);
    volume.sync_names(ROOT).unwrap();
    let lost = volume.lose(Left::Synced).unwrap();
    assert_eq!(tree(&volume), [("a".to_owned(), vec![])]);
    assert_eq!(lost, Lost { files: 1, bytes: 5, torn: 0, names: 0 });
}

#[test]
fn a_removed_file_comes_back_unless_its_directory_was_synced() {
    let (_directory, mut volume) = disk();
    for called in ["a", "b"] {
        file(&mut volume, ROOT, called, b"bytes", true);
        volume.unlink(ROOT, name(called)).unwrap();
        if called == "a" {
            volume.sync_names(ROOT).unwrap();
        }
    }
    assert_eq!(names(&volume), [""; 0]);
    volume.lose(Left::Synced).unwrap();
    assert_eq!(tree(&volume), [("b".to_owned(), b"bytes".to_vec())]);
}

#[test]
fn a_rename_over_a_file_leaves_the_old_or_the_new_one() {
    let (_directory, mut volume) = disk();
    file(&mut volume, ROOT, "current", b"old", true);
    let new = file(&mut volume, ROOT, "new", b"new", false);
    sync(&mut volume, new);
    volume.rename((ROOT, name("new")), (ROOT, name("current"))).unwrap();
    assert_eq!(tree(&volume), [("current".to_owned(), b"new".to_vec())]);
    volume.lose(Left::Synced).unwrap();
    assert_eq!(tree(&volume), [("current".to_owned(), b"old".to_vec())]);

    let new = file(&mut volume, ROOT, "new", b"new", false);
    sync(&mut volume, new);
    volume.rename((ROOT, name("new")), (ROOT, name("current"))).unwrap();
    volume.sync_names(ROOT).unwrap();
    volume.lose(Left::Synced).unwrap();
    assert_eq!(tree(&volume), [("current".to_owned(), b"new".to_vec())]);
}

#[test]
fn a_rename_between_directories_is_on_disk_in_both_or_in_neither() {
    let (old, new) = (["from/", "from/a", "to/"], ["from/", "to/", "to/a"]);
    for (synced, expected) in [(None, old), (Some(0_usize), new), (Some(1), new)] {
        let (_directory, mut volume) = disk();
        let directories = ["from", "to"].map(|called| volume.create_directory(ROOT, name(called), 0o700).unwrap());
        volume.sync_names(ROOT).unwrap();
        file(&mut volume, directories[0], "a", b"bytes", true);
        volume.rename((directories[0], name("a")), (directories[1], name("a"))).unwrap();
        if let Some(index) = synced {
            volume.sync_names(directories[index]).unwrap();
        }
        volume.lose(Left::Synced).unwrap();
        assert_eq!(names(&volume), expected, "{synced:?}");
    }
}

#[test]
fn a_file_that_was_created_elsewhere_and_moved_is_durable_where_it_went() {
    let (_directory, mut volume) = disk();
    let directories = ["from", "to"].map(|called| volume.create_directory(ROOT, name(called), 0o700).unwrap());
    volume.sync_names(ROOT).unwrap();
    let number = file(&mut volume, directories[0], "part", b"bytes", false);
    file(&mut volume, directories[0], "other", b"bytes", false);
    sync(&mut volume, number);
    volume.rename((directories[0], name("part")), (directories[1], name("whole"))).unwrap();
    volume.sync_names(directories[1]).unwrap();
    volume.lose(Left::Synced).unwrap();
    assert_eq!(names(&volume), ["from/", "to/", "to/whole"]);
}

#[test]
fn a_directory_without_a_synced_name_takes_all_that_is_in_it() {
    let (_directory, mut volume) = disk();
    let directory = volume.create_directory(ROOT, name("d"), 0o700).unwrap();
    file(&mut volume, directory, "a", b"bytes", true);
    volume.lose(Left::Synced).unwrap();
    assert_eq!(names(&volume), [""; 0]);
    assert!(volume.node(directory).is_err());
}

#[test]
fn a_removed_tree_is_gone_once_the_directory_above_is_synced() {
    let (_directory, mut volume) = disk();
    let directory = volume.create_directory(ROOT, name("d"), 0o700).unwrap();
    volume.sync_names(ROOT).unwrap();
    file(&mut volume, directory, "a", b"bytes", true);
    volume.unlink(directory, name("a")).unwrap();
    volume.remove_directory(ROOT, name("d")).unwrap();
    volume.sync_names(ROOT).unwrap();
    volume.lose(Left::Synced).unwrap();
    assert_eq!((names(&volume), volume.nodes.len(), volume.space().0), (vec![], 1, 0));
}

#[test]
fn links_share_bytes_and_each_name_is_durable_for_itself() {
    let (_directory, mut volume) = disk();
    let directory = volume.create_directory(ROOT, name("copy"), 0o700).unwrap();
    volume.sync_names(ROOT).unwrap();
    let number = file(&mut volume, ROOT, "a", b"bytes", true);
    volume.link(number, directory, name("a")).unwrap();
    assert_eq!(volume.node(number).unwrap().links, 2);
    volume.unlink(ROOT, name("a")).unwrap();
    volume.sync_names(ROOT).unwrap();
    assert_eq!(tree(&volume)[1], ("copy/a".to_owned(), b"bytes".to_vec()));
    volume.lose(Left::Synced).unwrap();
    assert_eq!(names(&volume), ["copy/"], "the second name was not synced");
}

#[test]
fn seeds_leave_every_prefix_of_the_operations_on_names() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let (_directory, mut volume) = disk();
        for called in ["a", "b", "c"] {
            file(&mut volume, ROOT, called, b"", false);
        }
        volume.rename((ROOT, name("a")), (ROOT, name("d"))).unwrap();
        volume.lose(Left::Some(seed)).unwrap();
        seen.insert(names(&volume).concat());
    }
    assert_eq!(Vec::from_iter(seen), ["", "a", "ab", "abc", "bcd"]);
}

#[test]
fn an_open_file_without_a_name_is_there_until_it_is_closed() {
    let (_directory, mut volume) = disk();
    let number = file(&mut volume, ROOT, "a", b"bytes", true);
    volume.open(number).unwrap();
    volume.unlink(ROOT, name("a")).unwrap();
    volume.sync_names(ROOT).unwrap();
    assert_eq!(volume.content(number).unwrap().read(0, 10).unwrap(), b"bytes");
    volume.close(number);
    assert!(volume.node(number).is_err());
    assert_eq!(volume.space().0, 0);
}

#[test]
fn a_full_disk_takes_no_more_bytes_and_overwrites() {
    let (_directory, mut volume) = disk();
    let number = file(&mut volume, ROOT, "a", b"bytes", true);
    volume.leave_free(2);
    assert!(volume.write(number, 5, b"xyz").is_err());
    volume.write(number, 3, b"xyzz").unwrap();
    assert!(volume.write(number, 7, b"x").is_err());
    volume.resize(number, 0).unwrap();
    volume.write(number, 0, b"1234567").unwrap();
    assert_eq!(volume.space(), (7, 7));
}

#[test]
fn what_cannot_be_done_is_refused() {
    let (_directory, mut volume) = disk();
    let directory = volume.create_directory(ROOT, name("d"), 0o700).unwrap();
    let number = file(&mut volume, directory, "a", b"", true);
    let code = |result: Result<()>| i32::from(result.unwrap_err());
    assert_eq!(code(volume.remove_directory(ROOT, name("d"))), i32::from(Errno::ENOTEMPTY));
    assert_eq!(code(volume.create(ROOT, name("d"), 0o600).map(drop)), i32::from(Errno::EEXIST));
    assert_eq!(code(volume.unlink(ROOT, name("b"))), i32::from(Errno::ENOENT));
    assert_eq!(code(volume.link(number, directory, name("a"))), i32::from(Errno::EEXIST));
    assert_eq!(code(volume.rename((directory, name("a")), (ROOT, name("d")))), i32::from(Errno::EISDIR));
    assert_eq!(volume.path(number), Path::new("d/a"));
}
