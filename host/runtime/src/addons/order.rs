//! The order that several addons are gone through in, and the chain by which each has come into it.

use std::collections::{BTreeMap, BTreeSet};

use crate::addons::Done;
use crate::error::{Error, Result, needing};
use crate::id::AddonId;

/// One of the addons that a verb went through, in their order.
#[derive(Debug)]
pub struct Step {
    pub addon: AddonId,
    pub done: Done<()>,
    /// From the one that needs to the one that is needed. The addon is one end, the one that was asked for the other.
    chain: Vec<AddonId>,
}

impl Step {
    /// Why it had its turn: `a` needs `b` needs `c`. `None` for the addon that was asked for.
    pub fn why(&self) -> Option<String> {
        (self.chain.len() > 1).then(|| needing(&self.chain))
    }
}

/// Where an order leads from the addon that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToNeeded,
    ToNeeding,
}

/// Addons, each after all those it leads to; and which has led to it first.
#[derive(Debug)]
pub(super) struct Order {
    direction: Direction,
    pub addons: Vec<AddonId>,
    from: BTreeMap<AddonId, AddonId>,
}

impl Order {
    /// `next` is asked once for each addon where the path to it leads. What is on a path already is not gone to again.
    pub fn walk(
        direction: Direction,
        asked: &[AddonId],
        next: impl Fn(&[AddonId]) -> Result<Vec<AddonId>>,
    ) -> Result<Order> {
        let mut order = Order { direction, addons: Vec::new(), from: BTreeMap::new() };
        let mut entered = BTreeSet::new();
        for id in asked {
            if !entered.insert(id.clone()) {
                continue;
            }
            let mut path = vec![id.clone()];
            let mut open = vec![next(&path)?.into_iter()];
            while let Some(ways) = open.last_mut() {
                match ways.next() {
                    Some(id) if entered.insert(id.clone()) => {
                        order.from.extend(path.last().map(|from| (id.clone(), from.clone())));
                        path.push(id);
                        open.push(next(&path)?.into_iter());
                    }
                    Some(_) => {}
                    None => {
                        open.pop();
                        order.addons.extend(path.pop());
                    }
                }
            }
        }
        Ok(order)
    }

    /// All but the one that was asked for, where it was one.
    pub fn before_last(&self) -> &[AddonId] {
        self.addons.split_last().map_or(&[], |(_, before)| before)
    }

    pub fn step(&self, addon: &AddonId, done: Result<Done<()>>) -> Result<Step> {
        let done = done.map_err(|error| self.error(addon, error))?;
        Ok(Step { addon: addon.clone(), done, chain: self.chain(addon) })
    }

    pub fn error(&self, addon: &AddonId, error: Error) -> Error {
        match self.chain(addon) {
            chain if chain.len() > 1 => Error::Dependency { chain, source: Box::new(error) },
            _ => error,
        }
    }

    /// Between the addon and the one asked for, the one that needs first.
    fn chain(&self, addon: &AddonId) -> Vec<AddonId> {
        let mut chain = vec![addon.clone()];
        while let Some(from) = chain.last().and_then(|last| self.from.get(last)) {
            chain.push(from.clone());
        }
        if self.direction == Direction::ToNeeded {
            chain.reverse();
        }
        chain
    }
}
