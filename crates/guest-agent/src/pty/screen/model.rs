//! What a terminal would show and which state it would be in, bounded in memory and time whatever
//! the program prints.
//!
//! The terminal itself is `alacritty_terminal`. Kept beside it: rows that have scrolled away, as the
//! bytes that print them, some twenty times smaller than its cells; and state that it does not give
//! out. What asks a terminal for an answer is left to the viewers' terminals.

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::{Cursor, Dimensions, Grid};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, Term, TermMode};
use alacritty_terminal::vte::ansi::{
    Attr, CharsetIndex, ClearMode, CursorShape, CursorStyle, Handler, KeyboardModes,
    KeyboardModesApplyBehavior, LineClearMode, Mode, ModifyOtherKeys, NamedPrivateMode,
    PrivateMode, StandardCharset, TabulationClearMode,
};
use freestyle_guest_protocol::pty::PtySize;
use unicode_width::UnicodeWidthChar;

use super::rows::{self, Scrollback};

/// Rows that have scrolled away and are kept as cells: so many can come back into view when the
/// window grows.
const KEPT_ROWS: usize = 100;
/// They are made bytes so many at a time.
const ROWS_AT_ONCE: usize = 32;
/// Most marks that are put over one character.
const MAX_MARKS: usize = 4;
/// Characters of a title that are kept.
const MAX_TITLE: usize = 256;
/// Most titles, and most keyboard modes, that wait to be restored.
const MAX_STACK: usize = 16;

/// A terminal, and the rows that have scrolled out of it.
pub(super) struct Model {
    pub(super) term: Term<VoidListener>,
    pub(super) scrollback: Scrollback,
    pub(super) title: Option<String>,
    titles: Vec<Option<String>>,
    pub(super) charset: CharsetIndex,
    /// Of the primary and of the alternate screen.
    keyboards: [Keyboard; 2],
    pub(super) modify_other_keys: Option<ModifyOtherKeys>,
    /// Characters that may still be printed by the bytes that are being fed.
    characters: usize,
}

/// The state of the kitty keyboard protocol for one screen.
#[derive(Debug, Default)]
pub(super) struct Keyboard {
    /// What holds where nothing was pushed.
    pub(super) base: KeyboardModes,
    pub(super) pushed: Vec<KeyboardModes>,
}

/// What the terminal takes for a size. It cannot do with one column.
#[derive(Clone, Copy)]
struct Size {
    columns: usize,
    rows: usize,
}

impl From<PtySize> for Size {
    fn from(size: PtySize) -> Self {
        Self { columns: usize::from(size.cols()).max(2), rows: usize::from(size.rows()) }
    }
}

impl Dimensions for Size {
    fn total_lines(&self) -> usize {
        self.rows
    }

    fn screen_lines(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }
}

impl Model {
    pub(super) fn new(size: PtySize) -> Self {
        let size = Size::from(size);
        let config = Config { scrolling_history: history_limit(size), ..Config::default() };
        Self {
            term: Term::new(config, &size, VoidListener),
            scrollback: Scrollback::default(),
            title: None,
            titles: Vec::new(),
            charset: CharsetIndex::default(),
            keyboards: Default::default(),
            modify_other_keys: None,
            characters: 0,
        }
    }

    /// To be called before so many bytes are parsed. Only the repetition of a character prints more
    /// characters than it has bytes, and more of them than fit a row are of no use.
    pub(super) fn expect(&mut self, bytes: usize) {
        self.characters = bytes.saturating_mul(self.term.columns());
    }

    pub(super) fn resize(&mut self, size: PtySize) {
        let (size, before) = (Size::from(size), self.term.columns());
        if !self.is_alternate() {
            // Rows that become several must not push others out that were not kept yet.
            let rows = self.term.grid().total_lines() + size.rows;
            self.term.grid_mut().update_history(rows * (before / size.columns + 2));
        }
        self.term.resize(size);
        if !self.is_alternate() {
            self.keep_rows();
            self.term.grid_mut().update_history(history_limit(size));
        }
        self.settle_cursors();
        self.with_primary(Self::settle_cursors);
    }

