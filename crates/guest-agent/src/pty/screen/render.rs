//! Drawing a screen again: the bytes that take a terminal from any state into the model's.

use std::io::Write;

use alacritty_terminal::grid::{Cursor, Dimensions};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::TermMode;
use alacritty_terminal::term::cell::Cell;
use alacritty_terminal::vte::ansi::{CharsetIndex, CursorShape, CursorStyle, StandardCharset};
use freestyle_guest_protocol::pty::PtySize;

use super::model::{Keyboard, Model};
use super::rows::{self, End, Half, Pen};

/// Resets a terminal and clears it, its scrollback included: a viewer that comes again must not see
/// everything twice.
const RESET: &[u8] = b"\x1bc\x1b[3J";
const DEFAULT_TAB_STOPS: usize = 8;

/// Modes that are off in a terminal that was reset, and what turns them on.
const MODES: [(TermMode, &[u8]); 11] = [
    (TermMode::INSERT, b"\x1b[4h"),
    (TermMode::LINE_FEED_NEW_LINE, b"\x1b[20h"),
    (TermMode::APP_CURSOR, b"\x1b[?1h"),
    (TermMode::APP_KEYPAD, b"\x1b="),
    (TermMode::MOUSE_REPORT_CLICK, b"\x1b[?1000h"),
    (TermMode::MOUSE_DRAG, b"\x1b[?1002h"),
    (TermMode::MOUSE_MOTION, b"\x1b[?1003h"),
    (TermMode::FOCUS_IN_OUT, b"\x1b[?1004h"),
    (TermMode::UTF8_MOUSE, b"\x1b[?1005h"),
    (TermMode::SGR_MOUSE, b"\x1b[?1006h"),
    (TermMode::BRACKETED_PASTE, b"\x1b[?2004h"),
];
/// Modes that are on in a terminal that was reset, and what turns them off.
const DEFAULT_MODES: [(TermMode, &[u8]); 3] = [
    (TermMode::LINE_WRAP, b"\x1b[?7l"),
    (TermMode::SHOW_CURSOR, b"\x1b[?25l"),
    (TermMode::ALTERNATE_SCROLL, b"\x1b[?1007l"),
];
/// Character sets and what designates them.
const CHARSETS: [(CharsetIndex, u8); 4] = [
    (CharsetIndex::G0, b'('),
    (CharsetIndex::G1, b')'),
    (CharsetIndex::G2, b'*'),
    (CharsetIndex::G3, b'+'),
];

/// Draws the model on a terminal that is as large as the viewer's, or larger.
pub(super) fn render(model: &mut Model, viewer: PtySize) -> Vec<u8> {
    let mut drawing = Drawing {
        out: RESET.to_vec(),
        // Only then does the terminal break lines where this one has.
        same_width: usize::from(viewer.cols()) == model.term.columns(),
    };
    if let Some(title) = &model.title {
        let title: String = title.chars().filter(|character| !character.is_control()).collect();
        drawing.print(format_args!("\x1b]2;{title}\x07"));
    }
    let is_alternate = model.is_alternate();
    model.with_primary(|primary| {
        drawing.scrollback(primary, viewer);
        drawing.screen(primary);
        if is_alternate {
            let cursor = primary.term.grid().cursor.clone();
            drawing.cursor(&cursor, primary, 0);
            drawing.charsets(&cursor);
            drawing.keyboard(primary.keyboard());
            drawing.out.extend_from_slice(b"\x1b[?1049h");
            drawing.no_charsets();
            drawing.out.extend_from_slice(b"\x1b[m\x1b[2J\x1b[H");
        }
    });
    if is_alternate {
        drawing.screen(model);
    }
    drawing.state(model);
    drawing.out
}

struct Drawing {
    out: Vec<u8>,
    same_width: bool,
}

impl Drawing {
    fn print(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.out.write_fmt(text);
    }

    /// Draws what has scrolled away, and scrolls it away.
    fn scrollback(&mut self, model: &Model, viewer: PtySize) {
        let grid = model.term.grid();
        if model.scrollback.is_empty() && grid.history_size() == 0 {
            return;
        }
        model.scrollback.print(&mut self.out);
        for line in grid.topmost_line().0..0 {
            let row = rows::scrolled(&grid[Line(line)], &grid[Line(line + 1)]);
            self.out.extend_from_slice(&row);
        }
        if !self.out.ends_with(b"\n") {
            // The last line goes on in the window, which is drawn by itself.
            self.out.extend_from_slice(b"\r\n");
        }
        self.out.extend((1..viewer.rows()).map(|_| b'\n'));
        self.out.extend_from_slice(b"\x1b[H");
    }

