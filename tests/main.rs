//! Tests of the whole: the real binary and library, real components, real files.

#[cfg(test)]
mod author;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod capacity;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod kill_points;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod loopback;
#[cfg(test)]
mod model;
#[cfg(test)]
mod mutual_tls;
#[cfg(test)]
mod probe_suite;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod server;
#[cfg(test)]
mod services;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod wat_suite;
