//! Tests of the whole: the real binary and library, real components, real files.

mod author;
