//! The rows of a server.

use rusqlite::{OptionalExtension as _, params};

use super::database::Inner;
use super::guard::own;
use super::numbers::Answers;
use super::{Registration, Sqlite, StoreError, columns};
use crate::id::{CommitNumber, RegistrationId, Seq, StoreId};
use crate::protocol::durable::rows::{AnswerRow, InboxRows, RegistrationRow};

impl InboxRows for Sqlite {
    fn store(&self) -> StoreId {
        self.get().identity.client
    }

    fn commits(&self) -> CommitNumber {
        self.get().numbers.commits()
    }

    fn next_registration(&mut self) -> Result<RegistrationId, StoreError> {
        Ok(self.get().numbers.next_registration())
    }

    fn registration(&mut self, id: RegistrationId) -> Result<Option<RegistrationRow>, StoreError> {
        let select = own!(
            "select id, client, epoch, opening, floor, max, above from main.farcall_registration where id = ?1"
        );
        let mut select = self.get().guarded.own(select)?;
        Ok(select.query_row([id.0.cast_signed()], columns::registration).optional()?)
    }

    fn registration_of(&mut self, client: StoreId) -> Result<Option<RegistrationRow>, StoreError> {
        let select = own!(
            "select id, client, epoch, opening, floor, max, above from main.farcall_registration where client = ?1"
        );
        let mut select = self.get().guarded.own(select)?;
        Ok(select.query_row([client.0.as_bytes()], columns::registration).optional()?)
    }

    fn put_registration(&mut self, row: &RegistrationRow) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let put = own!(
            "insert into main.farcall_registration (id, client, epoch, opening, floor, max, above)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             on conflict (id) do update set
                client = ?2, epoch = ?3, opening = ?4, floor = ?5, max = ?6, above = ?7"
        );
        inner.guarded.own(put)?.execute(params![
            row.id.0.cast_signed(),
            row.client.0.as_bytes(),
            row.epoch.0,
            row.opening.to_be_bytes(),
            columns::ordered(row.finished.floor()),
            columns::ordered(row.max),
            columns::range_bytes(&row.finished.ranges())
        ])?;
        inner.numbers.registered(row.id);
        inner.numbers.touch();
        Ok(())
    }

    fn registrations(&mut self) -> Result<usize, StoreError> {
        let count = own!("select count(*) from main.farcall_registration");
        Ok(self.get().guarded.own(count)?.query_row([], |row| row.get(0))?)
    }

    fn answer(
        &mut self,
        registration: RegistrationId,
        seq: Seq,
    ) -> Result<Option<AnswerRow>, StoreError> {
        let select = own!(
            "select digest, answer, code, body from main.farcall_inbox where registration = ?1 and seq = ?2"
        );
        let mut select = self.get().guarded.own(select)?;
        let key = params![registration.0.cast_signed(), columns::ordered(seq)];
        Ok(select.query_row(key, columns::answer_row).optional()?)
    }

    fn put_answer(
        &mut self,
        registration: RegistrationId,
        seq: Seq,
        row: &AnswerRow,
    ) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let (count, max) = inner.answers(registration)?;
        let insert = own!(
            "insert into main.farcall_inbox (registration, seq, digest, answer, code, body)
             values (?1, ?2, ?3, ?4, ?5, ?6)"
        );
        let (answer, code) = columns::answer_columns(row.answer);
        inner.guarded.own(insert)?.execute(params![
            registration.0.cast_signed(),
            columns::ordered(seq),
            row.digest,
            answer,
            code,
            row.body
        ])?;
        inner.numbers.set_answers(registration, Some((count + 1, max.max(seq))));
        inner.numbers.touch();
        Ok(())
    }

    fn answers(&mut self, registration: RegistrationId) -> Result<(usize, Seq), StoreError> {
        self.get_mut().answers(registration)
    }

    fn drop_answers(
        &mut self,
        registration: RegistrationId,
        start: Seq,
        end: Seq,
    ) -> Result<Option<Seq>, StoreError> {
        let inner = self.get_mut();
        let (count, max) = inner.answers(registration)?;
        let highest = own!(
            "select max(seq) from main.farcall_inbox where registration = ?1 and seq >= ?2 and seq < ?3"
        );
        let (start, end) = (columns::ordered(start), columns::ordered(end));
        let range = params![registration.0.cast_signed(), start, end];
        let highest: Option<i64> =
            inner.guarded.own(highest)?.query_row(range, |row| row.get(0))?;
        let Some(highest) = highest else { return Ok(None) };
        let delete = own!(
            "delete from main.farcall_inbox where registration = ?1 and seq >= ?2 and seq < ?3"
        );
        let gone = inner.guarded.own(delete)?.execute(range)?;
        let left = count.saturating_sub(gone);
        let max = if left == 0 { 0 } else { max };
        inner.numbers.set_answers(registration, Some((left, max)));
        inner.numbers.touch();
        Ok(Some(columns::seq(highest)))
    }
}

impl Inner {
    fn answers(&mut self, registration: RegistrationId) -> Result<Answers, StoreError> {
        if let Some(answers) = self.numbers.answers(registration) {
            return Ok(answers);
        }
        let count =
            own!("select count(*), max(seq) from main.farcall_inbox where registration = ?1");
        let key = [registration.0.cast_signed()];
        let (count, max): (usize, Option<i64>) =
            self.guarded.own(count)?.query_row(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let answers = (count, max.map_or(0, columns::seq));
        self.numbers.set_answers(registration, Some(answers));
        Ok(answers)
    }
}

impl Sqlite {
    /// All clients that are registered, in the order in which they came.
    pub(super) fn clients(&mut self) -> Result<Vec<Registration>, StoreError> {
        let select = own!(
            "select client, (select count(*) from main.farcall_inbox where registration = id)
             from main.farcall_registration order by id"
        );
        let mut select = self.get().guarded.own(select)?;
        let rows = select.query_map([], |row| {
            let client = StoreId(uuid::Uuid::from_bytes(row.get(0)?));
            Ok(Registration { client, unacknowledged: row.get(1)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Drops a client that has no answers; says whether it did.
    pub(super) fn purge(&mut self, client: StoreId) -> Result<bool, StoreError> {
        let Some(row) = self.registration_of(client)? else { return Ok(false) };
        if self.answers(row.id)?.0 > 0 {
            return Ok(false);
        }
        let inner = self.get_mut();
        let delete = own!("delete from main.farcall_registration where id = ?1");
        inner.guarded.own(delete)?.execute([row.id.0.cast_signed()])?;
        inner.numbers.set_answers(row.id, None);
        inner.numbers.touch();
        Ok(true)
    }
}
