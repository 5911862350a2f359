//! All integration tests in one binary. They need the feature `test-support` (`sh tests/run` switches it on).

mod support;

mod backup;
mod crash;
mod damage;
mod detect;
