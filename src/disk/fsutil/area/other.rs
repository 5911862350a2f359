//! Systems without directory handles stage nothing: files are read instead.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

pub struct Source<'a>(pub PhantomData<&'a ()>);

pub(super) struct Dir;

impl Dir {
    pub(super) fn open(_path: &Path) -> io::Result<Self> {
        Ok(Self)
    }

    pub(super) fn link(&self, _source: &Source<'_>, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn clone_file(&self, _file: &File, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[derive(Debug)]
pub(super) struct Held;

impl Held {
    pub(super) fn open(_dir: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::NotFound.into())
    }

    pub(super) fn place(
        self,
    ) -> Option<(crate::disk::fsutil::Dir, crate::disk::fsutil::dir::Identity)> {
        None
    }

    pub(super) fn read(&self, _name: &str) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&self, _shard: &str, _name: &str) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }
}
