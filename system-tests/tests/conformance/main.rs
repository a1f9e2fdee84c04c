//! What a client meets is the same on every server: the embedded store, xenstored and oxenstored, as domain 0 and as a
//! guest, by calls that wait and by async ones. Where the servers differ, the body says how.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "all of this is test code"
)]

mod bed;
mod client;
mod domains;
mod lists;
mod permissions;
mod pipelines;
mod refused;
mod transactions;
mod values;
mod watches;

/// Makes of each body twelve tests; of the last ones, which are about tokens of the body's own, the six of the client that
/// waits.
macro_rules! conformance {
    ({ $($both:tt)* } { $($blocking:tt)* }) => {
        mod blocking {
            conformance! { @servers Blocking $($both)* }
            mod tokens {
                conformance! { @servers Blocking $($blocking)* }
            }
        }
        mod asynchronous {
            conformance! { @servers Async $($both)* }
        }
    };
    (@servers $calls:ident $($module:ident { $($body:ident)* })*) => {
        mod embedded {
            mod dom0 { $($(#[test] fn $body() {
                crate::$module::$body(&crate::bed::Bed::embedded(crate::client::Calls::$calls, 0));
            })*)* }
            mod guest { $($(#[test] fn $body() {
                crate::$module::$body(&crate::bed::Bed::embedded(crate::client::Calls::$calls, 5));
            })*)* }
        }
        conformance! { @daemon $calls c_xenstored C "needs xenstored" $($module { $($body)* })* }
        conformance! { @daemon $calls oxenstored OCaml "needs root and oxenstored" $($module { $($body)* })* }
    };
    (@daemon $calls:ident $name:ident $daemon:ident $needs:literal $($module:ident { $($body:ident)* })*) => {
        mod $name {
            use system_tests::Daemon::$daemon as DAEMON;
            mod dom0 { $($(
                #[test]
                #[ignore = $needs]
                fn $body() {
                    crate::$module::$body(&crate::bed::Bed::daemon(super::DAEMON, crate::client::Calls::$calls, 0));
                }
            )*)* }
            mod guest { $($(
                #[test]
                #[ignore = $needs]
                fn $body() {
                    crate::$module::$body(&crate::bed::Bed::daemon(super::DAEMON, crate::client::Calls::$calls, 5));
                }
            )*)* }
        }
    };
}

conformance! {
    {
        values {
            a_value_reads_back
            a_value_is_replaced
            a_value_may_be_empty
            a_value_may_be_any_bytes
            a_value_of_2000_bytes_is_taken
            a_value_may_be_only_so_long
            missing_parents_are_made
            mkdir_makes_an_empty_node
            mkdir_leaves_a_node_as_it_is
            a_node_is_removed_with_all_below
            removing_what_is_not_there_is_no_error
            removing_below_what_is_not_there_is_an_error
            a_missing_node_is_enoent
            relative_paths_start_at_the_domains_home
            every_domain_has_its_path
            a_value_as_text
            a_walk_finds_all_below
            a_walk_of_nothing_is_enoent
            every_character_of_a_path_is_taken
            long_paths_are_taken_up_to_the_servers_limit
            nodes_are_limited_for_guests
        }
        lists {
            children_are_listed
            a_node_without_children_lists_none
            a_list_longer_than_a_message
        }
        permissions {
            a_new_node_has_its_parents_permissions
            permissions_read_back
            permissions_of_a_missing_node
            guests_write_only_what_is_theirs
            guests_do_not_see_what_is_not_theirs
            a_node_may_be_shared
            a_node_is_given_away_only_by_domain_0
            a_guest_cannot_make_again_what_it_removed
        }
        watches {
            a_watch_fires_when_it_is_set
            a_watch_fires_at_and_below_its_path
            a_watch_does_not_fire_beside_its_path
            a_watch_fires_on_removal
            a_watch_on_a_missing_node
            a_watch_fires_on_permissions
            an_unchanged_value_fires_too
            what_changes_nothing_fires_nothing
            a_watch_fires_on_what_others_do
            paths_of_events_are_as_the_watch_was_set
            two_watches_both_fire
            an_ended_watch_is_silent
            events_keep_their_order_behind_replies
            waiting_for_an_event_ends_in_time
            guests_are_not_told_of_what_they_may_not_read
            special_watches_tell_of_domains
            watches_are_limited_for_guests
        }
        transactions {
            a_commit_is_there_at_once
            an_error_abandons_it
            it_reads_what_it_wrote
            it_sees_nothing_of_what_others_write
            a_conflict_starts_it_over
            it_lists_makes_and_removes
            its_permissions_are_committed
            events_come_with_the_commit
            an_empty_one_is_fine
            refused_inside_it
            a_pipeline_within_it
            transactions_are_limited_for_guests
        }
        pipelines {
            a_hundred_writes_and_reads_in_order
            one_refusal_leaves_the_others_alone
            large_replies_come_back_whole
            clients_do_not_mix
        }
        refused {
            invalid_paths_are_not_sent
            payloads_that_are_too_long_are_not_sent
            a_pipeline_with_one_that_is_too_long_is_not_sent
        }
        domains {
            only_domain_0_may_ask_of_domains
            features_and_quotas_where_they_are_known
        }
    }
    {
        watches {
            events_that_look_the_same
            the_same_watch_twice_is_refused
            ending_no_watch_is_an_error
            tokens_are_returned_as_they_are
        }
        refused {
            tokens_with_nul_are_not_sent
            tokens_that_are_too_long_are_not_sent
        }
        domains {
            a_reset_ends_watches
        }
    }
}
