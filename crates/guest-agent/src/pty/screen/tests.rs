//! A screen that is drawn again must be the same, cell by cell, and go on the same.

use alacritty_terminal::event::VoidListener;
use alacritty_terminal::grid::{Cursor, Dimensions, Row};
use alacritty_terminal::index::{Column, Line};
use alacritty_terminal::term::cell::{Cell, Flags};
use alacritty_terminal::term::{Config, Term, TermMode};
use alacritty_terminal::vte::ansi::{Color, Processor};
use proptest::prelude::*;

use super::rows::Half;
use super::*;

/// Real programs, recorded in a window of 80 by 24 or, htop, 100 by 30, and cut off in the middle.
/// The last one draws its frames with the line drawing characters of the VT100.
const RECORDINGS: [(&str, &[u8]); 6] = [
    ("vim", include_bytes!("recordings/vim")),
    ("less", include_bytes!("recordings/less")),
    ("less, left again", include_bytes!("recordings/less-left")),
    ("top", include_bytes!("recordings/top")),
    ("htop", include_bytes!("recordings/htop")),
    ("mc without UTF-8", include_bytes!("recordings/mc-no-utf8")),
];

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize::new(cols, rows).unwrap()
}

fn screen(size: PtySize, bytes: &[u8]) -> Screen {
    let mut screen = Screen::new(size);
    screen.feed(bytes);
    screen
}

/// What a viewer of the screen's own size sees.
fn drawn_again(screen: &mut Screen, size: PtySize) -> Screen {
    let drawn = screen.render(size);
    self::screen(size, &drawn)
}

/// A cell as it looks.
type Look = (char, Vec<char>, Color, Color, Option<Color>, Flags);

fn look(row: &Row<Cell>, column: usize) -> Look {
    let cell = &row[Column(column)];
    let is_half = Half::of(row, Column(column)) == Half::Alone;
    let character = if is_half || cell.c == '\t' { ' ' } else { cell.c };
    let marks = if is_half { &[] } else { cell.zerowidth().unwrap_or_default() };
    let mut flags = cell.flags;
    // That a wide character had no room in a cell matters only until either is overwritten.
    flags.remove(Flags::LEADING_WIDE_CHAR_SPACER);
    if column + 1 < row.len() {
        // Left from when the window was narrower.
        flags.remove(Flags::WRAPLINE);
    }
    if is_half {
        flags.remove(Flags::WIDE_CHAR | Flags::WIDE_CHAR_SPACER);
    }
    (character, marks.to_vec(), cell.fg, cell.bg, cell.underline_color(), flags)
}

/// Everything about a terminal that shows, now or later.
#[derive(PartialEq)]
struct Picture {
    rows: Vec<Vec<Look>>,
    cursor: Cursor<Cell>,
    saved_cursor: Cursor<Cell>,
    mode: TermMode,
    style: String,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = look(&Row::new(1), 0);
        for row in &self.rows {
            let text: String = row.iter().map(|look| look.0).collect();
            write!(f, "\n{text:?}")?;
            for (column, cell) in row.iter().enumerate() {
                let (_, marks, fg, bg, underline, flags) = cell;
                if (marks, fg, bg, underline, flags)
                    != (&plain.1, &plain.2, &plain.3, &plain.4, &plain.5)
                {
                    write!(f, " {column}:{marks:?}{fg:?}{bg:?}{underline:?}{flags:?}")?;
                }
            }
        }
        write!(f, "\n{:?}\n{:?}\n{:?} {}", self.cursor, self.saved_cursor, self.mode, self.style)
    }
}

fn picture(term: &Term<VoidListener>) -> Picture {
    let grid = term.grid();
    let row = |line| (0..grid.columns()).map(|column| look(&grid[Line(line)], column)).collect();
    let mut rows: Vec<Vec<Look>> = (0..=grid.bottommost_line().0).map(row).collect();
    // Whether the last row once went on in one that is no more, or one at whose end a cursor waits:
    // to make it wait there, the last character is printed anew.
    let waits =
        [&grid.cursor, &grid.saved_cursor].into_iter().filter(|cursor| cursor.input_needs_wrap);
    let waits = waits.map(|cursor| cursor.point.line.0 as usize);
    for line in waits.chain([rows.len() - 1]) {
        rows[line].last_mut().unwrap().5.remove(Flags::WRAPLINE);
    }
    Picture {
        rows,
        cursor: grid.cursor.clone(),
        saved_cursor: grid.saved_cursor.clone(),
        mode: *term.mode(),
        style: format!("{:?}", term.cursor_style()),
    }
}

