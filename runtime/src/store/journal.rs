//! The rows of a client.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, params};

use super::guard::own;
use super::{Opened, Sqlite, StoreError, columns};
use crate::id::Seq;
use crate::protocol::durable::journal::key_digest;
use crate::protocol::durable::rows::{
    Binding, JournalRows, Key, Keyed, Outcome, Request, Saved, ServerRow, Usage,
};

/// A select of calls, with all columns that [`columns::saved`] reads.
macro_rules! saved {
    ($rest:literal) => {
        concat!(
            "/*farcall*/ select seq, peer, object, interface, method, method_name, arguments, nonce, key,
             parent_registration, parent_seq, wanted, store, registration, outcome, code, body
             from main.farcall_request ",
            $rest
        )
    };
}

impl JournalRows for Sqlite {
    fn next_seq(&mut self) -> Result<Seq, StoreError> {
        Ok(self.get_mut().numbers.take_seq())
    }

    fn keyed(&mut self, key: &str) -> Result<Option<Keyed>, StoreError> {
        let select = own!(
            "select seq, key_digest, outcome, code, body from main.farcall_request where key = ?1"
        );
        let mut select = self.get().guarded.own(select)?;
        Ok(select.query_row([key], columns::keyed).optional()?)
    }

    fn put_request(
        &mut self,
        seq: Seq,
        request: &Request,
        binding: Option<Binding>,
    ) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let insert = own!(
            "insert into main.farcall_request (seq, peer, object, interface, method, method_name, arguments, nonce,
                 key, key_digest, parent_registration, parent_seq, wanted, store, registration)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)"
        );
        let digest = request.key.as_ref().map(|_| key_digest(request));
        inner.guarded.own(insert)?.execute(params![
            columns::ordered(seq),
            request.peer,
            request.object,
            request.interface,
            request.method.0,
            request.method_name,
            request.arguments,
            request.nonce.cast_signed(),
            request.key,
            digest,
            request.parent.map(|(registration, _)| registration.0.cast_signed()),
            request.parent.map(|(_, seq)| columns::ordered(seq)),
            request.wanted,
            binding.as_ref().map(|binding| binding.store.0.as_bytes()),
            binding.map(|binding| binding.registration.0.cast_signed())
        ])?;
        inner.numbers.row_added(request.arguments.len());
        inner.numbers.touch();
        Ok(())
    }

    fn request(&mut self, seq: Seq) -> Result<Option<Saved>, StoreError> {
        let mut select = self.get().guarded.own(saved!("where seq = ?1"))?;
        Ok(select.query_row([columns::ordered(seq)], columns::saved).optional()?)
    }

    fn finish(&mut self, seq: Seq, outcome: &Outcome, key: Key) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let length =
            own!("select coalesce(length(body), 0) from main.farcall_request where seq = ?1");
        let before: Option<usize> = inner
            .guarded
            .own(length)?
            .query_row([columns::ordered(seq)], |row| row.get(0))
            .optional()?;
        let Some(before) = before else { return Ok(()) };
        let update = own!(
            "update main.farcall_request set outcome = ?2, code = ?3, body = ?4,
                 key = case when ?5 then key end, key_digest = case when ?5 then key_digest end
             where seq = ?1"
        );
        let (outcome, code, body) = columns::outcome_columns(outcome);
        inner.guarded.own(update)?.execute(params![
            columns::ordered(seq),
            outcome,
            code,
            body,
            key == Key::Kept
        ])?;
        inner.numbers.row_changed(before, body.len());
        inner.numbers.touch();
        Ok(())
    }

    fn mark_taken(&mut self, seq: Seq) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let mark = own!("update main.farcall_request set wanted = 2 where seq = ?1");
        inner.guarded.own(mark)?.execute([columns::ordered(seq)])?;
        inner.numbers.touch();
        Ok(())
    }

    fn remove(&mut self, seq: Seq) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let delete = own!(
            "delete from main.farcall_request where seq = ?1
             returning length(arguments) + coalesce(length(body), 0)"
        );
        let bytes: Option<usize> = inner
            .guarded
            .own(delete)?
            .query_row([columns::ordered(seq)], |row| row.get(0))
            .optional()?;
        if let Some(bytes) = bytes {
            inner.numbers.row_removed(bytes);
            inner.numbers.touch();
        }
        Ok(())
    }

    fn server(&mut self, peer: &str) -> Result<Option<ServerRow>, StoreError> {
        let select =
            own!("select peer, store, registration, seen from main.farcall_server where peer = ?1");
        let mut select = self.get().guarded.own(select)?;
        Ok(select.query_row([peer], columns::server).optional()?)
    }

    fn put_server(&mut self, row: &ServerRow) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let put = own!(
            "insert into main.farcall_server (peer, store, registration, seen) values (?1, ?2, ?3, ?4)
             on conflict (peer) do update set store = ?2, registration = ?3, seen = ?4"
        );
        inner.guarded.own(put)?.execute(params![
            row.peer,
            row.binding.store.0.as_bytes(),
            row.binding.registration.0.cast_signed(),
            row.seen.cast_signed()
        ])?;
        inner.numbers.touch();
        Ok(())
    }

    fn remove_server(&mut self, peer: &str) -> Result<(), StoreError> {
        let inner = self.get_mut();
        let delete = own!("delete from main.farcall_server where peer = ?1");
        if inner.guarded.own(delete)?.execute([peer])? > 0 {
            inner.numbers.touch();
        }
        Ok(())
    }

    fn bind(&mut self, peer: &str, binding: Binding) -> Result<Vec<Seq>, StoreError> {
        let inner = self.get_mut();
        let update = own!(
            "update main.farcall_request set store = ?2, registration = ?3
             where peer = ?1 and store is null and outcome is null returning seq"
        );
        let mut update = inner.guarded.own(update)?;
        let to = params![peer, binding.store.0.as_bytes(), binding.registration.0.cast_signed()];
        let bound = update.query_map(to, |row| Ok(columns::seq(row.get(0)?)))?;
        let mut bound: Vec<Seq> = bound.collect::<Result<_, _>>()?;
        bound.sort_unstable();
        if !bound.is_empty() {
            inner.numbers.touch();
        }
        Ok(bound)
    }

    fn usage(&mut self) -> Result<Usage, StoreError> {
        let inner = self.get_mut();
        if let Some(usage) = inner.numbers.usage() {
            return Ok(usage);
        }
        let count = own!(
            "select count(*), coalesce(sum(length(arguments) + coalesce(length(body), 0)), 0)
             from main.farcall_request"
        );
        let usage = inner
            .guarded
            .own(count)?
            .query_row([], |row| Ok(Usage { rows: row.get(0)?, bytes: row.get(1)? }))?;
        inner.numbers.set_usage(usage);
        Ok(usage)
    }
}

