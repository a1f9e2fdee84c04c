//! The same test bodies run against each model of the embedded server, xenstored and oxenstored, as
//! domain 0 and as a guest, with the blocking and the asynchronous client and with their core. The
//! body says how servers differ.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "this is test code"
)]

mod client;
mod domains;
mod invalid_requests;
mod lists;
mod permissions;
mod pipelines;
mod testbed;
mod transactions;
mod values;
mod watches;

/// Generates thirty tests from each body. The bodies in the second list need tokens of their own
/// choice, so only the ten tests of the core are generated. Those in the third list need calls that
/// only the clients have.
macro_rules! conformance {
    ({ $($both:tt)* } { $($core:tt)* } { $($clients:tt)* }) => {
        mod blocking {
            conformance! { @servers Blocking $($both)* }
            mod clients {
                conformance! { @servers Blocking $($clients)* }
            }
        }
        mod core {
            conformance! { @servers Core $($both)* }
            mod tokens {
                conformance! { @servers Core $($core)* }
            }
        }
        mod asynchronous {
            conformance! { @servers Async $($both)* }
            mod clients {
                conformance! { @servers Async $($clients)* }
            }
        }
    };
    (@servers $calls:ident $($module:ident { $($body:ident)* })*) => {
        conformance! { @embedded $calls embedded CXenstored4_17 $($module { $($body)* })* }
        conformance! { @embedded $calls embedded_xen_4_22 CXenstored4_22 $($module { $($body)* })* }
        conformance! { @embedded $calls embedded_oxenstored Oxenstored4_17 $($module { $($body)* })* }
        conformance! { @daemon $calls c_xenstored C "needs xenstored" $($module { $($body)* })* }
        conformance! { @daemon $calls oxenstored OCaml "needs root and oxenstored" $($module { $($body)* })* }
    };
    (@embedded $calls:ident $name:ident $model:ident $($module:ident { $($body:ident)* })*) => {
        mod $name {
            use xenstore::embedded::Model::$model as MODEL;
            mod dom0 { $($(#[test] fn $body() {
                crate::$module::$body(&crate::testbed::Testbed::embedded(super::MODEL, crate::client::Calls::$calls, 0));
            })*)* }
            mod guest { $($(#[test] fn $body() {
                crate::$module::$body(&crate::testbed::Testbed::embedded(super::MODEL, crate::client::Calls::$calls, 5));
            })*)* }
        }
    };
    (@daemon $calls:ident $name:ident $daemon:ident $needs:literal $($module:ident { $($body:ident)* })*) => {
        mod $name {
            use system_tests::Daemon::$daemon as DAEMON;
            mod dom0 { $($(
                #[test]
                #[ignore = $needs]
                fn $body() {
                    crate::$module::$body(&crate::testbed::Testbed::daemon(super::DAEMON, crate::client::Calls::$calls, 0));
                }
            )*)* }
            mod guest { $($(
                #[test]
                #[ignore = $needs]
                fn $body() {
                    crate::$module::$body(&crate::testbed::Testbed::daemon(super::DAEMON, crate::client::Calls::$calls, 5));
                }
            )*)* }
        }
    };
}

conformance! {
    {
        values {
            written_value_is_read_back
            write_replaces_value
            empty_value
            binary_value
            value_of_2000_bytes
            value_size_quota
            write_creates_missing_parents
            mkdir_creates_an_empty_node
            mkdir_keeps_an_existing_node
            remove_deletes_the_subtree
            remove_of_a_missing_node_succeeds
            remove_below_a_missing_node_is_enoent
            missing_node_is_enoent
            relative_paths_start_at_the_domain_home
            domain_path_of_any_domain
            read_text_replaces_invalid_utf8
            walk_returns_the_subtree
            walk_of_a_missing_node_is_enoent
            all_path_characters_are_accepted
            path_length_limit
            node_quota
        }
        lists {
            list_returns_children
            list_of_a_leaf_is_empty
            list_longer_than_one_message
        }
        permissions {
            new_node_inherits_permissions
            permissions_are_read_back
            permissions_of_a_missing_node_are_enoent
            guest_writes_only_its_own_nodes
            guest_cannot_read_foreign_nodes
            permissions_grant_access_to_another_domain
            only_domain_0_may_change_the_owner
            guest_cannot_recreate_a_removed_toolstack_node
        }
        watches {
            watch_fires_once_when_registered
            watch_fires_at_and_below_its_path
            watch_does_not_fire_beside_its_path
            watch_fires_on_removal
            watch_on_a_missing_node
            watch_fires_on_permission_change
            watch_fires_on_write_of_the_same_value
            watch_does_not_fire_without_a_change
            watch_fires_on_changes_by_other_clients
            event_path_is_relative_or_absolute_like_the_watch
            two_watches_on_one_node_both_fire
            unwatch_stops_events
            events_keep_their_order_behind_replies
            next_watch_event_times_out
            guest_gets_no_event_for_an_unreadable_node
            introduce_and_release_watches
            watch_quota
        }
        transactions {
            commit_is_visible_immediately
            error_aborts_the_transaction
            transaction_reads_its_own_writes
            transaction_is_isolated_from_other_writes
            conflict_repeats_the_transaction
            list_mkdir_and_remove_in_a_transaction
            permissions_are_committed
            events_are_sent_at_commit
            empty_transaction
            refused_request_in_a_transaction
            pipeline_in_a_transaction
            transaction_quota
        }
        pipelines {
            pipeline_replies_keep_their_order
            refused_request_does_not_affect_the_rest_of_a_pipeline
            large_replies_are_complete
            concurrent_clients_get_their_own_replies
        }
        invalid_requests {
            invalid_paths_are_not_sent
            oversized_payload_is_not_sent
            pipeline_with_an_oversized_payload_is_not_sent
        }
        domains {
            domain_requests_are_only_for_domain_0
            features_and_quotas
            control_of_each_server
            watch_of_a_released_domain
        }
    }
    {
        watches {
            duplicate_events
            duplicate_watch_is_eexist
            unwatch_without_watch_is_enoent
            tokens_are_returned_unchanged
        }
        invalid_requests {
            tokens_with_nul_are_not_sent
            oversized_token_is_not_sent
        }
        domains {
            reset_watches_ends_all_watches
            watch_of_a_depth
        }
    }
    {
        watches {
            watch_to_omits_changes_below_its_depth
        }
        domains {
            start_and_end_of_domains
        }
    }
}