/// What only the model knows.
fn rest(model: &mut Model) -> String {
    let (region, tabs) = (model.scroll_region(), model.tab_stops());
    let Model { title, charset, modify_other_keys, .. } = &*model;
    let keyboard = model.keyboard();
    format!("{region:?} {tabs:?} {title:?} {charset:?} {modify_other_keys:?} {keyboard:?}")
}

fn assert_same(one: &mut Screen, other: &mut Screen, what: &str) {
    assert_eq!(picture(&one.model.term), picture(&other.model.term), "{what}");
    assert_eq!(rest(&mut one.model), rest(&mut other.model), "{what}");
    let primary = |screen: &mut Screen| screen.model.with_primary(|model| picture(&model.term));
    assert_eq!(primary(one), primary(other), "{what}, the primary screen");
}

/// The terminal without anything of ours around it.
struct Plain {
    parser: Processor<AtOnce>,
    term: Term<VoidListener>,
}

struct Window(PtySize);

impl Dimensions for Window {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        self.0.rows().into()
    }

    fn columns(&self) -> usize {
        self.0.cols().into()
    }
}

impl Plain {
    fn new(size: PtySize) -> Self {
        let term = Term::new(Config::default(), &Window(size), VoidListener);
        Self { parser: Processor::new(), term }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.term, bytes);
    }

    /// Characters of everything above the window, without what is empty at the end of rows.
    fn history(&self) -> Vec<String> {
        let grid = self.term.grid();
        let row = |line| grid[Line(line)][..].iter().map(|cell| cell.c).collect::<String>();
        let rows = (grid.topmost_line().0..0).map(row);
        rows.map(|row| row.trim_end().to_owned()).collect()
    }
}

#[test]
fn real_programs_are_drawn_again_wherever_a_viewer_comes() {
    for (name, recording) in RECORDINGS {
        let size = if name == "htop" { size(100, 30) } else { size(80, 24) };
        let mut original = Plain::new(size);
        let mut screen = Screen::new(size);
        for (index, piece) in recording.chunks(211).enumerate() {
            original.feed(piece);
            screen.feed(piece);
            let mut viewer = Plain::new(size);
            viewer.feed(&screen.render(size));
            assert_eq!(picture(&viewer.term), picture(&original.term), "{name}, piece {index}");
            // And what comes after that is understood.
            let rest = &recording[((index + 1) * 211).min(recording.len())..];
            if index % 7 == 0 {
                let mut whole = Plain::new(size);
                whole.feed(recording);
                viewer.feed(rest);
                assert_eq!(picture(&viewer.term), picture(&whole.term), "{name} from {index}");
                // The screen behind the alternate one.
                whole.feed(b"\x1b[?1049l");
                viewer.feed(b"\x1b[?1049l");
                assert_eq!(
                    picture(&viewer.term),
                    picture(&whole.term),
                    "{name} from {index}, left"
                );
            }
        }
        assert!(!picture(&original.term).rows.is_empty());
    }
}

#[test]
fn the_recordings_hold_what_they_are_for() {
    let has = |name: &str, what: &[u8]| {
        let (_, recording) = RECORDINGS.iter().find(|(found, _)| *found == name).unwrap();
        recording.windows(what.len()).any(|window| window == what)
    };
    assert!(has("vim", b"\x1b[?1049h") && has("vim", b"\x1b[?1h") && has("vim", "世".as_bytes()));
    assert!(has("vim", b"\x1b[?2004h") && has("vim", b"\x1b[?1006;1000h"));
    assert!(has("less", b"\x1b[?1049h") && has("less", b"\x1b[1;3"));
    assert!(has("less, left again", b"\x1b[?1049l"));
    assert!(has("mc without UTF-8", b"\x1b(0") && has("htop", b"\x1b[?1006;1000h"));
}

