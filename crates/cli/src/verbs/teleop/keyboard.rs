//! Keys out of the bytes that a terminal sends.
//!
//! Legacy sequences tell presses and repeats alike; terminals with the kitty keyboard protocol
//! (<https://sw.kovidgoyal.net/kitty/keyboard-protocol/>) also tell when a key is released.

/// Asks the terminal for escape codes with releases of all keys; others ignore it.
pub const ASK_FOR_RELEASES: &str = "\x1b[>11u";
/// Takes that back.
pub const ASK_NO_MORE: &str = "\x1b[<u";

/// Bytes after which a sequence that has not ended is given up.
const LONGEST_SEQUENCE: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// In lower case.
    Char(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Enter,
    Backspace,
    Tab,
    Esc,
    /// Ctrl-C.
    Interrupt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    pub code: Code,
    pub shift: bool,
    /// Released; otherwise pressed or repeated.
    pub up: bool,
}

/// Splits what comes in pieces into keys.
#[derive(Default)]
pub struct Keyboard {
    pending: Vec<u8>,
}

impl Keyboard {
    /// The keys that `bytes` complete; unknown ones are passed over.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.pending.extend(bytes);
        let mut keys = Vec::new();
        let mut at = 0;
        while at < self.pending.len() {
            match split(&self.pending[at..]) {
                Some((length, key)) => {
                    keys.extend(key);
                    at += length;
                }
                None if self.pending.len() - at > LONGEST_SEQUENCE => at += 1,
                None => break,
            }
        }
        self.pending.drain(..at);
        keys
    }

    /// Nothing more came for a while: an escape that nothing follows is the key.
    pub fn settle(&mut self) -> Option<Key> {
        let alone = self.pending == [0x1b];
        self.pending.clear();
        alone.then_some(down(Code::Esc, false))
    }

    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }
}

fn down(code: Code, shift: bool) -> Key {
    Key { code, shift, up: false }
}

/// The first key in `bytes` and its length; `None` when more bytes must come.
fn split(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    match bytes {
        [] | [0x1b] => None,
        [0x1b, b'[', rest @ ..] => {
            let length = rest.iter().position(|byte| (0x40..=0x7e).contains(byte))?;
            let parameters = std::str::from_utf8(&rest[..length]).unwrap_or_default();
            Some((length + 3, sequence(parameters, rest[length])))
        }
        [0x1b, b'O', last, ..] => Some((3, arrow(*last).map(|code| down(code, false)))),
        [0x1b, b'O'] => None,
        [0x1b, ..] => Some((1, Some(down(Code::Esc, false)))),
        [first, ..] => {
            let length = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            let character = bytes.get(..length)?;
            let text = std::str::from_utf8(character).ok().and_then(|text| text.chars().next());
            Some((length, text.and_then(|letter| typed(letter, letter.is_uppercase(), false))))
        }
    }
}

fn typed(letter: char, shift: bool, ctrl: bool) -> Option<Key> {
    let code = match letter {
        '\r' | '\n' => Code::Enter,
        '\t' => Code::Tab,
        '\u{7f}' | '\u{8}' => Code::Backspace,
        '\u{1b}' => Code::Esc,
        '\u{3}' => Code::Interrupt,
        'c' if ctrl => Code::Interrupt,
        // Of the kitty protocol: keys that type nothing.
        '\u{e000}'..='\u{f8ff}' => return None,
        letter if letter.is_control() => return None,
        letter => Code::Char(letter.to_lowercase().next().unwrap_or(letter)),
    };
    Some(down(code, shift))
}

fn arrow(last: u8) -> Option<Code> {
    Some(match last {
        b'A' => Code::Up,
        b'B' => Code::Down,
        b'C' => Code::Right,
        b'D' => Code::Left,
        _ => return None,
    })
}

