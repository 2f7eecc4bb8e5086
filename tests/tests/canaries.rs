//! The simulation finds every bug that is planted in the machines.
//!
//! A simulation that finds nothing proves nothing. The planted bugs exist only in a build of their own.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Each planted bug that runs over streams find; `cfg_canary!` marks its place in the code.
const PLANTED: &[&str] = &[
    "acknowledged_calls_are_not_noted",
    "boots_are_not_compared",
    "duplicates_run",
    "finished_calls_are_new",
    "goaway_names_no_calls",
    "maybe_without_replay_window",
    "new_number_after_restart",
    "older_links_take_over",
    "panic_resets_the_record",
    "pressure_drops_one_answer",
    "refusals_are_forgotten",
    "repeats_are_known_by_time",
    "replies_free_their_slots",
    "resending_takes_a_new_number",
    "resolve_does_not_fence",
    "runs_while_draining",
    "unknown_sessions_are_made_anew",
    "what_left_counts_as_never_sent",
];

/// Each planted bug that runs over datagrams find.
const PLANTED_IN_PACKETS: &[&str] = &[
    "a_piece_that_arrives_finishes_its_call",
    "amplification_is_not_limited",
    "calls_do_not_wait_for_lookup",
    "cookies_are_not_asked_for",
    "datagrams_are_taken_twice",
    "datagrams_stay_large",
    "hints_are_believed",
    "maybe_is_sent_again",
    "paths_are_not_challenged",
    "probes_are_filled_up",
    "sums_are_not_checked",
    "what_is_lost_stays_lost",
    "what_was_told_has_arrived",
];

/// Each planted bug that runs over stores find.
const PLANTED_IN_STORES: &[&str] = &[
    "a_full_inbox_refuses_every_call",
    "answers_are_kept_for_a_while",
    "answers_are_told_before_the_commit",
    "answers_have_a_transaction_of_their_own",
    "answers_leave_before_the_floor_is_stored",
    "calls_are_counted_in_memory",
    "calls_are_sent_before_they_are_bound",
    "ended_transactions_are_not_noticed",
    "epochs_are_ignored",
    "fences_are_not_recorded",
    "floors_pass_what_is_not_durable",
    "keys_end_with_their_calls",
    "old_copies_are_believed",
    "old_journals_are_believed",
    "only_floors_are_stored",
    "own_errors_keep_their_effects",
    "registrations_are_given_anew",
    "requests_are_not_compared",
    "stores_are_not_compared",
    "unbound_calls_count_as_finished",
    "unknown_commits_count_as_none",
];

/// Each planted bug that runs of groups find.
const PLANTED_IN_GROUPS: &[&str] = &[
    "aliases_vote_twice",
    "broadcasts_refuse_nothing",
    "copies_in_bundles_run",
    "equal_tags_share_a_bundle",
    "excluded_members_are_called",
    "failures_are_accepted",
    "filters_are_not_asked",
    "hopeless_quorums_are_waited_for",
    "one_answer_is_a_quorum",
    "quorums_end_too_early",
    "silent_members_did_not_run",
    "silent_members_have_no_entry",
    "woken_members_are_not_polled",
];

/// Each planted bug that runs of mailboxes find.
const PLANTED_IN_MAILBOXES: &[&str] = &[
    "the_last_message_is_received_first",
    "what_failed_is_put_again",
    "what_is_put_was_received",
    "what_is_withdrawn_stays",
];

/// Each planted bug that runs of references find.
const PLANTED_IN_REFERENCES: &[&str] = &[
    "arguments_go_before_their_call_has_ended",
    "lost_references_are_not_asked_about",
    "one_holder_of_two_is_enough",
    "pins_end_when_the_call_left",
    "references_outlive_their_session",
    "replies_that_are_sent_again_count_again",
    "unfinished_arguments_end_with_the_session",
    "what_is_given_back_is_said_once",
    "what_is_on_its_way_is_given_back",
];

/// Seeds within which each must be found.
const SEEDS: &str = "2000";

#[test]
fn every_planted_bug_is_found_and_without_one_nothing_is() {
    let simulate = build();
    let mut missed = Vec::new();
    for (links, planted) in [
        ("streams", PLANTED),
        ("datagrams", PLANTED_IN_PACKETS),
        ("stores", PLANTED_IN_STORES),
        ("groups", PLANTED_IN_GROUPS),
        ("mailboxes", PLANTED_IN_MAILBOXES),
        ("references", PLANTED_IN_REFERENCES),
    ] {
        let run = |canary: &str| {
            let mut run = Command::new(&simulate);
            let output = run.args([SEEDS, links]).env("FARCALL_CANARY", canary).output();
            said(&output.expect("the build made it"))
        };
        assert_eq!(run("none"), format!("all {SEEDS} kept"), "{links}");
        for &canary in planted {
            let found = run(canary);
            println!("{canary:38} {found}");
            if !found.starts_with("seed ") {
                missed.push(canary);
            }
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn the_list_names_every_planted_bug_of_the_code() {
    let runtime = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../runtime/src");
    let mut named: Vec<String> = Vec::new();
    let mut folders = vec![runtime];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the workspace").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if let Ok(code) = std::fs::read_to_string(entry.path()) {
                let places = code.split("cfg_canary!(\"").skip(1);
                named.extend(places.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }
    named.retain(|name| name != "name");
    named.sort();
    named.dedup();
    let mut planted = [
        PLANTED,
        PLANTED_IN_PACKETS,
        PLANTED_IN_STORES,
        PLANTED_IN_GROUPS,
        PLANTED_IN_MAILBOXES,
        PLANTED_IN_REFERENCES,
    ]
    .concat();
    planted.sort_unstable();
    assert_eq!(named, planted);
}

/// Builds the simulation with all planted bugs, none of them active.
///
/// Only the workspace's own packages are built anew, each by way of a program that puts the bugs in: flags for the
/// compiler would be for all, and then tokio and SQLite were built again as well.
fn build() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--workspace", "--bin", "simulate"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTC_WORKSPACE_WRAPPER", env!("CARGO_BIN_EXE_with_canaries"))
        .output()
        .expect("cargo runs this test");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8_lossy(&built.stdout);
    let mut executables = messages.lines().filter_map(|line| {
        let (_, behind) = line.split_once("\"executable\":\"")?;
        Some(behind.split_once('"')?.0.to_owned())
    });
    let simulate = executables.next_back().expect("cargo names the executable that it built");
    // The next build without the bugs puts its own in that place.
    let copy = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("simulate_with_canaries{}", std::env::consts::EXE_SUFFIX));
    // As JSON writes the paths of Windows.
    std::fs::copy(simulate.replace("\\\\", "\\"), &copy).expect("a file that can be copied");
    copy
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