/// Each of these in a window of 20 by 5.
const STATES: [(&str, &str); 30] = [
    ("nothing", ""),
    ("text", "one\r\ntwo"),
    ("colours", "\x1b[31mred\x1b[1;44mbold on blue\x1b[0;38;5;200m\x1b[48;2;1;2;3mmore"),
    (
        "looks",
        "\x1b[1ma\x1b[2mb\x1b[3mc\x1b[4md\x1b[4:3me\x1b[58:2::9:8:7mf\x1b[7mg\x1b[8mh\x1b[9mi",
    ),
    ("bright colours", "\x1b[93;104mbright\x1b[0;4;58:5:9munderlined"),
    ("a background that was cleared", "\x1b[42m\x1b[2J\x1b[2;3Hx\x1b[K"),
    ("wide characters", "世界🚀 Grüße"),
    ("marks", "e\u{301}a\u{308}\u{302} 世\u{301}"),
    ("a wide character that had no room", "1234567890123456789世!"),
    ("a line that is broken", "123456789012345678901234567890"),
    ("a line that is just full", "12345678901234567890"),
    ("a full line in colours", "\x1b[44m12345678901234567890\x1b[0m"),
    ("a broken line that was cleared below", "1234567890123456789012345\x1b[2;1H\x1b[K\x1b[5;5H"),
    ("the last cell", "\x1b[5;20Hx"),
    ("scrollback", "1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7\r\n8"),
    ("scrollback and a broken line", "1\r\n2\r\n3\r\n12345678901234567890abc\r\n5\r\n6\r\n7"),
    ("a scroll region", "\x1b[2;4r\x1b[2;1Ha\r\nb\r\nc\r\nd"),
    ("rows counted from the region", "\x1b[2;4r\x1b[?6h\x1b[2;3Hx"),
    ("a saved cursor", "\x1b[2;3H\x1b[31m\x1b7\x1b[4;4H\x1b[0mx"),
    ("a saved cursor at the end of a row", "12345678901234567890\x1b7\x1b[4;1H"),
    ("the alternate screen", "below\x1b[33m\x1b[?1049h\x1b[2;2Habove\x1b[4m"),
    ("the alternate screen on a colour", "below\x1b[43m\x1b[?1049habove"),
    ("an alternate screen that was left", "below\x1b[?1049habove\x1b[?1049l!"),
    ("an older way to the alternate screen", "below\x1b[?47habove"),
    ("line drawing", "\x1b(0lqqk\x1b(B and \x1b)0\x0eqq"),
    ("tabulators", "\x1b[3g\x1b[5G\x1bH\x1b[9G\x1bH\r\tx\ty"),
    ("modes", "\x1b[?1h\x1b=\x1b[?2004h\x1b[?1003h\x1b[?1006h\x1b[?1004h\x1b[4h\x1b[20h\x1b[?25l"),
    ("no wrapping", "\x1b[?7lthis is longer than a row is"),
    (
        "keyboard, cursor, title",
        "\x1b[=1;1u\x1b[>5u\x1b[>4;2m\x1b[5 q\x1b]2;a title\x07\x1b[?1007l",
    ),
    ("keyboard of the other screen", "\x1b[>1u\x1b[?1049h\x1b[>3u\x1b[>7u"),
];

#[test]
fn every_state_is_drawn_again() {
    let size = size(20, 5);
    for (what, bytes) in STATES {
        let mut original = screen(size, bytes.as_bytes());
        let mut again = drawn_again(&mut original, size);
        assert_same(&mut original, &mut again, what);
        // A viewer whose terminal shows something else entirely.
        let mut dirty = screen(size, RECORDINGS[0].1);
        dirty.feed(b"\x1b]2;other\x07\x1b[2;3r\x1b[?6h\x1b[3g\x1b(0");
        let drawn = original.render(size);
        dirty.feed(&drawn);
        assert_same(&mut original, &mut dirty, what);
        // Being looked at changes nothing.
        assert_eq!(original.render(size), drawn, "{what}");
    }
}

