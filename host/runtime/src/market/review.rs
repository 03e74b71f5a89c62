//! Reviews: what is looked at before an entry is approved, and who looks.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::{Check, Review, Status};
use crate::addons::Incoming;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::manifest::Problem;
use crate::store::EntryRow;
use crate::text::is_plain;

/// Reviews at a time: each may compile.
pub(crate) const AT_A_TIME: usize = 4;
/// How long to wait for an engine that does not answer, or a host that is at fault.
const AGAIN: Duration = Duration::from_secs(2);
/// How often is looked for what another process has published.
const LOOK: Duration = Duration::from_secs(5);

impl Host {
    /// Reviews what is published, for ever, several at a time: one that waits keeps none of the others.
    pub async fn watch_market(&self) {
        let mut at_work = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        loop {
            let news = self.market.notified();
            match self.sweep_published().and_then(|()| self.store.entries(Status::UnderReview)) {
                Ok(rows) => {
                    for row in rows {
                        if busy.insert(row.id.clone()) {
                            at_work.push(self.review_and_note(row));
                        }
                    }
                }
                Err(error) => tell(&error, "the marketplace is not looked after"),
            }
            tokio::select! {
                Some(id) = at_work.next(), if !at_work.is_empty() => {
                    busy.remove(&id);
                }
                () = news => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Returns the entry's id when its review has ended, or may be tried again.
    async fn review_and_note(&self, row: EntryRow) -> String {
        let turn = self.reviews.acquire().await;
        let reviewed = self.review(&row).await;
        drop(turn);
        let noted = reviewed.and_then(|review| {
            let passed = review.checks.iter().all(|check| check.passed);
            let status = if passed { Status::Approved } else { Status::VerificationFailed };
            if self.store.end_review(&row.id, status, &review)? {
                tracing::info!(entry = row.id, addon = %row.addon, version = %row.version, %status, "reviewed");
            }
            Ok(())
        });
        if let Err(error) = noted {
            tell(&error, "a review waits");
            sleep(AGAIN).await;
        }
        row.id
    }

    /// # Errors
    /// Where nothing can be said yet. What is wrong with the addon is in the review.
    async fn review(&self, row: &EntryRow) -> Result<Review> {
        let mut review = Review::default();
        let package = match self.package_of(row) {
            Ok(package) => package,
            Err(error) => return review.failed("manifest", error),
        };
        let names = name_problems(&package.manifest.display_name, &package.manifest.description);
        review.note("manifest", names);
        let has_component = package.component.is_some();
        match self.inspect_package(package).await {
            Ok(incoming) => {
                if has_component {
                    review.note("component", Vec::new());
                }
                review.note("grant", Vec::new());
                review.may =
                    incoming.grant.lines.iter().filter(|line| line.may).map(|line| line.what.clone()).collect();
                review.grant = Some(incoming.grant.digest.clone());
                self.review_images(&incoming, &mut review).await?;
                Ok(review)
            }
            Err(error @ Error::GrantRefused { .. }) => review.failed("grant", error),
            Err(error) => review.failed("component", error),
        }
    }

    /// Whether each image can be had, and which it is. No part of one is fetched.
    async fn review_images(&self, incoming: &Incoming, review: &mut Review) -> Result<()> {
        let services = &incoming.package.manifest.services;
        if services.is_empty() {
            return Ok(());
        }
        let engine = match &incoming.grant.stands_in {
            Some(part) => part.engine.to_string(),
            None => self.services.roomiest().await?,
        };
        let mut problems = Vec::new();
        for (place, service) in services.iter().enumerate() {
            match self.services.published(&service.image, &engine).await {
                Ok(found) => {
                    review.images.insert(service.name.clone(), found);
                }
                Err(error @ Error::Image { .. }) => {
                    let path = format!("services[{place}].image");
                    problems.push(Problem { path, message: error.to_string(), hint: error.hint() });
                }
                Err(error) => return Err(error),
            }
        }
        review.note("images", problems);
        Ok(())
    }
}

impl Review {
    fn note(&mut self, check: &str, problems: Vec<Problem>) {
        self.checks.push(Check { check: check.to_owned(), passed: problems.is_empty(), problems });
    }

    /// Ends with what is wrong with the addon; with an error where it is the host that could not look.
    fn failed(mut self, check: &str, error: Error) -> Result<Review> {
        if matches!(error.kind(), Kind::Host | Kind::Busy) {
            return Err(error);
        }
        let problems = match error.problems() {
            [] => vec![Problem { path: ".".to_owned(), message: chain(&error), hint: error.hint() }],
            problems => problems.to_vec(),
        };
        self.note(check, problems);
        Ok(self)
    }
}

/// With what has caused it.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

/// What is shown to whoever browses must show itself, and nothing else.
fn name_problems(name: &str, description: &str) -> Vec<Problem> {
    let plain = |text: &str| text.lines().all(is_plain);
    let texts = [("display_name", name, is_plain(name)), ("description", description, plain(description))];
    let bad = texts.into_iter().filter(|(_, _, plain)| !plain);
    let message = "holds control or formatting characters";
    bad.map(|(path, ..)| Problem { path: path.to_owned(), message: message.to_owned(), hint: None }).collect()
}

fn tell(error: &Error, what: &str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
