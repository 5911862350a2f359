//! The way back: restore and undo plan, `apply` carries it out.

mod apart;
pub(crate) mod apply;
pub mod restore;
mod site;
pub mod sync;
pub mod undo;
pub mod unseal;