#[test]
fn every_state_goes_on_the_same() {
    let size = size(20, 5);
    let more = "\u{301}more text\r\n\tand more\x1b[3;3Hx\x1b[?1049l\x1b8y\r\n\n\nz";
    for (what, bytes) in STATES {
        let mut original = screen(size, bytes.as_bytes());
        let mut again = drawn_again(&mut original, size);
        for screen in [&mut original, &mut again] {
            screen.feed(more.as_bytes());
        }
        assert_same(&mut original, &mut again, what);
    }
}

#[test]
fn a_viewer_comes_in_the_middle_of_a_sequence() {
    let size = size(20, 5);
    let text = "\x1b[38;2;10;20;30mä世🚀\x1b]2;title\x07\x1b(0q\x1b(B\x1b[2;2Hx\x1bP1$r0m\x1b\\y";
    let bytes = text.as_bytes();
    for cut in 0..=bytes.len() {
        let mut original = screen(size, &bytes[..cut]);
        let mut again = drawn_again(&mut original, size);
        for screen in [&mut original, &mut again] {
            screen.feed(&bytes[cut..]);
        }
        assert_same(&mut original, &mut again, &format!("cut at {cut}"));
    }
}

#[test]
fn scrollback_comes_in_order_and_once() {
    let size = size(40, 6);
    let text: String =
        (0..500).map(|line| format!("line \x1b[3{}m{line}\x1b[0m\r\n", line % 8)).collect();
    let mut original = screen(size, text.as_bytes());
    let drawn = original.render(size);
    let mut viewer = Plain::new(size);
    // Another time on the same terminal, as when a viewer comes again.
    viewer.feed(b"something else\r\n\n\n\n\n\n\n");
    viewer.feed(&drawn);
    viewer.feed(&drawn);
    let expected: Vec<String> = (0..495).map(|line| format!("line {line}")).collect();
    assert_eq!(viewer.history(), expected);
}

#[test]
fn broken_lines_in_the_scrollback_are_whole_lines_to_a_wider_window() {
    let long = "x".repeat(50);
    let mut original = screen(size(20, 5), format!("{long}\r\n\n\n\n\n\n\nend").as_bytes());
    let mut viewer = Plain::new(size(60, 5));
    viewer.feed(&original.render(size(60, 5)));
    assert_eq!(viewer.history()[0], long);
}

#[test]
fn ten_thousand_lines_are_kept_and_no_more() {
    let size = size(80, 24);
    let mut screen = Screen::new(size);
    for line in 0..11_000 {
        screen.feed(format!("line {line} of a program that prints a lot\r\n").as_bytes());
    }
    let kept = screen.model.scrollback.lines() + screen.model.term.history_size();
    assert!((10_000..10_200).contains(&kept), "{kept}");
    let mut viewer = Plain::new(size);
    viewer.feed(&screen.render(size));
    assert_eq!(viewer.history().last().unwrap(), "line 10976 of a program that prints a lot");
    // What a program clears is cleared.
    screen.feed(b"\x1b[3J");
    assert_eq!((screen.model.scrollback.lines(), screen.model.term.history_size()), (0, 0));
}

#[test]
fn rows_come_back_into_view_when_the_window_grows() {
    let mut original = Screen::new(size(40, 20));
    for line in 0..30 {
        original.feed(format!("line {line}\r\n").as_bytes());
    }
    let before = picture(&original.model.term);
    original.resize(size(40, 5));
    original.resize(size(40, 20));
    assert_eq!(picture(&original.model.term).rows, before.rows);
}

#[test]
fn no_line_is_lost_when_the_window_becomes_narrow() {
    let mut original = Screen::new(size(200, 24));
    for line in 0..300 {
        original.feed(format!("{line:03} {}\r\n", "x".repeat(180)).as_bytes());
    }
    for (cols, rows) in [(2, 3), (1, 1), (1000, 100), (80, 24)] {
        original.resize(size(cols, rows));
    }
    let mut viewer = Plain::new(size(80, 24));
    viewer.feed(&original.render(size(80, 24)));
    let text: String = viewer.history().concat();
    for line in 0..290 {
        assert!(text.contains(&format!("{line:03} xxx")), "{line}");
    }
}

