//! What must hold of the servers at every step, and of everything at the end.

use super::caller::Task;
use super::plan::TTL;
use super::world::{Step, World};
use crate::id::Seq;
use crate::sim::oracle::broken;

impl World {
    /// I10: on one link, calls start in the order in which they were sent; large ones may be overtaken.
    pub(super) fn check_order(
        &mut self,
        server: usize,
        cell: usize,
        pipe: Option<usize>,
        seq: Seq,
        task: &Task,
    ) -> Step {
        let in_order = !task.is_large() && self.plan.overtaken == 0 && self.plan.trouble.is_none();
        let Some(pipe) = pipe.filter(|_| in_order) else { return Ok(()) };
        let cell = &mut self.servers[server].cells[cell];
        if cell.highest.0 != pipe {
            cell.highest = (pipe, 0);
        }
        let overtaken = cell.highest.1 > seq && !cell.started.contains(&seq);
        cell.started.insert(seq);
        cell.highest.1 = cell.highest.1.max(seq);
        if overtaken {
            return Err(broken("I10", format!("call {} starts after a later one", task.call)));
        }
        Ok(())
    }

    /// I9: records, orphans and saved bytes stay in their bounds.
    pub(super) fn check_memory(&self, server: usize, cell: usize) -> Step {
        let session = &self.servers[server].cells[cell].session;
        let (saved, bytes) = session.saved();
        let limits = &self.plan.limits;
        // A window of answers, and as many orphans that still run.
        if saved > limits.window || session.running() > limits.window {
            let running = session.running();
            return Err(broken("I9", format!("{saved} saved, {running} running, over the window")));
        }
        // What runs when the budget is used up may still answer, each with a message at most; texts of refusals count.
        if bytes > limits.reply_bytes + limits.window * (limits.message + 64) {
            return Err(broken("I9", format!("{bytes} bytes of saved replies")));
        }
        Ok(())
    }

    /// I14: when everything has ended, links carry nothing but signs of life.
    fn check_silence(&self) -> Step {
        let since = self.rested + TTL * 2;
        let intervals =
            self.end().since(since).as_millis() / self.plan.limits.ping_interval.as_millis().max(1);
        // Each end asks and answers, and acknowledges both.
        let most = (intervals as usize + 2) * 8 * self.plan.clients;
        let sent = self.network.edge.sent_since(since);
        if sent > most {
            let what = format!("{sent} datagrams in {intervals} ping intervals after the end");
            return Err(broken("I14", what));
        }
        Ok(())
    }

    /// I14: all calls have ended, and nobody keeps anything of them.
    pub(super) fn check_rest(&self) -> Step {
        self.oracle.finish()?;
        self.check_silence()?;
        for (number, client) in self.clients.iter().enumerate() {
            if !client.machine.is_idle() {
                let calls = client.machine.in_flight();
                return Err(broken("I14", format!("client {number} still has {calls} calls")));
            }
        }
        for (number, server) in self.servers.iter().enumerate() {
            for cell in server.cells.iter().filter(|cell| cell.live) {
                let (running, saved) = (cell.session.running(), cell.session.saved());
                if running != 0 || saved != (0, 0) {
                    let left = format!("{running} running, {saved:?} saved");
                    return Err(broken("I14", format!("server {number} still has {left}")));
                }
            }
            // Expired sessions are kept here to the end of the run, and with them what they saved.
            let expired = server.cells.iter().filter(|cell| !cell.live);
            let kept: usize = expired.map(|cell| cell.session.saved().1).sum();
            let left = (server.budget.running(), server.budget.bytes());
            if left != (0, kept) {
                return Err(broken("I9", format!("server {number} counts {left:?} for nothing")));
            }
        }
        Ok(())
    }
}
