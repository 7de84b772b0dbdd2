//! Rows of a screen as the bytes that print them.

use std::collections::VecDeque;
use std::io::Write;

use alacritty_terminal::grid::Row;
use alacritty_terminal::index::Column;
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::vte::ansi::{Color, NamedColor};

/// Lines that are kept once they have scrolled away. Each is a row, or more where it was broken.
const MAX_LINES: usize = 10_000;
/// Bytes that rows may take.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that a row takes besides its own.
const ROW_COST: usize = 32;

/// Rows that have scrolled away, oldest first.
#[derive(Default)]
pub(super) struct Scrollback {
    rows: VecDeque<Box<[u8]>>,
    lines: usize,
    bytes: usize,
}

impl Scrollback {
    /// Adds a row, as [`scrolled`] makes it.
    pub(super) fn push(&mut self, row: Box<[u8]>) {
        self.bytes += row.len() + ROW_COST;
        self.lines += usize::from(ends_line(&row));
        self.rows.push_back(row);
        while self.lines > MAX_LINES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.rows.pop_front() else { return };
            self.bytes -= oldest.len() + ROW_COST;
            self.lines -= usize::from(ends_line(&oldest));
        }
    }

    /// The bytes that print them.
    pub(super) fn print(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes);
        for row in &self.rows {
            out.extend_from_slice(row);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn lines(&self) -> usize {
        self.lines
    }
}

fn ends_line(row: &[u8]) -> bool {
    row.ends_with(b"\n")
}

/// A row for the scrollback: a terminal of any width breaks long lines anew.
pub(super) fn scrolled(row: &Row<Cell>, next: &Row<Cell>) -> Box<[u8]> {
    let mut out = Vec::new();
    if print(&mut out, row, Some(next), false) == End::Open {
        out.extend_from_slice(b"\r\n");
    }
    out.into()
}

/// Whether the next row goes on by itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A line break is to follow.
    Open,
    /// The next character that is printed is in the next row.
    Wraps,
}

/// Prints a row, beginning and ending with no attributes. With `at_least_one` something is printed
/// even if it is empty, so that the row before goes on in it.
pub(super) fn print(
    out: &mut Vec<u8>,
    row: &Row<Cell>,
    next: Option<&Row<Cell>>,
    at_least_one: bool,
) -> End {
    let last = Column(row.len() - 1);
    let wraps = row[last].flags.contains(Flags::WRAPLINE) && next.is_some();
    let mut count = if wraps {
        row.len()
    } else {
        let is_content = |cell: &Cell| !is_blank(cell);
        row[..].iter().rposition(is_content).map_or(0, |last| last + 1)
    };
    if at_least_one {
        count = count.max(1);
    }
    // A wide character that had no room here: the terminal leaves the place empty by itself.
    let has_no_room = |next: &Row<Cell>| {
        Half::of(next, Column(0)) == Half::First && Pen::of(&next[Column(0)]) == Pen::of(&row[last])
    };
    let is_left_out =
        row[last].flags.contains(Flags::LEADING_WIDE_CHAR_SPACER) && next.is_some_and(has_no_room);
    if wraps && is_left_out {
        count -= 1;
    }
    let mut pen = Pen::default();
    for column in 0..count {
        print_cell(out, row, Column(column), &mut pen);
    }
    pen.change(out, Pen::default());
    if wraps { End::Wraps } else { End::Open }
}

/// Prints a cell; of a wide character, the second one is nothing. Half of one is a space.
pub(super) fn print_cell(out: &mut Vec<u8>, row: &Row<Cell>, column: Column, pen: &mut Pen) {
    let cell = &row[column];
    let half = Half::of(row, column);
    if half == Half::Second {
        return;
    }
    pen.change(out, Pen::of(cell));
    let mut push = |character: char| {
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    };
    if half == Half::Alone {
        return push(' ');
    }
    // The terminal notes tabulators in cells that they left empty.
    push(if cell.c.is_control() { ' ' } else { cell.c });
    cell.zerowidth().into_iter().flatten().copied().for_each(&mut push);
}

