//! Every probe, and what the host must make of it. A probe without a test here does not compile.

mod answers;
mod bounds;
mod network;
mod shown;
mod streams;
mod together;

use lodger::{Add, CallRow, Candidate, Done, HookRequest, Host, Limit, Outcome, Resource, ServiceRequest};
use serde_json::Value;

use crate::services::guests;
use crate::support::{Lab, SECRET, Told, addon, component, id, probe_manifest, run};

/// One test per probe, named as the probe; the file's name is checked when this is compiled.
macro_rules! probes {
    ($($probe:ident => $test:expr,)+) => {
        $(
            #[test]
            fn $probe() {
                const _: &str = include_str!(concat!("probes/examples/", stringify!($probe), ".rs"));
                run($test(stringify!($probe)));
            }
        )+

        const TESTED: usize = [$(stringify!($probe)),+].len();
    };
}

probes! {
    addon_write => held,
    blocking_poll => bounds::stopped_at_the_deadline,
    config_attack => answers::variables_that_take_over_an_app_refuse_the_whole_answer,
    data_survives => bounds::files_survive_and_memory_does_not,
    deep_recursion => bounds::over_the_stack,
    directory_listing_flood => bounds::host_memory_is_bounded,
    disk_fill_append => held,
    disk_fill_set_size => held,
    disk_fill_sparse => held,
    disk_fill_write => held,
    disk_give_back => held,
    dump_endless => streams::a_dump_without_end_is_stopped,
    dump_greedy => streams::no_more_goes_through_than_is_permitted,
    endless_loop => bounds::stopped_at_the_deadline,
    endless_sleep => bounds::stopped_at_the_deadline,
    escape_absolute => held,
    escape_dotdot => held,
    escape_hard_link => held,
    escape_rename => held,
    escape_symlink => held,
    escape_trailing_slash => held,
    exit => answers::leaving_is_a_fault,
    file_flood => held,
    flaky => answers::what_was_written_before_a_trap_is_there_after_it,
    handle_flood => bounds::host_memory_is_bounded,
    http_endless_headers => network::a_head_without_end_is_given_up,
    http_endless_trailers => network::trailers_without_end_are_given_up,
    http_flood => network::connections_are_counted,
    http_granted => network::http_reaches_what_is_granted,
    http_redirect => network::a_redirect_is_an_answer,
    http_stalled => network::a_stalled_server_is_left,
    http_ungranted => network::http_reaches_nothing_else,
    https_granted => network::https_reaches_whom_it_is_for,
    hooks_all => answers::a_well_behaved_addon_completes_every_hook,
    host_environment => held,
    huge_answer => answers::huge_answers_are_refused_as_a_whole,
    late_write => bounds::a_stopped_call_writes_no_more,
    listener => answers::a_listener_decides_within_bounds,
    listen_granted => network::only_connecting_is_granted,
    log_flood => bounds::the_log_is_kept_up_to_its_limit,
    malformed_ids => answers::ids_against_the_rules_are_refused_and_undone,
    many_streams => held,
    memory_growth => bounds::over_the_memory,
    network_flood => network::bytes_are_counted,
    network_private => network::a_name_that_leads_here_is_refused,
    no_dns => held,
    no_tcp => held,
    no_udp => held,
    one_at_a_time => together::one_mutating_hook_at_a_time,
    other_addon_data => held,
    overflow_numbers => held,
    panic => answers::a_panic_is_a_fault_with_its_message,
    pollable_flood => bounds::over_handles_or_resources,
    progress_flood => bounds::progress_is_cut_and_counted,
    random_flood => bounds::over_the_random_bytes,
    read_only_data => answers::read_hooks_see_read_only_data,
    refuses => answers::every_refusal_keeps_its_code_and_text,
    rename_onto_itself => held,
    restore_careless => streams::what_is_not_read_is_not_waited_for,
    scheduler_elsewhere => answers::an_engine_that_is_no_candidate_is_refused,
    scheduler_endless => bounds::a_scheduler_has_a_second,
    secret_echo => shown::the_secret_appears_nowhere,
    services_crowd => guests::a_few_commands_at_a_time,
    services_endless => guests::a_command_that_does_not_end_is_ended,
    services_endpoint => guests::a_port_that_another_has_taken_is_not_dialled,
    services_exec => guests::commands_are_bounded,
    services_left => guests::a_command_that_was_left_is_ended_by_whoever_looks_next,
    services_pipe => guests::streams_go_past_the_guest,
    services_reach => guests::only_its_own_services,
    services_stuck => guests::what_fails_open_leaves_nothing_on_the_engine,
    settings_reach => held,
    sleep_loop => bounds::stopped_at_the_deadline,
    tcp_granted => network::tcp_reaches_what_is_granted,
    text_attack => shown::text_acts_on_nobody,
    trap_in_drop => answers::a_late_trap_is_a_fault,
    unknown_import => answers::an_unknown_import_is_refused_at_install,
    unlinked_open => held,
    versions => answers::a_version_is_upgraded_by_the_host_alone,
}

/// `[[example]]` names every probe of the crate, which makes no program of a file it does not name.
const _: () = assert!(count("[[example]]", include_str!("probes/Cargo.toml")) == TESTED, "a probe has no test");

