//! Keeps files in staging areas: by a second name, a clone or a copy.

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::AsFd as _;

use rustix::fs::{Mode, OFlags};

use super::journal::{Held, Line, Set};
use super::keep::Keeper;
use super::pending::Kept;
use super::session::Session;
use crate::base::id::Id;
use crate::base::path::RawName;
use crate::disk::calls::Spot;
use crate::disk::fsutil::area::{Area, Source};
use crate::disk::fsutil::{self, c_path};
use crate::model::manifest::{Stat, Time};
use crate::model::reason::Reason;
use crate::protect::staging::area_for;

impl Keeper<'_> {
    /// Returns the number of the set for a file system.
    pub(super) fn set_on(&mut self, spot: &Spot, device: u64) -> io::Result<usize> {
        if let Some(found) = self
            .op
            .sets
            .iter()
            .position(|kept| kept.set.device == device)
        {
            return Ok(found);
        }
        if self.no_area.contains(&device) {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        self.ensure_started()?;
        let id = self.repo.vault().own_name(Id::new(self.now));
        let Some((dir, area)) = area_for(self.repo, &spot.path, device, id) else {
            self.no_area.insert(device);
            return Err(io::ErrorKind::CrossesDevices.into());
        };
        // All areas there: a session has many, one after the other.
        let place = dir.parent().unwrap_or(&dir);
        if !self.own.iter().any(|own| place.starts_with(own)) {
            self.own.push(place.to_path_buf());
        }
        let set = Set {
            id,
            dir: RawName(dir.into_os_string()),
            device,
        };
        self.op.hold(area.lock()?);
        self.op.put(&Line::Set(set.clone()))?;
        self.op.sets.push(Kept {
            set,
            area,
            files: Vec::new(),
            copies: Vec::new(),
            durable: 0,
        });
        Ok(self.op.sets.len() - 1)
    }

    /// Books a file that is in a set now.
    pub(super) fn booked(&mut self, set: usize, size: u64, time: Time) -> io::Result<Held> {
        self.op.put(&Line::File(set, size, time))?;
        self.budget.kept = self.budget.kept.saturating_sub(size);
        let kept = &mut self.op.sets[set];
        kept.files.push((size, time));
        let number = u32::try_from(kept.files.len() - 1);
        Ok(Held::Kept(set, number.map_err(io::Error::other)?))
    }

    /// Keeps a file by a second name; where that is impossible, by a copy.
    pub(super) fn link(&mut self, spot: &Spot, stat: &Stat) -> io::Result<Held> {
        if stat.size > self.budget.kept {
            return Ok(Held::Lost(Reason::OverBudget.words().to_owned()));
        }
        let Ok(set) = self.set_on(spot, stat.device) else {
            return self.copy(spot, stat);
        };
        let kept = &mut self.op.sets[set];
        let number = u32::try_from(kept.files.len()).map_err(io::Error::other)?;
        let source = Source {
            dir: Some(spot.dir.as_fd()),
            path: &spot.name,
        };
        if kept.area.link(&source, number).is_err() {
            // Of somebody else's file, or on another mount of the same file system.
            return self.copy(spot, stat);
        }
        let dir = kept.set.dir.as_path().to_path_buf();
        self.linked.insert((stat.device, stat.inode), (dir, number));
        self.booked(set, stat.size, stat.mtime)
    }

    /// Keeps a file by a clone or a copy.
    pub(super) fn copy(&mut self, spot: &Spot, stat: &Stat) -> io::Result<Held> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = c_path(&spot.name)?;
        let file = File::from(rustix::fs::openat(&spot.dir, name, flags, Mode::empty())?);
        let set = match self.set_on(spot, stat.device) {
            Ok(set) => set,
            Err(_) => self.set_beside_repository()?,
        };
        match self.copy_into(set, &file, stat) {
            // Where a disk is full, that of the repository may have room.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let beside = self.set_beside_repository()?;
                if beside == set {
                    return Err(error);
                }
                self.copy_into(beside, &file, stat)
            }
            held => held,
        }
    }

    fn copy_into(&mut self, set: usize, file: &File, stat: &Stat) -> io::Result<Held> {
        let number = u32::try_from(self.op.sets[set].files.len()).map_err(io::Error::other)?;
        let kept = &mut self.op.sets[set];
        if kept.area.clone_file(file, number).is_err() {
            if stat.size > self.budget.copied {
                return Ok(Held::Lost(Reason::OverBudget.words().to_owned()));
            }
            // It may have been read from before.
            (&*file).rewind()?;
            kept.area.copy_file(file, number)?;
            self.budget.copied -= stat.size;
        }
        let kept = &mut self.op.sets[set];
        kept.copies.push(number);
        let (size, time) = kept.area.look(number)?;
        self.booked(set, size, time)
    }

    /// Returns the set for what comes from file systems without a place of their own.
    pub(super) fn set_beside_repository(&mut self) -> io::Result<usize> {
        let place = self.repo.areas().into_iter().next();
        let place = place.ok_or(io::ErrorKind::NotFound)?;
        let above = place.ancestors().find(|dir| dir.is_dir());
        let device = above
            .and_then(fsutil::device_of)
            .ok_or(io::ErrorKind::NotFound)?;
        let spot = Spot::new(
            rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?,
            Vec::new(),
            place,
        );
        self.set_on(&spot, device)
    }

    /// A file that is kept by a link is about to be written to: from now on a copy keeps it.
    pub(super) fn unlink_kept(&mut self, spot: &Spot, stat: &Stat) -> io::Result<()> {
        let Some((dir, number)) = self.linked.remove(&(stat.device, stat.inode)) else {
            return Ok(());
        };
        let name = c_path(&spot.name)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&spot.dir, name, flags, Mode::empty())?);
        let all =
            std::iter::once(&mut self.op).chain(self.session.iter_mut().flat_map(Session::parked));
        for op in all {
            if let Some(kept) = op
                .sets
                .iter_mut()
                .find(|kept| kept.set.dir.as_path() == dir)
            {
                kept.area.replace_by_copy(&file, number)?;
                kept.copies.push(number);
                return Ok(());
            }
        }
        // Of an operation that is recorded; once it is packed, there is no area any more.
        match Area::left_at(&dir).replace_by_copy(&file, number) {
            Err(error) if dir.exists() => Err(error),
            _ => Ok(()),
        }
    }
}