/// A key from `CSI parameters last`: `number ; modifiers : event`.
fn sequence(parameters: &str, last: u8) -> Option<Key> {
    let mut fields = parameters.split(';');
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<u32>().ok());
    let first = number(fields.next().and_then(|field| field.split(':').next()));
    let mut second = fields.next().unwrap_or_default().split(':');
    // Modifiers are counted from 1: shift 1, alt 2, ctrl 4. Events: 1 pressed, 2 repeated, 3 released.
    let modifiers = number(second.next()).unwrap_or(1).saturating_sub(1);
    let up = number(second.next()) == Some(3);
    let (shift, ctrl) = (modifiers & 1 != 0, modifiers & 4 != 0);
    let key = match (last, first) {
        (b'~', Some(5)) => down(Code::PageUp, shift),
        (b'~', Some(6)) => down(Code::PageDown, shift),
        (b'u', Some(number)) => typed(char::from_u32(number)?, shift, ctrl)?,
        _ => down(arrow(last)?, shift),
    };
    Some(Key { up, ..key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Keyboard::default().feed(bytes)
    }

    #[test]
    fn legacy_keys_are_read() {
        let codes = |bytes: &[u8]| keys(bytes).iter().map(|key| key.code).collect::<Vec<_>>();
        let all = [Code::Up, Code::Down, Code::Right, Code::Left];
        assert_eq!(codes(b"\x1b[A\x1b[B\x1b[C\x1b[D"), all);
        assert_eq!(codes(b"\x1bOA\x1bOB\x1bOC\x1bOD"), all);
        assert_eq!(
            codes(b"\x1b[5~\x1b[6~\r\x7f\t\x03"),
            [Code::PageUp, Code::PageDown, Code::Enter, Code::Backspace, Code::Tab, Code::Interrupt]
        );
        assert_eq!(
            keys(b"wW "),
            [down(Code::Char('w'), false), down(Code::Char('w'), true), down(Code::Char(' '), false)]
        );
        assert_eq!(keys(b"\x1b[1;2A"), [down(Code::Up, true)]);
    }

    #[test]
    fn kitty_tells_releases() {
        let up = |code| Key { code, shift: false, up: true };
        assert_eq!(keys(b"\x1b[1;1:3A"), [up(Code::Up)]);
        assert_eq!(keys(b"\x1b[119;1:2u\x1b[119;1:3u"), [down(Code::Char('w'), false), up(Code::Char('w'))]);
        assert_eq!(keys(b"\x1b[119;2u"), [down(Code::Char('w'), true)]);
        assert_eq!(
            keys(b"\x1b[27u\x1b[13u\x1b[99;5u"),
            [down(Code::Esc, false), down(Code::Enter, false), down(Code::Interrupt, false)]
        );
        // Shift itself types nothing.
        assert_eq!(keys(b"\x1b[57441;2u"), []);
    }

    #[test]
    fn keys_come_whole_however_the_bytes_are_cut() {
        let bytes = "\x1b[1;2A\x1b[119;1:3uwä\x1b[5~\r".as_bytes();
        for cut in 0..bytes.len() {
            let mut keyboard = Keyboard::default();
            let mut heard = keyboard.feed(&bytes[..cut]);
            heard.extend(keyboard.feed(&bytes[cut..]));
            assert_eq!(heard, keys(bytes), "cut at {cut}");
            assert!(!keyboard.is_waiting());
        }
    }

    #[test]
    fn an_escape_alone_is_a_key_once_nothing_follows() {
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.feed(b"\x1b"), []);
        assert!(keyboard.is_waiting());
        assert_eq!(keyboard.settle(), Some(down(Code::Esc, false)));
        assert_eq!((keyboard.settle(), keyboard.feed(b"\x1b[1")), (None, vec![]));
        assert_eq!(keyboard.settle(), None);
        assert_eq!(keys(b"\x1b\x1b[A"), [down(Code::Esc, false), down(Code::Up, false)]);
    }

    #[test]
    fn arbitrary_bytes_neither_panic_nor_pile_up() {
        let mut keyboard = Keyboard::default();
        let mut state = 1;
        for _ in 0..20_000 {
            state = nudge_control::split_mix_64(state);
            let bytes = state.to_le_bytes();
            keyboard.feed(&bytes[..(state >> 61) as usize]);
            assert!(keyboard.pending.len() <= LONGEST_SEQUENCE);
        }
        let endless = b"\x1b[".iter().chain([b'1'; 1000].iter()).copied().collect::<Vec<_>>();
        keyboard.feed(&endless);
        assert!(keyboard.pending.len() <= LONGEST_SEQUENCE);
    }
}
