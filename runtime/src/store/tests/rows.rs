//! Rows come back as they were put, and what is counted in memory agrees with them.

use super::*;
use crate::error::FailureCode;
use crate::protocol::durable::journal::key_digest;
use crate::protocol::durable::rows::{Key, Keyed, Outcome as Ended, Saved};

fn binding(number: u64) -> Binding {
    Binding { store: client(number), registration: RegistrationId(u64::MAX - number) }
}

#[test]
fn a_request_comes_back_with_how_it_ended() {
    let folder = Folder::new();
    let full = Request {
        key: Some("order-42".into()),
        parent: Some((RegistrationId(u64::MAX), u64::MAX)),
        wanted: false,
        ..request("tcp://a:1", &[0, 255])
    };
    let outcomes = [
        Ended::Answered { answer: Answer::Ok, body: b"result".to_vec() },
        Ended::Answered { answer: Answer::MethodError, body: Vec::new() },
        Ended::Answered { answer: Answer::Never(FailureCode::Panicked), body: b"why".to_vec() },
        Ended::Cancelled,
        Ended::Parked { reason: "the server has another store".into() },
    ];
    let checked = run(&folder.open(), move |db| {
        let mut saved = Saved { seq: 0, request: full.clone(), binding: None, outcome: None };
        for (outcome, binding) in outcomes.iter().zip([None, Some(binding(1))].into_iter().cycle())
        {
            saved.seq = db.next_seq()?;
            (saved.binding, saved.outcome) = (binding, None);
            db.put_request(saved.seq, &full, binding)?;
            assert_eq!(db.request(saved.seq)?.as_ref(), Some(&saved));
            let mut keyed = Keyed { seq: saved.seq, digest: key_digest(&full), outcome: None };
            assert_eq!(db.keyed("order-42")?.as_ref(), Some(&keyed));
            db.finish(saved.seq, outcome, Key::Kept)?;
            saved.outcome = Some(outcome.clone());
            keyed.outcome = Some(outcome.clone());
            assert_eq!(db.request(saved.seq)?.as_ref(), Some(&saved));
            assert_eq!(db.keyed("order-42")?, Some(keyed));
            db.finish(saved.seq, outcome, Key::Freed)?;
            assert_eq!(db.keyed("order-42")?, None);
            assert_eq!(db.request(saved.seq)?.and_then(|saved| saved.request.key), None);
        }
        assert_eq!(db.untold(0, 2)?.len(), 2);
        let last = db.untold(saved.seq - 1, 9)?;
        assert_eq!(last.iter().map(|saved| saved.seq).collect::<Vec<_>>(), [saved.seq]);
        assert_eq!(db.requests(&[5, saved.seq])?, last);
        db.remove(saved.seq)?;
        assert_eq!(db.request(saved.seq)?, None);
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn unbound_unfinished_requests_of_an_address_are_bound() {
    let folder = Folder::new();
    let store = folder.open();
    let seqs = run(&store, |db| {
        let mut seqs = Vec::new();
        for (peer, binding) in
            [("a", None), ("b", None), ("a", Some(binding(1))), ("a", None), ("a", None)]
        {
            seqs.push(db.next_seq()?);
            db.put_request(seqs[seqs.len() - 1], &request(peer, b""), binding)?;
        }
        db.finish(seqs[4], &Ended::Cancelled, Key::Kept)?;
        assert_eq!(db.bind("a", binding(2))?, [seqs[0], seqs[3]]);
        assert_eq!(db.bind("a", binding(3))?, []);
        Ok(seqs)
    });
    let seqs = seqs.unwrap();
    let unfinished: Vec<_> = store.opened().unwrap().unfinished;
    let expected = [
        (seqs[0], "a".into(), Some(binding(2))),
        (seqs[1], "b".into(), None),
        (seqs[2], "a".into(), Some(binding(1))),
        (seqs[3], "a".into(), Some(binding(2))),
    ];
    assert_eq!(unfinished, expected);
}

#[test]
fn a_server_comes_back_until_it_is_forgotten() {
    let folder = Folder::new();
    let store = folder.open();
    let row = ServerRow { peer: "tcp://a:1".into(), binding: binding(1), seen: u64::MAX };
    let newer = ServerRow { binding: binding(2), seen: 3, ..row.clone() };
    let last = newer.clone();
    let checked = run(&store, move |db| {
        assert_eq!(db.server("tcp://a:1")?, None);
        db.put_server(&row)?;
        assert_eq!(db.server("tcp://a:1")?.as_ref(), Some(&row));
        db.put_server(&newer)?;
        assert_eq!(db.server("tcp://a:1")?.as_ref(), Some(&newer));
        Ok(())
    });
    checked.unwrap();
    assert_eq!(store.opened().unwrap().servers, [last]);
    run(&store, |db| db.remove_server("tcp://a:1")).unwrap();
    assert_eq!(store.opened().unwrap().servers, []);
}

#[test]
fn answers_come_back_until_the_floor_passes_them() {
    let folder = Folder::new();
    let fenced = AnswerRow {
        digest: None,
        answer: Answer::Never(FailureCode::Cancelled),
        body: b"cancelled".to_vec(),
    };
    let checked = run(&folder.open(), move |db| {
        let id = RegistrationId(1);
        db.put_registration(&registration(1))?;
        assert_eq!(db.answers(id)?, (0, 0));
        db.put_answer(id, SEQS[2], &fenced)?;
        db.put_answer(id, SEQS[0], &answer(b"first"))?;
        db.put_answer(id, SEQS[1], &answer(b"second"))?;
        db.put_answer(RegistrationId(2), SEQS[0], &answer(b"another's"))?;
        assert_eq!(db.answer(id, SEQS[2])?.as_ref(), Some(&fenced));
        assert_eq!(db.answers(id)?, (3, SEQS[2]));
        assert_eq!(db.drop_answers(id, 0, SEQS[0])?, None);
        assert_eq!(db.drop_answers(id, SEQS[0] + 1, SEQS[2])?, Some(SEQS[1]));
        assert_eq!(db.answer(id, SEQS[1])?, None);
        assert_eq!(db.answer(id, SEQS[0])?, Some(answer(b"first")));
        assert_eq!(db.answers(id)?, (2, SEQS[2]));
        assert_eq!(db.drop_answers(id, 0, u64::MAX)?, Some(SEQS[2]));
        assert_eq!(db.answers(id)?, (0, 0));
        assert_eq!(db.answers(RegistrationId(2))?, (1, SEQS[0]));
        Ok(())
    });
    checked.unwrap();
}

#[test]
fn a_registration_is_replaced_and_its_number_never_given_again() {
    let folder = Folder::new();
    let store = folder.open();
    let checked = run(&store, |db| {
        let finished = Finished::of(SEQS[0] + 1, &[(SEQS[1], SEQS[1] + 2), (SEQS[2], u64::MAX)]);
        let newer =
            RegistrationRow { epoch: Epoch::LAST, finished, max: SEQS[2], ..registration(1) };
        assert_eq!(db.next_registration()?, RegistrationId(1));
        db.put_registration(&registration(1))?;
        db.put_registration(&newer)?;
        assert_eq!(db.registration(RegistrationId(1))?.as_ref(), Some(&newer));
        assert_eq!((db.registrations()?, db.next_registration()?), (1, RegistrationId(2)));
        Ok(())
    });
    checked.unwrap();
    let clients = block_on(store.registrations()).unwrap();
    let expected = super::super::Registration { client: client(1), unacknowledged: 0 };
    assert_eq!(clients, [expected]);
    assert!(block_on(store.purge(client(1))).unwrap());
    assert!(!block_on(store.purge(client(1))).unwrap(), "it is not known any more");
    drop(store);
    let next = run(&folder.open(), |db| db.next_registration());
    assert_eq!(next.unwrap(), RegistrationId(2));
}

#[test]
fn a_client_with_answers_is_not_purged() {
    let folder = Folder::new();
    let store = folder.open();
    run(&store, |db| {
        db.put_registration(&registration(1))?;
        db.put_answer(RegistrationId(1), 5, &answer(b""))
    })
    .unwrap();
    assert!(!block_on(store.purge(client(1))).unwrap());
    assert_eq!(block_on(store.registrations()).unwrap()[0].unacknowledged, 1);
    run(&store, |db| db.drop_answers(RegistrationId(1), 0, 6)).unwrap();
    assert!(block_on(store.purge(client(1))).unwrap());
    assert_eq!(block_on(store.registrations()).unwrap(), []);
}

/// What is counted in memory, and what the rows say.
fn counts(db: &mut Sqlite) -> Result<(Usage, (usize, Seq)), StoreError> {
    let counted = (db.usage()?, db.answers(RegistrationId(1))?);
    let bare = db.get().guarded.bare();
    let usage = bare.query_row(
        "select count(*), coalesce(sum(length(arguments) + coalesce(length(body), 0)), 0)
         from farcall_request",
        [],
        |row| Ok(Usage { rows: row.get(0)?, bytes: row.get(1)? }),
    )?;
    let (count, max): (usize, Option<i64>) = bare.query_row(
        "select count(*), max(seq) from farcall_inbox where registration = 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let max = max.map_or(0, super::super::columns::seq);
    assert_eq!(counted, (usage, (count, max)));
    Ok(counted)
}

/// Changes everything that is counted.
fn change(db: &mut Sqlite) -> Result<(), StoreError> {
    let (first, second) = (db.next_seq()?, db.next_seq()?);
    db.put_request(first, &request("a", b"12345"), None)?;
    db.put_request(second, &request("a", b"123"), None)?;
    let long = Ended::Answered { answer: Answer::Ok, body: vec![0; 50] };
    db.finish(first, &long, Key::Kept)?;
    db.finish(first, &Ended::Cancelled, Key::Kept)?;
    db.finish(second, &long, Key::Kept)?;
    db.remove(first)?;
    db.put_answer(RegistrationId(1), second, &answer(b""))?;
    let next = db.next_registration()?;
    db.put_registration(&registration(next.0))
}

#[test]
fn counts_go_back_with_what_they_count() {
    let folder = Folder::new();
    let store = folder.open();
    let checked = run(&store, |db| {
        // Not asked for before the first change.
        change(db)?;
        let first = counts(db)?;
        assert_eq!(first.0, Usage { rows: 1, bytes: 53 });
        db.undo()?;
        assert_eq!(counts(db)?, (Usage::default(), (0, 0)));
        assert_eq!(db.next_registration()?, RegistrationId(1));
        change(db)?;
        assert_eq!(counts(db)?.0, first.0);
        Ok(())
    });
    checked.unwrap();
    assert_eq!(commits(&store), 1);

    // A work that fails, in the company of one that ends the transaction, which makes the last one run twice.
    let held = hold(&store);
    let undone = submit(&store, |db| {
        change(db)?;
        counts(db)?;
        Err::<(), _>(StoreError::Closed)
    });
    let ended = submit(&store, |db| {
        change(db)?;
        counts(db)?;
        handler(db, |tx| {
            tx.execute_batch(
            "create table t (x unique); insert into t values (1); insert or rollback into t values (1)",
        )
        })
    });
    let good = submit(&store, |db| {
        change(db)?;
        counts(db)
    });
    drop(held);
    assert!(undone.recv().unwrap().is_err());
    assert!(ended.recv().unwrap().is_err());
    let (usage, answers) = good.recv().unwrap().unwrap();
    assert_eq!((usage, answers.0), (Usage { rows: 2, bytes: 106 }, 2));
    assert_eq!(run(&store, |db| db.next_registration()).unwrap(), RegistrationId(3));
    assert_eq!(commits(&store), 2);
    drop(store);
    assert_eq!(run(&folder.open(), counts).unwrap(), (usage, answers));
}

/// Somebody may have been shown the number before its transaction was undone.
#[test]
fn a_number_of_a_call_is_never_given_again() {
    let folder = Folder::new();
    let store = folder.open();
    let mut last = 0;
    for good in [false, true, false, true] {
        let (shown, seq) = mpsc::channel();
        let _ = run(&store, move |db| {
            let seq = db.next_seq()?;
            let _ = shown.send(seq);
            if good { Ok(()) } else { Err(StoreError::Closed) }
        });
        let seq = seq.recv().unwrap();
        assert!(seq > last);
        last = seq;
    }
    drop(store);
    let store = folder.open();
    assert!(store.opened().unwrap().last_before >= last);
    assert!(run(&store, |db| db.next_seq()).unwrap() > last);
}