    /// A cursor that waited beyond the end of a row waits no more if the row has become longer.
    fn settle_cursors(&mut self) {
        let last = self.term.last_column();
        let grid = self.term.grid_mut();
        for cursor in [&mut grid.cursor, &mut grid.saved_cursor] {
            if cursor.input_needs_wrap && cursor.point.column < last {
                cursor.input_needs_wrap = false;
                cursor.point.column += 1;
            }
        }
    }

    pub(super) fn is_alternate(&self) -> bool {
        self.term.mode().contains(TermMode::ALT_SCREEN)
    }

    pub(super) fn keyboard(&self) -> &Keyboard {
        &self.keyboards[usize::from(self.is_alternate())]
    }

    fn keyboard_mut(&mut self) -> &mut Keyboard {
        &mut self.keyboards[usize::from(self.is_alternate())]
    }

    /// Shows the primary screen to `look`, also while the alternate one is in use.
    pub(super) fn with_primary<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        if !self.is_alternate() {
            return look(self);
        }
        // The terminal clears the alternate screen when it is entered again.
        let alternate = self.term.grid().clone();
        self.term.swap_alt();
        let seen = look(self);
        self.term.swap_alt();
        *self.term.grid_mut() = alternate;
        seen
    }

    /// What was saved in the alternate screen is forgotten when it is entered again: a viewer who
    /// came in between was shown the primary one and does not know of it.
    fn enter_alternate(&mut self) {
        if !self.is_alternate() {
            self.term.set_private_mode(ALTERNATE);
            self.term.grid_mut().saved_cursor = Cursor::default();
        }
    }

    /// The first and the last row of the region that scrolls. The terminal tells by where it moves
    /// the cursor to.
    pub(super) fn scroll_region(&mut self) -> (usize, usize) {
        let cursor = self.term.grid().cursor.clone();
        let origin = PrivateMode::Named(NamedPrivateMode::Origin);
        let had_origin = self.term.mode().contains(TermMode::ORIGIN);
        let row = |grid: &Grid<Cell>| usize::try_from(grid.cursor.point.line.0).unwrap_or(0);
        self.term.set_private_mode(origin);
        let first = row(self.term.grid());
        self.term.goto(i32::from(PtySize::MAX_ROWS), 0);
        let last = row(self.term.grid());
        if !had_origin {
            self.term.unset_private_mode(origin);
        }
        self.term.grid_mut().cursor = cursor;
        (first, last)
    }

    /// The columns at which a tabulator stops, found by pressing it.
    pub(super) fn tab_stops(&mut self) -> Vec<usize> {
        let cursor = self.term.grid().cursor.clone();
        let last = self.term.last_column();
        let mut stops = Vec::new();
        self.term.grid_mut().cursor.point.column = Column(1);
        self.term.move_backward_tabs(1);
        if self.term.grid().cursor.point.column == Column(0) {
            stops.push(0);
        }
        self.term.grid_mut().cursor.point.column = Column(0);
        while self.term.grid().cursor.point.column < last {
            self.term.move_forward_tabs(1);
            stops.push(self.term.grid().cursor.point.column.0);
        }
        self.term.grid_mut().cursor = cursor;
        stops
    }

    /// Makes rows that have scrolled away bytes, except for the last.
    fn keep_rows(&mut self) {
        let grid = self.term.grid();
        let history = grid.history_size();
        if history <= KEPT_ROWS {
            return;
        }
        for line in grid.topmost_line().0..-(KEPT_ROWS as i32) {
            self.scrollback.push(rows::scrolled(&grid[Line(line)], &grid[Line(line + 1)]));
        }
        let limit = history_limit(Size { columns: grid.columns(), rows: grid.screen_lines() });
        let grid = self.term.grid_mut();
        grid.update_history(KEPT_ROWS);
        grid.update_history(limit);
    }

    /// Called after everything that may scroll.
    #[inline]
    fn scrolled(&mut self) {
        if self.term.grid().history_size() >= KEPT_ROWS + ROWS_AT_ONCE {
            // It makes room for a thousand rows at a time; give back what is not used.
            self.term.grid_mut().truncate();
            self.keep_rows();
        }
    }

    fn forget_scrollback(&mut self) {
        self.scrollback = Scrollback::default();
        self.with_primary(|model| model.term.grid_mut().clear_history());
    }

    /// Whether the character under the cursor takes another mark.
    fn takes_mark(&self) -> bool {
        let grid = self.term.grid();
        let mut column = grid.cursor.point.column;
        if !grid.cursor.input_needs_wrap {
            column.0 = column.0.saturating_sub(1);
        }
        let row = &grid[grid.cursor.point.line];
        if row[column].flags.contains(Flags::WIDE_CHAR_SPACER) {
            column.0 = column.0.saturating_sub(1);
        }
        // Behind a half whose other one is gone there may be the second half of something else.
        !row[column].flags.contains(Flags::WIDE_CHAR_SPACER)
            && row[column].zerowidth().is_none_or(|marks| marks.len() < MAX_MARKS)
    }
}

