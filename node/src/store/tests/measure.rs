//! The cost of applying and reading in the store alone.

use std::time::Instant;

use super::*;

/// `cargo test --release -p headwater --lib store::tests::measure -- --ignored --nocapture`; EVENTS
/// sets the number of events, STREAMS that of streams, FLUSH_MIB how much is applied between
/// flushes.
#[test]
#[ignore = "a measurement, not a test"]
fn measure_apply_and_page_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = StateWriter::open(directory.path(), CACHE_OF_A_NODE_BYTES).unwrap();
    let number =
        |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (events, flush_bytes) = (number("EVENTS", 300_000), number("FLUSH_MIB", 24) << 20);
    let (streams, chunks) = (number("STREAMS", 1_000), events / 30);
    let started = Instant::now();
    let mut window = (Instant::now(), std::time::Duration::ZERO);
    let mut flushing: Option<std::thread::JoinHandle<()>> = None;
    for chunk_number in 0..chunks {
        let stream = |n: u64| format!("stream-{}", (chunk_number * 30 + n) * 7919 % streams);
        let next = |n: u64| u128::from(chunk_number * 30 + n);
        let begun = Instant::now();
        let mut chunk = store.begin();
        for n in 0..30 {
            append(&mut chunk, &stream(n), next(n)..next(n) + 1, 256);
        }
        chunk.commit(chunk_number + 1, vec![1; 16], None);
        window.1 += begun.elapsed();
        if store.unflushed_bytes() > flush_bytes && flushing.as_ref().is_none_or(|flushing| flushing.is_finished()) {
            let store = Store::clone(&store);
            flushing = Some(std::thread::spawn(move || store.flush().unwrap()));
        }
        if (chunk_number + 1) % (chunks / 10) == 0 {
            let per_chunk = window.1 / (chunks / 10) as u32;
            println!(
                "{} events: {per_chunk:?} per chunk of 30, {:?} of all processors per event so far",
                (chunk_number + 1) * 30,
                processor_time() / ((chunk_number + 1) * 30) as u32
            );
            window = (Instant::now(), std::time::Duration::ZERO);
        }
    }
    if let Some(flushing) = flushing {
        flushing.join().unwrap();
    }
    println!("{:?} in all", started.elapsed());
    // A compaction replaces files, and with them what is cached of them.
    store.settle();
    let generation = store.inner.current.load_full();
    for (what, is_head) in [("head", true), ("old", false)] {
        let page = |tier: Tier| {
            let view = ReadView::new(&generation, tier);
            let info = view.stream("stream-7")?;
            let from = if is_head { info.last_number.unwrap_or(0).saturating_sub(19) } else { 0 };
            view.events(info.id.unwrap_or(0), from..=from + 19)
        };
        let begun = Instant::now();
        page(Tier::Disk).unwrap();
        let cold = begun.elapsed();
        let begun = Instant::now();
        let read = (0..1000).filter(|_| page(Tier::Memory).is_ok_and(|events| events.len() == 20)).count();
        let each = begun.elapsed() / 1000;
        println!("{what} page of one stream: first {cold:?}, then {each:?}, {read} of 1000 from memory");
    }
    drop(generation);
    drop(store);
    let begun = Instant::now();
    let store = StateWriter::open(directory.path(), CACHE_OF_A_NODE_BYTES).unwrap();
    println!("open: {:?}, {:?}", begun.elapsed(), store.applied().current());
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")).collect::<String>()
    );
}

/// Processor time of this process, all threads together.
fn processor_time() -> std::time::Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    std::time::Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