const fn count(needle: &str, text: &str) -> usize {
    let (needle, text) = (needle.as_bytes(), text.as_bytes());
    let (mut found, mut at) = (0, 0);
    while at + needle.len() <= text.len() {
        let mut same = 0;
        while same < needle.len() && text[at + same] == needle[same] {
            same += 1;
        }
        if same == needle.len() {
            found += 1;
        }
        at += 1;
    }
    found
}

/// Long enough for every probe that ends by itself, on any machine.
const PATIENT_MS: u64 = 120_000;

/// A probe, installed as `NAME/probe` with its secret set.
struct Probe {
    lab: Lab,
    host: Host,
    id: lodger::AddonId,
    told: Told,
}

impl Probe {
    async fn installed(name: &str) -> Probe {
        Probe::with_deadline(name, PATIENT_MS).await
    }

    async fn with_deadline(name: &str, deadline_ms: u64) -> Probe {
        Probe::with_manifest(name, probe_manifest(&name.replace('_', "-"), deadline_ms)).await
    }

    async fn with_manifest(name: &str, manifest: Value) -> Probe {
        Probe::with_policy(name, manifest, "").await
    }

    async fn with_policy(name: &str, manifest: Value, policy: &str) -> Probe {
        let (lab, told) = (Lab::new(), Told::default());
        lab.policy(policy);
        let package = lab.package(name, &manifest, component(name));
        let host = lab.host_with(|config| told.listen(config)).await;
        host.install(host.inspect(&package).await.unwrap(), false).await.unwrap();
        let id = addon(&format!("{}/probe", name.replace('_', "-")));
        host.set(&id, "SECRET", Some(SECRET.to_owned())).await.unwrap();
        Probe { lab, host, id, told }
    }

    /// A provider, enabled.
    async fn provider(name: &str) -> Probe {
        let probe = Probe::installed(name).await;
        let done = probe.enable().await;
        assert_eq!(done.outcome, Outcome::Completed(()));
        probe
    }

    async fn enable(&self) -> Done<()> {
        self.host.enable(&self.id).await.unwrap()
    }

    async fn add(&self, app: &str) -> Done<Resource> {
        self.add_as(app, None).await
    }

    async fn add_as(&self, app: &str, alias: Option<&str>) -> Done<Resource> {
        let add = Add { alias: alias.map(id), ..Add::new(id(app), self.id.clone()) };
        self.host.add(add).await.unwrap()
    }

    /// The calls of the addon, the oldest first.
    fn calls(&self) -> Vec<CallRow> {
        let mut calls = self.host.calls(Some(&self.id), 1000).unwrap();
        calls.reverse();
        calls
    }

    /// How each call ended, the oldest first.
    fn outcomes(&self) -> Vec<(String, String)> {
        self.calls().into_iter().map(|call| (call.hook, call.outcome.unwrap_or_default())).collect()
    }

    fn resources(&self) -> usize {
        self.host.apps().unwrap().values().map(Vec::len).sum()
    }

    /// Closes the host, so that all it has to say is in the store, and gives the lab to look at it from outside.
    fn close(self) -> Lab {
        drop(self.host);
        self.lab
    }
}

/// What a scheduler is asked where one engine answers.
fn schedule_request() -> HookRequest {
    let asked = ServiceRequest { addon: "local/web".to_owned(), key: None, services: Vec::new() };
    let here = Candidate {
        engine: "here".to_owned(),
        labels: Vec::new(),
        memory_bytes: 1 << 30,
        millicpus: 1000,
        free_memory_bytes: 1 << 30,
        free_millicpus: 1000,
        instances: 0,
    };
    HookRequest::Schedule(asked, vec![here])
}

/// The guest says itself that the sandbox held.
async fn held(name: &str) {
    let probe = Probe::installed(name).await;
    let done = probe.enable().await;
    assert_eq!(done.outcome, Outcome::Completed(()), "{:?}", done.call);
    let report = done.call.unwrap().report;
    assert!(report.memory_bytes <= report.limits[Limit::MemoryBytes], "{report:?}");
    assert!(report.data_bytes <= 1 << 20 && report.data_files <= 50, "{report:?}");
}

/// The limit a call has broken; anything else fails the test.
#[track_caller]
fn broken<T: std::fmt::Debug>(outcome: &Outcome<T>) -> Limit {
    match outcome {
        Outcome::LimitExceeded { limit, .. } => *limit,
        other => panic!("no limit exceeded, but {other:?}"),
    }
}

/// The code and text of a refusal; anything else fails the test.
#[track_caller]
fn refusal<T: std::fmt::Debug>(outcome: &Outcome<T>) -> (&str, &str) {
    match outcome {
        Outcome::Refused(refused) => (&refused.code, &refused.message),
        other => panic!("not refused, but {other:?}"),
    }
}

/// Why a call has trapped; anything else fails the test.
#[track_caller]
fn trapped<T: std::fmt::Debug>(outcome: &Outcome<T>) -> &str {
    match outcome {
        Outcome::Trapped { reason } => reason,
        other => panic!("not trapped, but {other:?}"),
    }
}
