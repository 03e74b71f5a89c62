//! Schemas of what is written as text, or by hand, and of what is made of those; all else derives its own.

use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, Schema, SchemaFormat, Type};
use utoipa::openapi::{ObjectBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::failure::FailurePolicy;
use crate::id::{AddonId, ID_MAX, Id};
use crate::lifecycle::{AddonState, ResourceState};
use crate::limits::Limits;
use crate::outbound::Destination;
use crate::outcome::Report;

/// What an id looks like, but for its length.
const ID: &str = "[a-z0-9]([a-z0-9-]*[a-z0-9])?";

fn text(says: &str, pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).description(Some(says)).pattern(Some(format!("^{pattern}$")))
}

impl PartialSchema for Id {
    fn schema() -> RefOr<Schema> {
        text("1 to 40 of a-z, 0-9 and inner dashes", ID).min_length(Some(1)).max_length(Some(ID_MAX)).into()
    }
}

impl PartialSchema for AddonId {
    fn schema() -> RefOr<Schema> {
        text("An addon, with its namespace", &format!("{ID}/{ID}")).max_length(Some(2 * ID_MAX + 1)).into()
    }
}

/// A state that may name the hook that has led to it.
fn state(says: &str, states: &str) -> RefOr<Schema> {
    text(says, &format!("({states}|(failed|interrupted)\\{{[a-z-]+\\}})")).into()
}

impl PartialSchema for AddonState {
    fn schema() -> RefOr<Schema> {
        state("Where an addon is in its life", "installed|enabling|enabled|degraded|disabling|upgrading")
    }
}

impl PartialSchema for ResourceState {
    fn schema() -> RefOr<Schema> {
        let states = "provisioning|active|updating|suspending|suspended|resuming|detached|deprovisioning";
        state("Where a resource is in its life", states)
    }
}

impl PartialSchema for FailurePolicy {
    fn schema() -> RefOr<Schema> {
        let says = "What is done when a hook fails; with how often, or after how many times";
        text(says, "(fail-closed|fail-open|(retry|quarantine)\\([0-9]+\\))").into()
    }
}

impl PartialSchema for Limits {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let number = number.format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)));
        let limits = ObjectBuilder::new().schema_type(Type::Object).description(Some("What a call may use"));
        limits.additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(number.into())))).into()
    }
}

impl PartialSchema for Destination {
    fn schema() -> RefOr<Schema> {
        text("A name and a port", "[^:]+:[0-9]+").into()
    }
}

/// What a call has used, of which there is nothing while it runs.
pub(crate) fn report_of_call() -> RefOr<Schema> {
    let mut schema = Report::schema();
    if let RefOr::T(Schema::Object(report)) = &mut schema {
        report.required.clear();
    }
    schema
}

impl ToSchema for Id {}
impl ToSchema for AddonId {}
impl ToSchema for AddonState {}
impl ToSchema for ResourceState {}
impl ToSchema for FailurePolicy {}
impl ToSchema for Limits {}
impl ToSchema for Destination {}