/// Programs that mean no good.
#[test]
fn a_hostile_program_is_bounded() {
    let floods: [&[u8]; 9] = [
        b"\x1b]2;", // A title without end.
        b"\x1b]8;;http://x\x07a",
        "e\u{301}\u{301}\u{301}\u{301}".as_bytes(),
        b"\x1b[22t\x1b]2;title\x07",
        b"\x1b[>1u",
        b"\x1b[38;2;1;2;3;48;2;3;2;1mx\x1b[58:2::9:8:7;4:3my\r\n",
        b"x\x1b[65535b\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m\x1b[m",
        b"\x1b[3g\x1b[65535Z\x1b[65535I",
        b"\x1bP\x1b_\x1b^",
    ];
    for flood in floods {
        let mut screen = Screen::new(size(80, 24));
        let mut piece = flood.repeat(PIECE / flood.len());
        if flood == b"\x1b]2;" {
            screen.feed(flood);
            piece = vec![b'x'; PIECE];
        }
        for _ in 0..50 {
            screen.feed(&piece);
        }
        let shown = screen.render(size(80, 24));
        assert!(screen.model.scrollback.bytes() <= 4 * 1024 * 1024);
        assert!(shown.len() < 6 * 1024 * 1024, "{flood:?}: {}", shown.len());
        assert!(screen.model.title.iter().all(|title| title.len() < 5000));
        // It shows what comes after.
        screen.feed(b"\x07\x18\x1bc\x1b[2;2Hstill here");
        let row: String = picture(&screen.model.term).rows[1].iter().map(|look| look.0).collect();
        assert!(row.starts_with(" still here"), "{flood:?}: {row}");
    }
}

#[test]
fn the_largest_screen_fits_its_bound() {
    let size = size(1000, 100);
    let mut screen = Screen::new(size);
    let marks = "\u{10A01}".repeat(4);
    for alternate in ["", "\x1b[?1049h"] {
        screen.feed(alternate.as_bytes());
        for number in 0..100_000u32 {
            let [a, b, c, d] = (4_000_000_000 + number).to_be_bytes();
            let cell = format!(
                "\x1b[0;1;2;3;4:5;7;8;9;38;2;{a};{b};{c};48;2;{d};{b};{c};58:2::{b}:{c}:{d}m\u{1F1E6}{marks}"
            );
            screen.feed(cell.as_bytes());
        }
    }
    let drawn = screen.render(size).len();
    assert!(drawn > 10_000_000, "{drawn}");
    assert!(drawn < freestyle_guest_protocol::pty::MAX_SCREEN, "{drawn}");
}

/// Whether there are wide characters that were cut, by insertion for example.
fn has_halves(screen: &Screen) -> bool {
    let grid = screen.model.term.grid();
    let is_half = |line, column| Half::of(&grid[Line(line)], Column(column)) == Half::Alone;
    (0..=grid.bottommost_line().0)
        .any(|line| (0..grid.columns()).any(|column| is_half(line, column)))
}

/// Whether the cursor is where it cannot be moved to: rows are counted from a region that it is
/// not in.
fn is_beyond_region(model: &mut Model) -> bool {
    let (first, last) = model.scroll_region();
    let row = model.term.grid().cursor.point.line.0 as usize;
    model.term.mode().contains(TermMode::ORIGIN) && !(first..=last).contains(&row)
}

