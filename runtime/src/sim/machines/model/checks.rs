//! What must hold after every action of the small model.

use super::*;

impl Small {
    pub(super) fn take_answers(&mut self) -> Result<(), Broken> {
        for number in 0..self.keys.len() {
            let Some(key) = self.keys[number] else { continue };
            let mut body = Vec::new();
            let Some(answer) = self.client.take(key, &mut body) else { continue };
            self.keys[number] = None;
            let told = match (answer, &body[..]) {
                (Ok(_), &[call, run]) if usize::from(call) == number => {
                    Told::Answer { run: Some(u32::from(run)) }
                }
                (Ok(_), _) => return Err(broken("I3", "an answer of another call")),
                (Err(error), _) => Told::Failed(error.execution()),
            };
            self.told[number] = Some(told);
            let excuses = Excuses {
                crash: self.crashed,
                given_up: self.cancelled[number],
                cut: self.cut,
                ..Excuses::default()
            };
            self.oracle.told(number, told, excuses)?;
        }
        Ok(())
    }

    /// Nothing but a fault can happen: all calls have ended, and the server has let go of them.
    pub(super) fn check_end(&self) -> Result<(), Broken> {
        self.oracle.finish()?;
        if !self.client.is_idle() {
            return Err(broken("I14", "the client is not at rest"));
        }
        match self.present.map(|cell| self.cells[cell].saved()) {
            None | Some((0, 0)) => Ok(()),
            Some(saved) => Err(broken("I14", format!("the server keeps {saved:?}"))),
        }
    }
}