/// Rows that the terminal may hold above the window: those that are kept, those that wait to be made
/// bytes, and what one step may add.
fn history_limit(size: Size) -> usize {
    KEPT_ROWS + ROWS_AT_ONCE + size.rows
}

/// The ways to the alternate screen, of which the terminal knows one, and one to save the cursor
/// that it does not know.
enum OtherMode {
    AlternateScreen,
    SaveCursor,
}

impl OtherMode {
    fn of(mode: PrivateMode) -> Option<Self> {
        match mode.raw() {
            47 | 1047 | 1049 => Some(Self::AlternateScreen),
            1048 => Some(Self::SaveCursor),
            _ => None,
        }
    }
}

const ALTERNATE: PrivateMode = PrivateMode::Named(NamedPrivateMode::SwapScreenAndSetRestoreCursor);
const COLUMN_MODE: PrivateMode = PrivateMode::Named(NamedPrivateMode::ColumnMode);

/// Methods that the terminal may do as it likes.
macro_rules! passed_on {
    ($($name:ident($($argument:ident: $type:ty),*);)*) => {
        $(
            fn $name(&mut self, $($argument: $type),*) {
                Handler::$name(&mut self.term, $($argument),*);
                self.scrolled();
            }
        )*
    };
}

impl Handler for Model {
    passed_on! {
        goto(line: i32, column: usize);
        goto_line(line: i32);
        goto_col(column: usize);
        insert_blank(count: usize);
        move_up(rows: usize);
        move_down(rows: usize);
        move_forward(columns: usize);
        move_backward(columns: usize);
        move_down_and_cr(rows: usize);
        move_up_and_cr(rows: usize);
        put_tab(count: u16);
        backspace();
        carriage_return();
        linefeed();
        newline();
        set_horizontal_tabstop();
        scroll_up(rows: usize);
        scroll_down(rows: usize);
        insert_blank_lines(count: usize);
        delete_lines(count: usize);
        erase_chars(count: usize);
        delete_chars(count: usize);
        save_cursor_position();
        restore_cursor_position();
        clear_line(mode: LineClearMode);
        clear_tabs(mode: TabulationClearMode);
        set_tabs(interval: u16);
        reverse_index();
        terminal_attribute(attribute: Attr);
        set_mode(mode: Mode);
        unset_mode(mode: Mode);
        set_keypad_application_mode();
        unset_keypad_application_mode();
        configure_charset(index: CharsetIndex, charset: StandardCharset);
        decaln();
        set_cursor_style(style: Option<CursorStyle>);
        set_cursor_shape(shape: CursorShape);
    }

    fn input(&mut self, character: char) {
        if self.characters == 0 {
            return;
        }
        self.characters -= 1;
        // Below there are no marks, and looking for one takes time.
        if character >= '\u{300}' && character.width() == Some(0) && !self.takes_mark() {
            return;
        }
        self.term.input(character);
        self.scrolled();
    }

    /// A region has two rows at least, as with most terminals.
    fn set_scrolling_region(&mut self, top: usize, bottom: Option<usize>) {
        let rows = self.term.screen_lines();
        let bottom = bottom.map_or(rows, |bottom| bottom.min(rows));
        if top < bottom {
            self.term.set_scrolling_region(top, Some(bottom));
        }
    }

