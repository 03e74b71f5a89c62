//! Loyal customers pay less: an addon for an embedder's own WIT world, in the same sandbox as any other.

use std::fs;

wit_bindgen::generate!({ path: "wit", world: "pricing" });

use exports::shop::pricing::rules;
use shop::pricing::customers;

struct PriceRules;
export!(PriceRules);

impl rules::Guest for PriceRules {
    fn price(cents: u64, customer: String) -> u64 {
        // The package's own files, read-only: one line for each step, "orders percent".
        let steps = fs::read_to_string("/addon/steps.txt").unwrap_or_default();
        let orders = customers::orders(&customer);
        let percent =
            steps.lines().filter_map(step).filter(|(from, _)| orders >= *from).map(|(_, percent)| percent).max();
        cents - cents * u64::from(percent.unwrap_or(0).min(100)) / 100
    }
}

fn step(line: &str) -> Option<(u32, u32)> {
    let (orders, percent) = line.split_once(' ')?;
    Some((orders.parse().ok()?, percent.parse().ok()?))
}
