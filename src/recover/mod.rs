//! The way back: restore and undo plan, `apply` carries out.

mod apart;
pub(crate) mod apply;
pub mod restore;
mod site;
pub mod undo;
pub mod unseal;
