//! All integration tests in one binary. They need the feature `test-support` (`sh tests/run` switches it on).

mod support;

mod architecture;
mod backup;
mod concurrent;
mod crash;
mod damage;
mod detect;
mod format;
mod guard;
mod property;
