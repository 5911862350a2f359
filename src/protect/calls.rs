//! Protection by system call (Linux): the before-image of exactly what a command destroys, kept at
//! the moment before it does.
//!
//! The command runs under a filter ([`crate::disk::calls`]). For each call that may destroy
//! something the [`Keeper`] looks at what is there: a file that loses its name gets a second one in
//! a staging area, one that is about to be written to is cloned or copied, of everything else the
//! metadata is enough. The first look at a path counts, because that is the state before the
//! operation. A journal has it all, in case bdr ends before the command does. Afterwards the
//! journal *is* the difference: it becomes a snapshot of what was touched and an operation with its
//! changes, like those of any guard, so that nothing else needs to know how it was protected.

mod after;
mod areas;
mod changes;
mod durable;
mod flight;
mod journal;
mod keep;
mod left;
mod pending;
mod record;
mod roots;
mod run;
mod session;
mod sorted;
mod steps;
mod trial;

pub use after::{LeftOptions, go_on, linger, listener, record_left};
pub use keep::Unkept;
pub use left::{recover, under_way, waiting};
pub use run::{Protected, RunOptions, is_live, run};
pub use session::Tally;
pub use trial::usable;
