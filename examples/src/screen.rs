//! What an example prints: headings, lines, and one line of progress.
//!
//! Colours and the moving line only on a terminal; `NO_COLOR` is respected. A reader that closed
//! the other end of the pipe is no error: the program goes on in silence.

use std::io::{self, IsTerminal as _, Write as _};

/// Standard output, and what it can show.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    is_terminal: bool,
    has_colours: bool,
}

/// Progress of something that has a known number of steps. Ends its line when it is dropped.
#[derive(Debug)]
pub struct Progress {
    screen: Screen,
    steps: usize,
    done: usize,
    shown: usize,
}

impl Screen {
    /// Standard output as it is.
    #[must_use]
    pub fn new() -> Screen {
        let is_terminal = io::stdout().is_terminal();
        // As no-color.org asks: any value but the empty one.
        let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Screen { is_terminal, has_colours: is_terminal && !is_plain }
    }

    /// One line.
    pub fn line(&self, text: &str) {
        print(&format!("{text}\n"));
    }

    /// One line, in bold.
    pub fn heading(&self, text: &str) {
        self.line(&self.painted("1", text));
    }

    /// Lines that are quoted from elsewhere, indented and pale.
    pub fn quote(&self, text: &str) {
        for line in text.lines() {
            let indented = if line.is_empty() { String::new() } else { format!("    {line}") };
            self.line(&self.painted("36", &indented));
        }
    }

    /// One line that tells of something good, in green.
    pub fn good(&self, text: &str) {
        self.line(&self.painted("32", text));
    }

    /// One line that tells of something bad, in red.
    pub fn bad(&self, text: &str) {
        self.line(&self.painted("31", text));
    }

    /// Begins a line of progress.
    #[must_use]
    pub fn progress(&self, steps: usize) -> Progress {
        print("    ");
        Progress { screen: *self, steps, done: 0, shown: 0 }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.has_colours { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

impl Progress {
    /// One step is done; `state` says in a few words how things are, where there is room for it.
    pub fn step(&mut self, state: &str) {
        self.done += 1;
        let reached = (self.done * PROGRESS_WIDTH).checked_div(self.steps).unwrap_or(0);
        if self.screen.is_terminal {
            let (full, empty) = ("#".repeat(reached), ".".repeat(PROGRESS_WIDTH - reached));
            print(&format!("\r    [{full}{empty}] {state}\x1b[K"));
        } else if reached > self.shown {
            print(&".".repeat(reached - self.shown));
        }
        self.shown = reached;
    }

    /// Something happened that a reader should see among the steps: one character in a plain line.
    pub fn mark(&mut self, character: char) {
        if !self.screen.is_terminal {
            print(&character.to_string());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        print(if self.screen.is_terminal { "\r\x1b[K" } else { "\n" });
    }
}

/// Not `print!`, which panics when the other end of a pipe is closed.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Steps of the line of progress.
const PROGRESS_WIDTH: usize = 36;