    fn move_forward_tabs(&mut self, count: u16) {
        self.term.move_forward_tabs(self.useful(count));
    }

    fn move_backward_tabs(&mut self, count: u16) {
        self.term.move_backward_tabs(self.useful(count));
        // The terminal forgets that it is not at the end of the row any more.
        self.term.grid_mut().cursor.input_needs_wrap = false;
    }

    fn clear_screen(&mut self, mode: ClearMode) {
        match mode {
            ClearMode::Saved => self.forget_scrollback(),
            // As most terminals do; this one would let the window's content scroll away.
            ClearMode::All => self.term.grid_mut().reset_region(..),
            ClearMode::Above | ClearMode::Below => self.term.clear_screen(mode),
        }
    }

    fn reset_state(&mut self) {
        self.term.reset_state();
        self.scrollback = Scrollback::default();
        self.title = None;
        self.titles = Vec::new();
        self.charset = CharsetIndex::default();
        self.keyboards = Default::default();
        self.modify_other_keys = None;
    }

    fn set_private_mode(&mut self, mode: PrivateMode) {
        match OtherMode::of(mode) {
            Some(OtherMode::AlternateScreen) => self.enter_alternate(),
            Some(OtherMode::SaveCursor) => self.term.save_cursor_position(),
            // It would clear the screen, which hardly any terminal does.
            None if mode == COLUMN_MODE => {}
            None => self.term.set_private_mode(mode),
        }
    }

    fn unset_private_mode(&mut self, mode: PrivateMode) {
        match OtherMode::of(mode) {
            Some(OtherMode::AlternateScreen) => self.term.unset_private_mode(ALTERNATE),
            Some(OtherMode::SaveCursor) => self.term.restore_cursor_position(),
            None if mode == COLUMN_MODE => {}
            None => self.term.unset_private_mode(mode),
        }
    }

    fn set_active_charset(&mut self, index: CharsetIndex) {
        self.charset = index;
        self.term.set_active_charset(index);
    }

    fn set_title(&mut self, title: Option<String>) {
        self.title = title.map(|title| title.chars().take(MAX_TITLE).collect());
    }

    fn push_title(&mut self) {
        push(&mut self.titles, self.title.clone());
    }

    fn pop_title(&mut self) {
        if let Some(title) = self.titles.pop() {
            self.title = title;
        }
    }

    fn push_keyboard_mode(&mut self, mode: KeyboardModes) {
        push(&mut self.keyboard_mut().pushed, mode);
    }

    fn pop_keyboard_modes(&mut self, count: u16) {
        let keyboard = self.keyboard_mut();
        let left = keyboard.pushed.len().checked_sub(usize::from(count));
        keyboard.pushed.truncate(left.unwrap_or(0));
        if left.is_none() {
            keyboard.base = KeyboardModes::NO_MODE;
        }
    }

    fn set_keyboard_mode(&mut self, mode: KeyboardModes, apply: KeyboardModesApplyBehavior) {
        let Keyboard { base, pushed } = self.keyboard_mut();
        let current = pushed.last_mut().unwrap_or(base);
        *current = match apply {
            KeyboardModesApplyBehavior::Replace => mode,
            KeyboardModesApplyBehavior::Union => current.union(mode),
            KeyboardModesApplyBehavior::Difference => current.difference(mode),
        };
    }

    fn set_modify_other_keys(&mut self, mode: ModifyOtherKeys) {
        self.modify_other_keys = Some(mode).filter(|mode| *mode != ModifyOtherKeys::Reset);
    }
}

impl Model {
    /// More tabulators than columns are of no use, and take their time.
    fn useful(&self, tabs: u16) -> u16 {
        tabs.min(u16::try_from(self.term.columns()).unwrap_or(u16::MAX))
    }
}

/// Pushes onto a stack that forgets what is at its bottom.
fn push<T>(stack: &mut Vec<T>, value: T) {
    if stack.len() == MAX_STACK {
        stack.remove(0);
    }
    stack.push(value);
}
