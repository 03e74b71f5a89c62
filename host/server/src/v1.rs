//! The native API: what the command line does, in the shapes of its `--json`.

mod addons;
mod apps;
mod events;
mod operations;
mod streams;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lodger::{
    Added, AddonDetails, AddonInfo, CallRow, Finding, Grant, Installed, LogLine, Moved, Operation, Removed, Repair,
    Resource, ResourceNow, ServiceLog, Settings, Streamed, Uninstalled, VersionNow,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::operations::{APPLIED, KEY, PREFER, is_verb, record};
use crate::body::{self, PACKAGE, STREAM};
use crate::document::{Routes, fields_of, list_of, map_of, one, page_of, told};
use crate::problem::{Problem, Refusal};

/// Items on a page: at most, and where the request does not say.
const PAGE_MAX: u32 = 1000;
const PAGE: u32 = 100;

pub type Answer = Result<Response, Problem>;

const ADDON: &str = "/v1/addons/{namespace}/{name}";
const OF_APP: &str = "/v1/apps/{app}/addons/{namespace}/{name}";

pub fn routes() -> Routes {
    on_addons().and(on_apps()).and(on_all()).and(on_operations())
}

fn on_addons() -> Routes {
    let of = |path: &str| format!("{ADDON}{path}");
    Routes::on_record("addons")
        .get("/v1/addons", addons::list, told("list_addons", "What is installed").answers(200, list_of::<AddonInfo>))
        .post(
            "/v1/addons",
            addons::install,
            told("install_addon", "Install a package, as `lodger pack` makes it, with a grant that is accepted")
                .asks(fields_of::<addons::Accept>)
                .takes_plain(PACKAGE)
                .answers(200, one::<Installed>)
                .answers(201, one::<Installed>),
        )
        .get(ADDON, addons::details, told("addon", "All that is known of an addon").answers(200, one::<AddonDetails>))
        .delete(
            ADDON,
            addons::uninstall,
            told("uninstall_addon", "Uninstall an addon")
                .takes(one::<addons::KeepData>)
                .answers(200, one::<Uninstalled>),
        )
        .get(&of("/grant"), addons::grant, told("addon_grant", "What an addon may touch").answers(200, one::<Grant>))
        .get(
            &of("/calls"),
            addons::calls,
            told("addon_calls", "The record of its calls, the newest first")
                .asks(fields_of::<WhichPage>)
                .answers(200, page_of::<CallRow>),
        )
        .get(
            &of("/logs"),
            addons::logs,
            told("addon_logs", "What its calls have said, the oldest first; a page is of so many calls")
                .asks(fields_of::<WhichPage>)
                .answers(200, page_of::<LogLine>),
        )
        .get(
            &of("/services/{service}/logs"),
            addons::service_logs,
            told("service_logs", "The end of what a service has written, by its instances")
                .answers(200, list_of::<ServiceLog>)
                .reaches_out(),
        )
        .post(
            &of("/enable"),
            addons::enable,
            told("enable_addon", "Enable an addon, with what it needs")
                .takes(one::<addons::Nothing>)
                .answers(200, one::<Moved>),
        )
        .post(
            &of("/disable"),
            addons::disable,
            told("disable_addon", "Disable an addon; with `force` also those that need it")
                .takes(one::<addons::Force>)
                .answers(200, one::<Moved>),
        )
        .post(
            &of("/upgrade"),
            addons::upgrade,
            told("upgrade_addon", "Upgrade an addon to the version of a package")
                .asks(fields_of::<addons::Accept>)
                .takes_plain(PACKAGE)
                .answers(200, one::<VersionNow>),
        )
        .post(
            &of("/rollback"),
            addons::rollback,
            told("roll_back_addon", "Go back to the version before, with what it had then")
                .takes(one::<addons::Force>)
                .answers(200, one::<VersionNow>),
        )
        .post(
            &of("/reconcile"),
            addons::reconcile,
            told("reconcile_addon", "Finish what was cut off, and mend its services")
                .takes(one::<addons::Retry>)
                .answers(200, list_of::<Repair>),
        )
        .put(
            &of("/settings"),
            addons::set,
            told("set_addon", "Change settings, by their names; `null` goes back to the default")
                .takes(|_| map_of(&serde_json::json!({ "type": ["string", "null"] })))
                .answers(200, one::<Settings>),
        )
}

fn on_apps() -> Routes {
    let of = |path: &str| format!("{OF_APP}{path}");
    Routes::on_record("apps")
        .get(
            "/v1/apps",
            apps::list,
            told("list_apps", "Every app, with what it has")
                .answers(200, |schemas| map_of(&list_of::<Resource>(schemas))),
        )
        .get("/v1/apps/{app}", apps::resources, told("app", "What an app has").answers(200, list_of::<Resource>))
        .get(
            "/v1/apps/{app}/env",
            apps::env,
            told("app_env", "Its variables; with `partial` those that there are, whichever hooks fail")
                .asks(fields_of::<apps::Partial>)
                .answers(200, |_| map_of(&serde_json::json!({ "type": "string" })))
                .reaches_out(),
        )
        .put(
            OF_APP,
            apps::add,
            told("add_to_app", "Add an addon to an app")
                .takes(one::<apps::ToAdd>)
                .answers(200, one::<Added>)
                .answers(201, one::<Added>),
        )
        .delete(
            OF_APP,
            apps::remove,
            told("remove_from_app", "Remove an addon from an app")
                .takes(one::<apps::ToRemove>)
                .answers(200, one::<Removed>),
        )
        .get(
            &of("/url"),
            apps::url,
            told("app_url", "Where the app reaches it")
                .asks(fields_of::<apps::Which>)
                .answers(200, one::<apps::Url>)
                .reaches_out(),
        )
        .post(
            &of("/plan"),
            apps::plan,
            told("change_plan", "Move what the app has to another plan")
                .takes(one::<apps::ToPlan>)
                .answers(200, one::<ResourceNow>),
        )
        .post(
            &of("/suspend"),
            apps::suspend,
            told("suspend", "Withhold what the app has").takes(one::<apps::Which>).answers(200, one::<ResourceNow>),
        )
        .post(
            &of("/resume"),
            apps::resume,
            told("resume", "Give back what was withheld").takes(one::<apps::Which>).answers(200, one::<ResourceNow>),
        )
        .get(
            &of("/dump"),
            streams::dump,
            told("dump", "What the app has, as one stream. One that has no end is no dump")
                .asks(fields_of::<apps::Which>)
                .answers_plain(STREAM)
                .reaches_out(),
        )
        .put(
            &of("/restore"),
            streams::restore,
            told("restore", "Restore a dump")
                .asks(fields_of::<apps::Which>)
                .takes_plain(STREAM)
                .answers(200, one::<Streamed>),
        )
}

fn on_operations() -> Routes {
    Routes::on_record("operations")
        .get(
            "/v1/operations",
            operations::list,
            told("list_operations", "Requests on record, the newest first")
                .asks(fields_of::<WhichPage>)
                .answers(200, page_of::<Operation>),
        )
        .get(
            "/v1/operations/{operation}",
            operations::one,
            told("operation", "What has become of a request").answers(200, one::<Operation>),
        )
        .get(
            "/v1/operations/{operation}/events",
            operations::progress,
            told("operation_events", "How far a request comes, as it does: `step`, `percent`, and `end`")
                .answers_events(),
        )
        .get(
            "/v1/events",
            events::log,
            told("events", "What happens, as it does; or page by page, to whoever accepts JSON")
                .asks(fields_of::<events::WhichEvents>)
                .answers(200, one::<events::EventPage>)
                .answers_events(),
        )
}

fn on_all() -> Routes {
    Routes::on_record("host")
        .get(
            "/v1/calls",
            addons::all_calls,
            told("calls", "The record of all calls, the newest first")
                .asks(fields_of::<WhichPage>)
                .answers(200, page_of::<CallRow>),
        )
        .get(
            "/v1/doctor",
            addons::doctor,
            told("doctor", "What is not as it should be").answers(200, list_of::<Finding>).reaches_out(),
        )
        .post(
            "/v1/reconcile",
            addons::reconcile_all,
            told("reconcile", "Finish what was cut off, and mend services")
                .takes(one::<addons::Nothing>)
                .answers(200, list_of::<Repair>),
        )
}

pub fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    // All of it are our own types, whose keys are strings.
    let bytes = serde_json::to_vec(value).map_err(|_| Refusal::Lost)?;
    Ok((status, body::plain(body::JSON, bytes)).into_response())
}

fn ok(value: &impl Serialize) -> Answer {
    json(StatusCode::OK, value)
}

/// 201 where something is there that was not.
fn made(is_new: bool, value: &impl Serialize) -> Answer {
    json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, value)
}

/// A part of something long, and where the next begins; `None` at its end.
#[derive(Serialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhichPage {
    /// What `next` of the page before was.
    #[serde(default)]
    cursor: Option<String>,
    /// How many are on it, at most.
    #[serde(default)]
    #[schema(value_type = u64, maximum = 4_294_967_295_u64)]
    limit: Option<u32>,
}

impl WhichPage {
    fn limit(&self) -> u32 {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
}
