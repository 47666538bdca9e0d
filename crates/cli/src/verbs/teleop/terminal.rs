//! The terminal while somebody drives: raw keys in, pictures out, and as it was before on every way out.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nudge_control::Scene;
use termion::raw::{IntoRawMode as _, RawTerminal};

use super::keyboard::{ASK_FOR_RELEASES, ASK_NO_MORE, Key, Keyboard};
use super::screen::Screen;

/// After so long an escape stands for itself.
const ESCAPE_ALONE: Duration = Duration::from_millis(50);
/// The alternate screen without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[0m\x1b[?25h\x1b[?1049l";

/// Drop it and the terminal is as it was.
pub struct Terminal {
    output: RawTerminal<File>,
    bytes: Receiver<Vec<u8>>,
    /// When bytes last came.
    heard: Instant,
    keyboard: Keyboard,
    screen: Screen,
}

impl Terminal {
    /// Takes the terminal that the program runs in.
    ///
    /// # Errors
    /// When there is none.
    pub fn open() -> io::Result<Self> {
        let mut input = termion::get_tty()?;
        let mut output = termion::get_tty()?.into_raw_mode()?;
        write!(output, "{ENTER}{ASK_FOR_RELEASES}")?;
        output.flush()?;
        leave_before_a_panic_speaks();
        let (sender, bytes) = channel();
        // It waits for a key that may never come, and ends with the program.
        std::thread::Builder::new().name("keys".into()).spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(count @ 1..) = input.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        })?;
        let heard = Instant::now();
        Ok(Self { output, bytes, heard, keyboard: Keyboard::default(), screen: Screen::default() })
    }

    /// The keys that come before `deadline`: at once when there are some, none at the deadline.
    pub fn keys(&mut self, deadline: Instant) -> Vec<Key> {
        loop {
            let alone = self.heard + ESCAPE_ALONE;
            let until = if self.keyboard.is_waiting() { deadline.min(alone) } else { deadline };
            match self.bytes.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(bytes) => {
                    self.heard = Instant::now();
                    let keys = self.keyboard.feed(&bytes);
                    if !keys.is_empty() {
                        return keys;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.keyboard.is_waiting() && Instant::now() >= alone {
                        return self.keyboard.settle().into_iter().collect();
                    }
                    if Instant::now() >= deadline {
                        return Vec::new();
                    }
                }
                // The terminal is gone; whoever waits for keys still waits until the deadline.
                Err(RecvTimeoutError::Disconnected) => {
                    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
                    return Vec::new();
                }
            }
        }
    }

    /// Shows a scene with lines below it.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub fn show(&mut self, scene: &Scene, lines: &[String]) -> anyhow::Result<()> {
        // Where nobody tells a size, or says that it is nothing, the size of old.
        let size = termion::terminal_size().ok().filter(|(columns, rows)| *columns > 0 && *rows > 0);
        let (columns, rows) = size.unwrap_or((80, 24));
        let frame = self.screen.frame((columns.into(), rows.into()), scene, lines)?;
        self.output.write_all(frame.as_bytes())?;
        self.output.flush()?;
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The modes go back even when the terminal takes no more text.
        let _ = write!(self.output, "{ASK_NO_MORE}{LEAVE}");
        let _ = self.output.flush();
    }
}

/// A panic's message belongs on the screen that stays. Unwinding then drops the terminal.
fn leave_before_a_panic_speaks() {
    let speak = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut terminal) = termion::get_tty() {
            let _ = write!(terminal, "{ASK_NO_MORE}{LEAVE}");
        }
        speak(panic);
    }));
}
