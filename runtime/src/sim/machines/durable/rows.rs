//! The rows of the simulated database.

use std::sync::Arc;

use super::disk::{Disk, Fault, RequestRow, Tables};
use crate::id::{CommitNumber, RegistrationId, Seq, StoreId};
use crate::protocol::durable::journal::key_digest;
use crate::protocol::durable::rows::{
    AnswerRow, Binding, InboxRows, JournalRows, Key, Keyed, Outcome, RegistrationRow, Request,
    Saved, ServerRow, Usage,
};

impl Tables {
    /// Unfinished requests.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (Seq, &RequestRow)> {
        let rows = self.requests.iter().map(|(seq, row)| (*seq, &**row));
        rows.filter(|(_, row)| row.outcome.is_none())
    }
}

impl JournalRows for Disk {
    fn next_seq(&mut self) -> Result<Seq, Fault> {
        self.read()?;
        Ok(self.next_number())
    }

    fn keyed(&mut self, key: &str) -> Result<Option<Keyed>, Fault> {
        let has = |row: &RequestRow| row.request.key.as_deref() == Some(key);
        let found = self.read()?.requests.iter().find(|(_, row)| has(row));
        Ok(found.map(|(seq, row)| Keyed {
            seq: *seq,
            digest: key_digest(&row.request),
            outcome: row.outcome.clone(),
        }))
    }

    fn put_request(
        &mut self,
        seq: Seq,
        request: &Request,
        binding: Option<Binding>,
    ) -> Result<(), Fault> {
        let row = RequestRow { request: request.clone(), binding, outcome: None };
        self.write(|draft| {
            Arc::make_mut(&mut draft.tables.requests).insert(seq, Arc::new(row));
            draft.fresh.push((seq, binding));
        })
    }

    fn request(&mut self, seq: Seq) -> Result<Option<Saved>, Fault> {
        let found = self.read()?.requests.get(&seq);
        Ok(found.map(|row| {
            let RequestRow { request, binding, outcome } = RequestRow::clone(row);
            Saved { seq, request, binding, outcome }
        }))
    }

    fn finish(&mut self, seq: Seq, outcome: &Outcome, key: Key) -> Result<(), Fault> {
        self.write(|draft| {
            if let Some(row) = Arc::make_mut(&mut draft.tables.requests).get_mut(&seq) {
                let row = Arc::make_mut(row);
                row.outcome = Some(outcome.clone());
                if key == Key::Freed {
                    row.request.key = None;
                }
            }
        })
    }

    fn mark_taken(&mut self, seq: Seq) -> Result<(), Fault> {
        self.write(|draft| {
            if let Some(row) = Arc::make_mut(&mut draft.tables.requests).get_mut(&seq) {
                Arc::make_mut(row).request.wanted = false;
            }
        })
    }

    fn remove(&mut self, seq: Seq) -> Result<(), Fault> {
        self.write(|draft| {
            Arc::make_mut(&mut draft.tables.requests).remove(&seq);
        })
    }

    fn server(&mut self, peer: &str) -> Result<Option<ServerRow>, Fault> {
        Ok(self.read()?.servers.get(peer).map(|row| ServerRow::clone(row)))
    }

    fn put_server(&mut self, row: &ServerRow) -> Result<(), Fault> {
        let row = row.clone();
        self.write(|draft| {
            Arc::make_mut(&mut draft.tables.servers).insert(row.peer.clone(), Arc::new(row));
        })
    }

    fn remove_server(&mut self, peer: &str) -> Result<(), Fault> {
        self.write(|draft| {
            Arc::make_mut(&mut draft.tables.servers).remove(peer);
        })
    }

    fn bind(&mut self, peer: &str, binding: Binding) -> Result<Vec<Seq>, Fault> {
        self.write(|draft| {
            let mut bound = Vec::new();
            for (seq, row) in Arc::make_mut(&mut draft.tables.requests) {
                let free = row.binding.is_none() && row.outcome.is_none();
                if free && *row.request.peer == *peer {
                    Arc::make_mut(row).binding = Some(binding);
                    bound.push(*seq);
                }
            }
            bound
        })
    }

    fn usage(&mut self) -> Result<Usage, Fault> {
        let requests = &self.read()?.requests;
        let bytes = requests.values().map(|row| row.request.arguments.len()).sum();
        Ok(Usage { rows: requests.len(), bytes })
    }
}

impl InboxRows for Disk {
    fn store(&self) -> StoreId {
        self.image.store
    }

    fn commits(&self) -> CommitNumber {
        self.image.commits
    }

    fn next_registration(&mut self) -> Result<RegistrationId, Fault> {
        Ok(RegistrationId(self.read()?.next_registration))
    }

    fn registration(&mut self, id: RegistrationId) -> Result<Option<RegistrationRow>, Fault> {
        Ok(self.read()?.registrations.get(&id).map(|row| RegistrationRow::clone(row)))
    }

    fn registration_of(&mut self, client: StoreId) -> Result<Option<RegistrationRow>, Fault> {
        let mut rows = self.read()?.registrations.values();
        Ok(rows.find(|row| row.client == client).map(|row| RegistrationRow::clone(row)))
    }

    fn put_registration(&mut self, row: &RegistrationRow) -> Result<(), Fault> {
        let row = row.clone();
        self.write(|draft| {
            let tables = &mut draft.tables;
            tables.next_registration = tables.next_registration.max(row.id.0 + 1);
            Arc::make_mut(&mut tables.registrations).insert(row.id, Arc::new(row));
            draft.counts = true;
        })
    }

    fn registrations(&mut self) -> Result<usize, Fault> {
        Ok(self.read()?.registrations.len())
    }

    fn answer(
        &mut self,
        registration: RegistrationId,
        seq: Seq,
    ) -> Result<Option<AnswerRow>, Fault> {
        let found = self.read()?.answers.get(&(registration, seq));
        Ok(found.map(|row| AnswerRow::clone(row)))
    }

    fn put_answer(
        &mut self,
        registration: RegistrationId,
        seq: Seq,
        row: &AnswerRow,
    ) -> Result<(), Fault> {
        let row = Arc::new(row.clone());
        self.write(|draft| {
            Arc::make_mut(&mut draft.tables.answers).insert((registration, seq), row);
            draft.counts = true;
        })
    }

    fn answers(&mut self, registration: RegistrationId) -> Result<(usize, Seq), Fault> {
        let all = (registration, 0)..=(registration, Seq::MAX);
        let mut range = self.read()?.answers.range(all);
        let highest = range.next_back().map_or(0, |((_, seq), _)| *seq);
        Ok((range.count() + usize::from(highest > 0), highest))
    }

    fn drop_answers(
        &mut self,
        registration: RegistrationId,
        start: Seq,
        end: Seq,
    ) -> Result<Option<Seq>, Fault> {
        self.write(|draft| {
            let range = (registration, start)..(registration, end);
            let gone: Vec<_> =
                draft.tables.answers.range(range).map(|(number, _)| *number).collect();
            if !gone.is_empty() {
                let answers = Arc::make_mut(&mut draft.tables.answers);
                answers.retain(|number, _| !gone.contains(number));
                draft.counts = true;
            }
            draft.dropped.extend(&gone);
            gone.last().map(|(_, seq)| *seq)
        })
    }
}