/// Something a program may print.
fn any_output() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    let number = || 0..30u16;
    let csi = |finals: &'static [u8]| {
        (number(), number(), proptest::sample::select(finals)).prop_map(|(one, two, last)| {
            format!("\x1b[{one};{two}{}", char::from(last)).into_bytes()
        })
    };
    let looks = proptest::sample::select(
        [0, 1, 2, 3, 4, 7, 8, 9, 21, 22, 24, 27, 31, 39, 42, 49, 93, 104].as_slice(),
    );
    let modes = proptest::sample::select(
        [1, 6, 7, 12, 25, 47, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1049, 2004, 2026]
            .as_slice(),
    );
    prop_oneof![
        6 => "[a-zA-Zä世🚀\u{301} ]{1,30}".prop_map(String::into_bytes),
        4 => csi(b"ABCDEFGHIJKLMPSTXZbdfr@"),
        2 => looks.prop_map(|look: u16| format!("\x1b[{look}m").into_bytes()),
        2 => (modes, "[hl]").prop_map(|(mode, set)| format!("\x1b[?{mode}{set}").into_bytes()),
        1 => (proptest::sample::select([4, 20].as_slice()), "[hl]")
            .prop_map(|(mode, set)| format!("\x1b[{mode}{set}").into_bytes()),
        3 => prop_oneof![text("\r\n"), text("\n"), text("\t"), text("\r"), text("\x08")],
        2 => prop_oneof![
            text("\x1b7"), text("\x1b8"), text("\x1bM"), text("\x1bD"), text("\x1bE"),
            text("\x1bH"), text("\x1b[g"), text("\x1b[3g"), text("\x1b(0"), text("\x1b(B"),
            text("\x1b)0"), text("\x0e"), text("\x0f"), text("\x1b#8"), text("\x1b="),
            text("\x1b>"), text("\x1b[r"), text("\x1b[2J"), text("\x1b[3J"), text("\x1b[3 q"),
            text("\x1b]2;t\x07"), text("\x1bc"), text("\x1b[>3u"), text("\x1b[<u"),
        ],
    ]
}

/// A step of a session.
#[derive(Debug, Clone)]
enum Step {
    Print(Vec<u8>),
    Resize(u16, u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => any_output().prop_map(Step::Print),
        1 => (1..40u16, 1..12u16).prop_map(|(cols, rows)| Step::Resize(cols, rows)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_a_program_prints_is_drawn_again(
        steps in proptest::collection::vec(any_step(), 0..60),
        more in proptest::collection::vec(any_output(), 0..10),
    ) {
        let mut now = size(20, 6);
        let mut was_resized = false;
        let mut original = Screen::new(now);
        for step in steps {
            match step {
                Step::Print(bytes) => original.feed(&bytes),
                Step::Resize(cols, rows) => {
                    now = size(cols.max(2), rows);
                    was_resized = true;
                    original.resize(now);
                }
            }
        }
        if is_beyond_region(&mut original.model) {
            return Ok(());
        }
        let mut again = drawn_again(&mut original, now);
        assert_same(&mut original, &mut again, "drawn again");
        // What is written over half a wide character is a matter of taste. And after a change of its
        // size, the terminal does not always clear a row that has a background colour.
        if has_halves(&original) || was_resized {
            return Ok(());
        }
        // First a character: the last one that was printed can be repeated, and is not drawn again.
        for bytes in [b"x".to_vec()].into_iter().chain(more) {
            original.feed(&bytes);
            again.feed(&bytes);
        }
        // Apart from where lines were broken that had lost what they went on in.
        let [original, again] = [&original, &again].map(|screen| {
            let mut picture = picture(&screen.model.term);
            picture.rows.iter_mut().flatten().for_each(|look| look.5.remove(Flags::WRAPLINE));
            picture
        });
        prop_assert_eq!(original, again);
    }

    #[test]
    fn garbage_is_survived(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "\x1b[\\[\\]P(_#0-9;:?>=$a-zA-Z ]{1,20}".prop_map(String::into_bytes),
                any_output(),
            ],
            0..40,
        ),
        sizes in proptest::collection::vec((1..60u16, 1..20u16), 0..4),
    ) {
        let mut screen = Screen::new(size(10, 4));
        let mut sizes = sizes.into_iter();
        for (index, piece) in pieces.iter().enumerate() {
            screen.feed(piece);
            if index % 10 == 9 && let Some((cols, rows)) = sizes.next() {
                screen.resize(size(cols, rows));
            }
        }
        prop_assert!(screen.render(size(60, 20)).len() < 1_000_000);
        screen.feed(b"\x18\x1bc.");
        prop_assert_eq!(picture(&screen.model.term).rows[0][0].0, '.');
    }
}
