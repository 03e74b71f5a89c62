//! What the server has counted, and what the host is like just now, as Prometheus takes it: text, format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use lodger::CallRow;

use crate::body::plain;
use crate::document::{Routes, told};
use crate::gate::Caller;
use crate::problem::Problem;
use crate::shared::App;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Upper bounds of the buckets of a call's time, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0];

pub fn routes() -> Routes {
    let told = told("metrics", "What was counted, and how things are, for Prometheus").answers_plain("text/plain");
    Routes::new("server").get("/metrics", page, told)
}

/// What is counted as it happens. Its labels are names of addons, hooks and routes, of which there are few.
pub struct Metrics {
    begun: SystemTime,
    calls: Mutex<BTreeMap<[String; 3], u64>>,
    seconds: Mutex<BTreeMap<[String; 2], Histogram>>,
    /// By route.
    requests: Mutex<BTreeMap<String, Answers>>,
}

/// By method and status.
type Answers = BTreeMap<(&'static str, u16), u64>;

impl Default for Metrics {
    fn default() -> Self {
        let (calls, seconds, requests) = (Mutex::default(), Mutex::default(), Mutex::default());
        Metrics { begun: SystemTime::now(), calls, seconds, requests }
    }
}

#[derive(Clone, Default)]
struct Histogram {
    /// One for each bucket, not cumulated.
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counts are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    pub fn call(&self, call: &CallRow) {
        let outcome = call.outcome.clone().unwrap_or_default();
        *lock(&self.calls).entry([call.addon.clone(), call.hook.clone(), outcome]).or_default() += 1;
        let wall = call.report.as_ref().map_or(0, |report| report.wall_us);
        let seconds = Duration::from_micros(wall).as_secs_f64();
        let mut histograms = lock(&self.seconds);
        let histogram = histograms.entry([call.addon.clone(), call.hook.clone()]).or_default();
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = bucket.and_then(|bucket| histogram.counts.get_mut(bucket)) {
            *count += 1;
        }
        histogram.count += 1;
        histogram.sum += seconds;
    }

    /// `route` is empty where there is none.
    pub fn request(&self, method: &Method, route: &str, status: u16) {
        // Others are the client's to invent.
        let known = ["GET", "HEAD", "POST", "PUT", "DELETE"].into_iter().find(|known| method == known);
        let of = (known.unwrap_or("other"), status);
        let mut requests = lock(&self.requests);
        match requests.get_mut(route) {
            Some(counts) => *counts.entry(of).or_default() += 1,
            None => drop(requests.insert(route.to_owned(), BTreeMap::from([(of, 1)]))),
        }
    }

    fn write(&self, page: &mut Page) {
        let begun = self.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        page.of("process_start_time_seconds", "gauge", "When the server was started, in seconds since 1970.");
        page.line("process_start_time_seconds", &[], begun.as_secs_f64());
        page.of("lodger_calls_total", "counter", "Calls of hooks made by this server, by how they ended.");
        for ([addon, hook, outcome], count) in &*lock(&self.calls) {
            page.line("lodger_calls_total", &[("addon", addon), ("hook", hook), ("outcome", outcome)], *count as f64);
        }
        let name = "lodger_call_seconds";
        page.of(name, "histogram", "How long calls took, with what the host did for them.");
        for ([addon, hook], histogram) in &*lock(&self.seconds) {
            let of = [("addon", addon.as_str()), ("hook", hook.as_str())];
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(histogram.counts) {
                below += count;
                let bound = bound.to_string();
                page.line("lodger_call_seconds_bucket", &[of[0], of[1], ("le", &bound)], below as f64);
            }
            page.line("lodger_call_seconds_bucket", &[of[0], of[1], ("le", "+Inf")], histogram.count as f64);
            page.line("lodger_call_seconds_sum", &of, histogram.sum);
            page.line("lodger_call_seconds_count", &of, histogram.count as f64);
        }
        page.of("lodger_http_requests_total", "counter", "Requests answered, by route.");
        for (route, counts) in &*lock(&self.requests) {
            for ((method, status), count) in counts {
                let of = [("method", *method), ("route", route), ("status", &status.to_string())];
                page.line("lodger_http_requests_total", &of, *count as f64);
            }
        }
    }
}

async fn page(State(app): State<App>, caller: Caller) -> Result<Response, Problem> {
    let (engines, services, data) = app
        .look(&caller, async |host| {
            Ok((host.engines_up().await?, host.service_states().await?, host.data_use().await?))
        })
        .await?;
    let mut page = Page::default();
    app.metrics.write(&mut page);
    page.of("lodger_data_bytes", "gauge", "Bytes in an addon's data directory, as last counted.");
    for used in &data {
        page.line("lodger_data_bytes", &[("addon", &used.addon.to_string())], used.bytes as f64);
    }
    page.of("lodger_data_max_bytes", "gauge", "Bytes that an addon's data directory may hold.");
    for used in &data {
        page.line("lodger_data_max_bytes", &[("addon", &used.addon.to_string())], used.max_bytes as f64);
    }
    page.of("lodger_services", "gauge", "Instances of services, by state.");
    for (state, count) in services {
        page.line("lodger_services", &[("state", state)], count as f64);
    }
    page.of("lodger_engine_up", "gauge", "Whether an engine that has services of this home answers.");
    for (engine, up) in engines {
        page.line("lodger_engine_up", &[("engine", &engine)], f64::from(u8::from(up)));
    }
    page.of("lodger_build_info", "gauge", "The version of this server.");
    page.line("lodger_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.process();
    Ok(plain(TEXT, page.0))
}

/// The text, line by line.
#[derive(Default)]
struct Page(String);

impl Page {
    fn of(&mut self, name: &str, kind: &str, help: &str) {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let text = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            // Writing to a string does not fail.
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// What Linux tells of this process, under the names that are usual for it.
    fn process(&mut self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|kb| kb.trim().trim_end_matches(" kB").parse::<f64>().ok());
        if let Some(kb) = resident {
            self.of("process_resident_memory_bytes", "gauge", "Memory in use.");
            self.line("process_resident_memory_bytes", &[], kb * 1024.0);
        }
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:"));
        if let Some(threads) = threads.and_then(|number| number.trim().parse::<f64>().ok()) {
            self.of("process_threads", "gauge", "Threads.");
            self.line("process_threads", &[], threads);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.of("process_open_fds", "gauge", "Open file descriptors.");
            self.line("process_open_fds", &[], open.count() as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_holds_whatever_it_holds_on_one_line() {
        let mut page = Page::default();
        page.line("x", &[("a", "b\\c\"d\ne"), ("f", "}")], 0.5);
        assert_eq!(page.0, "x{a=\"b\\\\c\\\"d\\ne\",f=\"}\"} 0.5\n");
    }

    #[test]
    fn a_bucket_holds_all_that_is_as_quick() {
        let metrics = Metrics::default();
        let report = |wall_us| Some(lodger::Report { wall_us, ..lodger::Report::default() });
        for wall_us in [1000, 1001, 200_000_000] {
            metrics.call(&CallRow {
                id: String::new(),
                addon: "a/b".to_owned(),
                hook: "url".to_owned(),
                key: None,
                actor: String::new(),
                started_at: 0,
                outcome: Some("completed".to_owned()),
                detail: None,
                report: report(wall_us),
                log: None,
            });
        }
        let mut page = Page::default();
        metrics.write(&mut page);
        for (le, count) in [("0.001", 1), ("0.0025", 2), ("120", 2), ("+Inf", 3)] {
            let line = format!("lodger_call_seconds_bucket{{addon=\"a/b\",hook=\"url\",le=\"{le}\"}} {count}\n");
            assert!(page.0.contains(&line), "{line}{}", page.0);
        }
    }
}