impl Sqlite {
    /// Finished calls behind a number that somebody may still have to be told of, in the order of their numbers.
    pub(crate) fn untold(&mut self, after: Seq, most: usize) -> Result<Vec<Saved>, StoreError> {
        let select = saved!(
            "where outcome is not null and seq > ?1 and wanted <> 2 and (wanted = 1 or outcome <> 0 or key is null)
             order by seq limit ?2"
        );
        let mut select = self.get().guarded.own(select)?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = select.query_map(params![columns::ordered(after), most], columns::saved)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Those of these calls that the journal has.
    pub(crate) fn requests(&mut self, seqs: &[Seq]) -> Result<Vec<Saved>, StoreError> {
        let mut found = Vec::with_capacity(seqs.len());
        for &seq in seqs {
            found.extend(self.request(seq)?);
        }
        Ok(found)
    }

    /// What the journal has for a node that begins.
    pub(super) fn opened(&mut self) -> Result<Opened, StoreError> {
        let inner = self.get();
        let servers = own!("select peer, store, registration, seen from main.farcall_server");
        let mut servers = inner.guarded.own(servers)?;
        let servers = servers.query_map([], columns::server)?.collect::<Result<_, _>>()?;
        let mut lasts = inner.guarded.own(own!("select last from main.farcall_opening"))?;
        let lasts = lasts.query_map([], |row| row.get(0).map(columns::seq))?;
        let unfinished = own!(
            "select seq, peer, store, registration from main.farcall_request where outcome is null order by seq"
        );
        let mut unfinished = inner.guarded.own(unfinished)?;
        let unfinished = unfinished.query_map([], |row| {
            let peer: Arc<str> = row.get(1)?;
            Ok((columns::seq(row.get(0)?), peer, columns::binding(row, 2)?))
        })?;
        Ok(Opened {
            identity: inner.identity,
            last_before: inner.numbers.last_seq(),
            lasts: lasts.collect::<Result<_, _>>()?,
            servers,
            unfinished: unfinished.collect::<Result<_, _>>()?,
        })
    }
}
