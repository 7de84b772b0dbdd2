//! Aligned columns that fit the terminal.

use std::io::{self, IsTerminal, Write};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

const GAP: &str = "  ";
/// A column is not cut below this.
const MIN_WIDTH: usize = 8;

/// Writes a table to standard output. On a terminal that is too narrow the widest column is cut;
/// a pipe gets everything.
pub(crate) fn print<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{}", render(header, rows, terminal_width()))?;
    stdout.flush()
}

fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

fn render<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
    max_width: Option<usize>,
) -> String {
    let header = header.map(str::to_owned);
    // Names come from other people: a terminal must not act on what is in them.
    let clean =
        |row: &[String; N]| row.clone().map(|cell| cell.replace(char::is_control, "\u{fffd}"));
    let rows: Vec<_> = std::iter::once(header).chain(rows.iter().map(clean)).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    if let Some(max_width) = max_width {
        shrink(&mut widths, max_width);
    }

    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let cell = cut(cell, width);
            line.push_str(&cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width()));
            line.push_str(GAP);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn shrink(widths: &mut [usize], max_width: usize) {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    let total = widths.iter().sum::<usize>() + gaps;
    let excess = total.saturating_sub(max_width);
    if let Some(widest) = widths.iter_mut().max() {
        *widest = widest.saturating_sub(excess).max(MIN_WIDTH.min(*widest));
    }
}

fn cut(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let mut text = String::new();
    let mut used = 1;
    for c in cell.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        text.push(c);
    }
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[&str]) -> Vec<[String; 2]> {
        names.iter().map(|name| [(*name).to_owned(), "running".to_owned()]).collect()
    }

    #[test]
    fn columns_line_up_whatever_the_script() {
        let text = render(["NAME", "STATE"], &rows(&["build", "日本"]), None);
        assert_eq!(text, "NAME   STATE\nbuild  running\n日本   running\n");
    }

    #[test]
    fn the_widest_column_gives_way_to_the_terminal() {
        let text = render(["NAME", "STATE"], &rows(&["a-rather-long-name-for-a-vm"]), Some(20));
        assert_eq!(text, "NAME         STATE\na-rather-l…  running\n");
        assert!(text.lines().all(|line| line.width() <= 20));
    }

    #[test]
    fn a_name_cannot_move_the_cursor() {
        let text = render(["NAME", "STATE"], &rows(&["\x1b[2Jx"]), None);
        assert!(!text.contains('\x1b'));
    }
}
