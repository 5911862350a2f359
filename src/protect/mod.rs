//! Before something is destroyed: finding what changed, capturing it, running a command.

pub mod backup;
pub(crate) mod capture;
pub mod guard;
pub mod staging;
pub mod walk;
pub(crate) mod work;