    /// Draws the rows of the window, from its top, and the cursor that was saved.
    fn screen(&mut self, model: &mut Model) {
        let grid = model.term.grid();
        let last = grid.bottommost_line();
        let mut goes_on = false;
        for line in 0..=last.0 {
            let next = (line < last.0).then(|| &grid[Line(line + 1)]);
            let next = next.filter(|_| self.same_width);
            goes_on = rows::print(&mut self.out, &grid[Line(line)], next, goes_on) == End::Wraps;
            if !goes_on && line < last.0 {
                self.out.extend_from_slice(b"\r\n");
            }
        }
        let saved = grid.saved_cursor.clone();
        if saved != Cursor::default() {
            self.cursor(&saved, model, 0);
            self.charsets(&saved);
            self.out.extend_from_slice(b"\x1b7");
            self.no_charsets();
        }
        self.out.extend_from_slice(b"\x1b[m");
    }

    /// Moves the cursor there, with its attributes. Rows are counted from `first`. Where it waits
    /// beyond the end of a row, the last character is printed anew.
    fn cursor(&mut self, cursor: &Cursor<Cell>, model: &Model, first: usize) {
        let column = cursor.point.column;
        let row = &model.term.grid()[cursor.point.line];
        let line = usize::try_from(cursor.point.line.0).unwrap_or(0).saturating_sub(first);
        let mut pen = Pen::default();
        self.out.extend_from_slice(b"\x1b[m");
        if cursor.input_needs_wrap && self.same_width {
            let is_second = Half::of(row, column) == Half::Second;
            let column = if is_second { Column(column.0 - 1) } else { column };
            self.go_to(line, column);
            rows::print_cell(&mut self.out, row, column, &mut pen);
        } else {
            self.go_to(line, column);
        }
        pen.change(&mut self.out, Pen::of(&cursor.template));
    }

    fn go_to(&mut self, line: usize, column: Column) {
        self.print(format_args!("\x1b[{};{}H", line + 1, column.0 + 1));
    }

    fn tab_stops(&mut self, model: &mut Model) {
        let stops = model.tab_stops();
        let last = model.term.last_column().0;
        // Whether or not there is a stop in it, a tabulator goes no further than the last column.
        let is_default = |column: &usize| column.is_multiple_of(DEFAULT_TAB_STOPS);
        let default = (0..last).filter(is_default).chain([last]);
        if stops.iter().copied().eq(default) {
            return;
        }
        self.out.extend_from_slice(b"\x1b[3g");
        for column in stops {
            self.print(format_args!("\x1b[{}G\x1bH", column + 1));
        }
    }

    fn charsets(&mut self, cursor: &Cursor<Cell>) {
        for (index, designator) in CHARSETS {
            if cursor.charsets[index] == StandardCharset::SpecialCharacterAndLineDrawing {
                self.out.extend_from_slice(&[0x1B, designator, b'0']);
            }
        }
    }

    fn no_charsets(&mut self) {
        for (_, designator) in CHARSETS {
            self.out.extend_from_slice(&[0x1B, designator, b'B']);
        }
    }

    /// Everything that is not content. What moves the cursor comes before it, and what would change
    /// how it is drawn after it.
    fn state(&mut self, model: &mut Model) {
        self.tab_stops(model);
        let (first, last) = model.scroll_region();
        let rows = model.term.screen_lines();
        if (first, last + 1) != (0, rows) && first < last {
            self.print(format_args!("\x1b[{};{}r", first + 1, last + 1));
        }
        let mode = *model.term.mode();
        let counts_from_region = mode.contains(TermMode::ORIGIN);
        if counts_from_region {
            self.out.extend_from_slice(b"\x1b[?6h");
        }
        let cursor = model.term.grid().cursor.clone();
        self.cursor(&cursor, model, if counts_from_region { first } else { 0 });
        for (flag, on) in MODES {
            if mode.contains(flag) {
                self.out.extend_from_slice(on);
            }
        }
        for (flag, off) in DEFAULT_MODES {
            if !mode.contains(flag) {
                self.out.extend_from_slice(off);
            }
        }
        self.cursor_style(model.term.cursor_style());
        self.charsets(&cursor);
        if model.charset == CharsetIndex::G1 {
            self.out.push(0x0E);
        }
        self.keyboard(model.keyboard());
        if let Some(mode) = model.modify_other_keys {
            self.print(format_args!("\x1b[>4;{}m", mode as u8));
        }
    }

    fn cursor_style(&mut self, style: CursorStyle) {
        let steady = match style.shape {
            CursorShape::Underline => 4,
            CursorShape::Beam => 6,
            CursorShape::Block | CursorShape::HollowBlock | CursorShape::Hidden => 2,
        };
        if style != CursorStyle::default() {
            self.print(format_args!("\x1b[{} q", steady - u8::from(style.blinking)));
        }
    }

    fn keyboard(&mut self, keyboard: &Keyboard) {
        if !keyboard.base.is_empty() {
            self.print(format_args!("\x1b[={};1u", keyboard.base.bits()));
        }
        for mode in &keyboard.pushed {
            self.print(format_args!("\x1b[>{}u", mode.bits()));
        }
    }
}