/// Which half of a wide character a cell is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    None,
    First,
    Second,
    /// The other was overwritten, or lies beyond the window.
    Alone,
}

impl Half {
    pub(super) fn of(row: &Row<Cell>, column: Column) -> Self {
        let has =
            |column: usize, flag| column < row.len() && row[Column(column)].flags.contains(flag);
        let at = column.0;
        if has(at, Flags::WIDE_CHAR) {
            if has(at + 1, Flags::WIDE_CHAR_SPACER) { Self::First } else { Self::Alone }
        } else if has(at, Flags::WIDE_CHAR_SPACER) {
            if at > 0 && has(at - 1, Flags::WIDE_CHAR) { Self::Second } else { Self::Alone }
        } else {
            Self::None
        }
    }
}

fn is_blank(cell: &Cell) -> bool {
    (cell.c == ' ' || cell.c == '\t')
        && cell.zerowidth().is_none_or(<[char]>::is_empty)
        && Pen::of(cell) == Pen::default()
}

/// How characters are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pen {
    foreground: Color,
    background: Color,
    underline: Option<Color>,
    flags: Flags,
}

/// Flags that are about how a character looks.
const LOOKS: [(Flags, &str); 11] = [
    (Flags::BOLD, "1"),
    (Flags::DIM, "2"),
    (Flags::ITALIC, "3"),
    (Flags::UNDERLINE, "4"),
    (Flags::DOUBLE_UNDERLINE, "4:2"),
    (Flags::UNDERCURL, "4:3"),
    (Flags::DOTTED_UNDERLINE, "4:4"),
    (Flags::DASHED_UNDERLINE, "4:5"),
    (Flags::INVERSE, "7"),
    (Flags::HIDDEN, "8"),
    (Flags::STRIKEOUT, "9"),
];

impl Default for Pen {
    fn default() -> Self {
        Self::of(&Cell::default())
    }
}

impl Pen {
    /// The one that printed this cell.
    pub(super) fn of(cell: &Cell) -> Self {
        let all = LOOKS.iter().fold(Flags::empty(), |all, (flag, _)| all | *flag);
        Self {
            foreground: cell.fg,
            background: cell.bg,
            underline: cell.underline_color(),
            flags: cell.flags & all,
        }
    }

    /// Prints what makes it `to`.
    pub(super) fn change(&mut self, out: &mut Vec<u8>, to: Self) {
        if *self == to {
            return;
        }
        *self = to;
        out.extend_from_slice(b"\x1b[0");
        for (_, parameter) in LOOKS.iter().filter(|(flag, _)| to.flags.contains(*flag)) {
            out.push(b';');
            out.extend_from_slice(parameter.as_bytes());
        }
        let colors = [(Some(to.foreground), 38), (Some(to.background), 48), (to.underline, 58)];
        for (color, kind) in colors {
            if let Some(color) = color {
                print_color(out, color, kind);
            }
        }
        out.push(b'm');
    }
}

/// A parameter that sets a color; `kind` is 38, 48 or 58 for foreground, background or underline.
fn print_color(out: &mut Vec<u8>, color: Color, kind: u16) {
    // Writing to a vector cannot fail.
    let _ = match color {
        Color::Named(NamedColor::Foreground | NamedColor::Background) => Ok(()),
        Color::Named(name) => match name as usize {
            index @ 0..8 if kind != 58 => write!(out, ";{}", usize::from(kind) - 8 + index),
            index @ 8..16 if kind != 58 => write!(out, ";{}", usize::from(kind) + 44 + index),
            index @ 0..16 => write!(out, ";{kind}:5:{index}"),
            _ => Ok(()),
        },
        Color::Indexed(index) if kind == 58 => write!(out, ";58:5:{index}"),
        Color::Indexed(index) => write!(out, ";{kind};5;{index}"),
        Color::Spec(rgb) if kind == 58 => write!(out, ";58:2::{}:{}:{}", rgb.r, rgb.g, rgb.b),
        Color::Spec(rgb) => write!(out, ";{kind};2;{};{};{}", rgb.r, rgb.g, rgb.b),
    };
}
