//! Makes bdr known to other programs: text in, text out, then one step that applies it.

pub mod hooks;
pub mod schedule;
