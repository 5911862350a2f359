//! Before something is destroyed: finding changes, capturing them, running a command.

pub mod backup;
#[cfg(target_os = "linux")]
pub mod calls;
pub(crate) mod capture;
pub(crate) mod compare;
pub mod guard;
pub(crate) mod options;
pub mod staging;
pub(crate) mod survey;
pub mod walk;
pub(crate) mod work;

pub use compare::is_stamped;
