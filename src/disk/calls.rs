//! System calls of another process, seen before they happen (Linux).
//!
//! A command installs a seccomp filter on itself before it becomes the command. From then on the
//! kernel stops each call that may destroy something, in it and in everything it starts, until the
//! holder of the listener has answered: seccomp_unotify(2). No privileges are needed. The holder
//! only looks: it never performs a call for somebody else, so the path may change between its look
//! and the call. That is safe from accidents, not from attacks.

mod abi;
mod caller;
mod kernel;
mod mounts;

pub use abi::{Call, Follow, Place, call_of};
pub use caller::{Caller, Spot};
pub use kernel::{Listener, Next, Notification, Waiting, detach, watch};
