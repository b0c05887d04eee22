//! `headwater top`: all nodes of a cluster with their rates and delays, again and again.

mod look;
mod table;

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};
use tokio::sync::mpsc;

use self::look::{Look, Watch};
use super::{CommandError, columns};
use crate::client::Client;
use crate::config::TopFlags;

/// Shows the cluster until `q`, Escape or Ctrl-C; once, as plain text, where that is asked for or
/// standard output is no terminal.
///
/// # Errors
/// See [`CommandError`].
pub(crate) async fn top(flags: &TopFlags) -> Result<(), CommandError> {
    let client = Client::new(&flags.node)?;
    let interval = Duration::from_secs(flags.interval_s);
    let is_plain = flags.once || !std::io::stdout().is_terminal();
    let mut watch = Watch::new(if is_plain { client } else { client.quiet() });
    if is_plain {
        let before = watch.look().await.map_err(CommandError::NoNode)?;
        tokio::time::sleep(interval).await;
        print(&before, &watch.look().await.map_err(CommandError::NoNode)?);
        return Ok(());
    }
    let first = watch.look().await.map_err(CommandError::NoNode)?;
    let terminal = ratatui::try_init()?;
    let shown = show(terminal, watch, first, interval).await;
    ratatui::restore();
    shown
}

fn print(before: &Look, now: &Look) {
    let heads = table::HEADS.map(str::to_owned).to_vec();
    let rows: Vec<table::Row> = [heads].into_iter().chain(table::rows(Some(before), now)).collect();
    let widths: [usize; table::HEADS.len()] = columns::widths(&rows);
    for row in rows {
        say!("{}", columns::line(&row, &widths));
    }
    table::slow(now).iter().for_each(|line| say!("{line}"));
}

async fn show(
    mut terminal: DefaultTerminal,
    mut watch: Watch,
    first: Look,
    interval: Duration,
) -> Result<(), CommandError> {
    let mut keys = keys()?;
    let (mut before, mut now, mut trouble) = (None, first, None::<String>);
    let mut next = tokio::time::interval(interval);
    next.tick().await;
    loop {
        draw(&mut terminal, before.as_ref(), &now, trouble.as_deref())?;
        let looked = async {
            next.tick().await;
            watch.look().await
        };
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Redraw) => {}
                Some(Key::Quit) | None => return Ok(()),
            },
            looked = looked => match looked {
                Ok(look) => (before, trouble) = (Some(std::mem::replace(&mut now, look)), None),
                Err(reason) => trouble = Some(reason),
            },
        }
    }
}

enum Key {
    Quit,
    Redraw,
}

/// What is typed. The thread that waits for it ends with the process.
#[expect(clippy::disallowed_methods, reason = "the thread is there to wait")]
fn keys() -> std::io::Result<mpsc::Receiver<Key>> {
    let (sender, keys) = mpsc::channel(1);
    let forward = move || {
        while let Ok(event) = event::read() {
            if let Some(key) = key_of(&event)
                && sender.blocking_send(key).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(forward)?;
    Ok(keys)
}

fn key_of(event: &Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Redraw),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            _ => None,
        },
        _ => None,
    }
}

fn draw(
    terminal: &mut DefaultTerminal,
    before: Option<&Look>,
    now: &Look,
    trouble: Option<&str>,
) -> std::io::Result<()> {
    let rows = table::rows(before, now);
    let heads = table::HEADS.map(str::to_owned).to_vec();
    let widths: [usize; table::HEADS.len()] = columns::widths(&[std::slice::from_ref(&heads), &rows].concat());
    let widths = widths.map(|width| u16::try_from(width).unwrap_or(u16::MAX));
    let state = match trouble {
        Some(error) => format!("{error}; the figures are old"),
        None => format!("nodes: {}; q ends", now.nodes.len()),
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    terminal.draw(|frame| {
        let places = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(rows.len() as u16 + 1),
            Constraint::Length(2),
            Constraint::Min(0),
        ]);
        let [top, middle, head, bottom] = places.areas(frame.area());
        frame.render_widget(Paragraph::new(format!("headwater top: {state}")), top);
        let (whole, silent): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.len() == table::HEADS.len());
        let shown = whole.len() as u16;
        let table = Table::new(whole.into_iter().map(Row::new), widths.into_iter().map(Constraint::Length));
        frame.render_widget(table.header(Row::new(heads).style(bold)).column_spacing(2), middle);
        for (line, row) in silent.into_iter().enumerate() {
            let mut place = middle;
            place.y += 1 + shown + line as u16;
            place.height = 1;
            frame.render_widget(Paragraph::new(row.join("  ")), place.intersection(frame.area()));
        }
        frame.render_widget(Paragraph::new("\nslowest requests lately").style(bold), head);
        let slow: Vec<Line<'_>> = table::slow(now).into_iter().map(Line::from).collect();
        frame.render_widget(Paragraph::new(slow), bottom);
    })?;
    Ok(())
}
