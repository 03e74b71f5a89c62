//! Tests of the whole: the real binary and library, real components, real files.

#[cfg(test)]
mod author;
mod probe_suite;
mod support;
mod wat_suite;
