//! Which system calls are stopped, by architecture, and where their arguments are.
//!
//! Numbers are from the kernel's tables (`arch/*/entry/syscalls`, `include/uapi/asm-generic`). A
//! program for another architecture than these gets "not implemented" for every call: what it does
//! could not be seen.

/// Flags of open(2) with which a file may be made or changed: write, read and write, create,
/// truncate. The same on all architectures below.
const MAY_CHANGE: u32 = 0o1 | 0o2 | 0o100 | 0o1000;

/// How an argument names a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The argument with the directory; `None` for the current one.
    pub at: Option<u8>,
    /// The argument with the path.
    pub path: u8,
}

/// Whether a call follows a final symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    Yes,
    No,
    /// Unless this argument contains `AT_SYMLINK_NOFOLLOW`.
    Unless(u8),
}

/// What a call does, and which arguments say to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The flags are in an argument.
    Open {
        place: Place,
        flags: u8,
    },
    /// The flags are in a structure.
    OpenHow {
        place: Place,
        how: u8,
    },
    Create {
        place: Place,
    },
    /// unlink, rmdir.
    Remove {
        place: Place,
    },
    Rename {
        from: Place,
        to: Place,
    },
    Truncate {
        place: Place,
    },
    /// Changes the content of an open file.
    WriteOpen {
        file: u8,
    },
    /// mkdir, mknod, symlink.
    Make {
        place: Place,
    },
    Link {
        from: Place,
        to: Place,
        flags: Option<u8>,
    },
    /// Mode, owner, times, attributes.
    Change {
        place: Place,
        follow: Follow,
    },
    ChangeOpen {
        file: u8,
    },
    /// Something is seen at a directory in place of what is in it.
    Mount {
        on: Place,
    },
    /// Becomes another program; destroys nothing.
    Exec {
        place: Place,
        argv: u8,
    },
}

const fn here(path: u8) -> Place {
    Place { at: None, path }
}

const fn at(at: u8, path: u8) -> Place {
    Place { at: Some(at), path }
}

type Row = (u32, Call);

const fn open(number: u32, place: Place, flags: u8) -> Row {
    (number, Call::Open { place, flags })
}

const fn open_how(number: u32, place: Place, how: u8) -> Row {
    (number, Call::OpenHow { place, how })
}

const fn create(number: u32, place: Place) -> Row {
    (number, Call::Create { place })
}

const fn remove(number: u32, place: Place) -> Row {
    (number, Call::Remove { place })
}

const fn rename(number: u32, from: Place, to: Place) -> Row {
    (number, Call::Rename { from, to })
}

const fn truncate(number: u32, place: Place) -> Row {
    (number, Call::Truncate { place })
}

const fn write_open(number: u32, file: u8) -> Row {
    (number, Call::WriteOpen { file })
}

const fn make(number: u32, place: Place) -> Row {
    (number, Call::Make { place })
}

const fn link(number: u32, from: Place, to: Place, flags: Option<u8>) -> Row {
    (number, Call::Link { from, to, flags })
}

const fn change(number: u32, place: Place, follow: Follow) -> Row {
    (number, Call::Change { place, follow })
}

const fn change_open(number: u32, file: u8) -> Row {
    (number, Call::ChangeOpen { file })
}

const fn mount(number: u32, on: Place) -> Row {
    (number, Call::Mount { on })
}

const fn exec(number: u32, place: Place, argv: u8) -> Row {
    (number, Call::Exec { place, argv })
}

/// One architecture.
struct Abi {
    /// `AUDIT_ARCH_*`.
    arch: u32,
    calls: &'static [Row],
    /// Numbers from here on belong to another calling convention with its own numbers.
    limit: Option<u32>,
}

/// io_uring_setup: operations on files that go through a ring are not stopped. Programs that get
/// "not implemented" use ordinary calls. The same number everywhere.
const RINGS: u32 = 425;

const NEWER: [Row; 5] = [
    mount(429, at(2, 3)),
    open_how(437, at(0, 1), 2),
    change(452, at(0, 1), Follow::Unless(3)),
    change(463, at(0, 1), Follow::Unless(2)),
    change(466, at(0, 1), Follow::Unless(2)),
];

const X86_64: &[Row] = &[
    mount(165, here(1)),
    open(2, here(0), 1),
    open(257, at(0, 1), 2),
    remove(87, here(0)),
    remove(263, at(0, 1)),
    remove(84, here(0)),
    rename(82, here(0), here(1)),
    rename(264, at(0, 1), at(2, 3)),
    rename(316, at(0, 1), at(2, 3)),
    create(85, here(0)),
    truncate(76, here(0)),
    write_open(77, 0),
    write_open(285, 0),
    make(83, here(0)),
    make(258, at(0, 1)),
    make(133, here(0)),
    make(259, at(0, 1)),
    make(88, here(1)),
    make(266, at(1, 2)),
    link(86, here(0), here(1), None),
    link(265, at(0, 1), at(2, 3), Some(4)),
    change(90, here(0), Follow::Yes),
    change(268, at(0, 1), Follow::Yes),
    change_open(91, 0),
    change(92, here(0), Follow::Yes),
    change(94, here(0), Follow::No),
    change(260, at(0, 1), Follow::Unless(4)),
    change_open(93, 0),
    change(132, here(0), Follow::Yes),
    change(235, here(0), Follow::Yes),
    change(261, at(0, 1), Follow::Yes),
    change(280, at(0, 1), Follow::Unless(3)),
    change(188, here(0), Follow::Yes),
    change(189, here(0), Follow::No),
    change_open(190, 0),
    change(197, here(0), Follow::Yes),
    change(198, here(0), Follow::No),
    change_open(199, 0),
    exec(59, here(0), 1),
    exec(322, at(0, 1), 2),
];

const I386: &[Row] = &[
    mount(21, here(1)),
    open(5, here(0), 1),
    open(295, at(0, 1), 2),
    remove(10, here(0)),
    remove(301, at(0, 1)),
    remove(40, here(0)),
    rename(38, here(0), here(1)),
    rename(302, at(0, 1), at(2, 3)),
    rename(353, at(0, 1), at(2, 3)),
    create(8, here(0)),
    truncate(92, here(0)),
    truncate(193, here(0)),
    write_open(93, 0),
    write_open(194, 0),
    write_open(324, 0),
    make(39, here(0)),
    make(296, at(0, 1)),
    make(14, here(0)),
    make(297, at(0, 1)),
    make(83, here(1)),
    make(304, at(1, 2)),
    link(9, here(0), here(1), None),
    link(303, at(0, 1), at(2, 3), Some(4)),
    change(15, here(0), Follow::Yes),
    change(306, at(0, 1), Follow::Yes),
    change_open(94, 0),
    change(182, here(0), Follow::Yes),
    change(212, here(0), Follow::Yes),
    change(16, here(0), Follow::No),
    change(198, here(0), Follow::No),
    change(298, at(0, 1), Follow::Unless(4)),
    change_open(95, 0),
    change_open(207, 0),
    change(30, here(0), Follow::Yes),
    change(271, here(0), Follow::Yes),
    change(299, at(0, 1), Follow::Yes),
    change(320, at(0, 1), Follow::Unless(3)),
    change(412, at(0, 1), Follow::Unless(3)),
    change(226, here(0), Follow::Yes),
    change(227, here(0), Follow::No),
    change_open(228, 0),
    change(235, here(0), Follow::Yes),
    change(236, here(0), Follow::No),
    change_open(237, 0),
    exec(11, here(0), 1),
    exec(358, at(0, 1), 2),
];

const AARCH64: &[Row] = &[
    mount(40, here(1)),
    open(56, at(0, 1), 2),
    remove(35, at(0, 1)),
    rename(38, at(0, 1), at(2, 3)),
    rename(276, at(0, 1), at(2, 3)),
    truncate(45, here(0)),
    write_open(46, 0),
    write_open(47, 0),
    make(34, at(0, 1)),
    make(33, at(0, 1)),
    make(36, at(1, 2)),
    link(37, at(0, 1), at(2, 3), Some(4)),
    change(53, at(0, 1), Follow::Yes),
    change_open(52, 0),
    change(54, at(0, 1), Follow::Unless(4)),
    change_open(55, 0),
    change(88, at(0, 1), Follow::Unless(3)),
    change(5, here(0), Follow::Yes),
    change(6, here(0), Follow::No),
    change_open(7, 0),
    change(14, here(0), Follow::Yes),
    change(15, here(0), Follow::No),
    change_open(16, 0),
    exec(221, here(0), 1),
    exec(281, at(0, 1), 2),
];

/// What the processor of this build can run.
const ABIS: &[Abi] = if cfg!(target_arch = "x86_64") {
    &[
        // x32 has bit 30 set.
        Abi {
            arch: 0xC000_003E,
            calls: X86_64,
            limit: Some(0x4000_0000),
        },
        Abi {
            arch: 0x4000_0003,
            calls: I386,
            limit: None,
        },
    ]
} else if cfg!(target_arch = "aarch64") {
    &[Abi {
        arch: 0xC000_00B7,
        calls: AARCH64,
        limit: None,
    }]
} else {
    &[]
};

/// Returns true if the calls of this processor are known.
pub(super) fn is_known() -> bool {
    !ABIS.is_empty()
}

/// Returns the size of a pointer of a program, in bytes.
pub(super) fn pointer(arch: u32) -> usize {
    // `__AUDIT_ARCH_64BIT`.
    if arch & 0x8000_0000 == 0 { 4 } else { 8 }
}

/// Returns what a stopped call does.
pub fn call_of(arch: u32, number: u32) -> Option<Call> {
    let abi = ABIS.iter().find(|abi| abi.arch == arch)?;
    let mut all = abi.calls.iter().chain(&NEWER);
    all.find(|(known, _)| *known == number)
        .map(|(_, call)| *call)
}

/// One instruction of classic BPF, as the kernel reads it (`struct sock_filter`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
const NOTIFY: u32 = 0x7fc0_0000;
/// Fails with ENOSYS.
const NOT_IMPLEMENTED: u32 = 0x0005_0000 | 38;

/// Offsets in `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;

/// The lower half of an argument: all these processors are little-endian.
const fn argument_at(number: u8) -> u32 {
    16 + 8 * number as u32
}

fn plain(code: u16, value: u32) -> Instruction {
    Instruction {
        code,
        if_true: 0,
        if_false: 0,
        value,
    }
}

/// Skips this many instructions unless the condition holds.
fn unless(code: u16, value: u32, skip: u8) -> Instruction {
    Instruction {
        code,
        if_true: 0,
        if_false: skip,
        value,
    }
}

/// Returns the filter.
pub(super) fn filter() -> Vec<Instruction> {
    let mut all = Vec::new();
    for abi in ABIS {
        let block = block_of(abi);
        all.push(plain(LOAD, ARCH_AT));
        // The block is too long for a conditional jump.
        all.push(Instruction {
            code: IF_EQUAL,
            if_true: 1,
            if_false: 0,
            value: abi.arch,
        });
        all.push(plain(JUMP, block.len() as u32));
        all.extend(block);
    }
    all.push(plain(RETURN, NOT_IMPLEMENTED));
    all
}

fn block_of(abi: &Abi) -> Vec<Instruction> {
    let mut block = vec![plain(LOAD, NUMBER_AT)];
    if let Some(limit) = abi.limit {
        block.push(unless(IF_AT_LEAST, limit, 1));
        block.push(plain(RETURN, NOT_IMPLEMENTED));
    }
    block.push(unless(IF_EQUAL, RINGS, 1));
    block.push(plain(RETURN, NOT_IMPLEMENTED));
    for (number, call) in abi.calls.iter().chain(&NEWER) {
        match call {
            // Most files are opened to be read.
            Call::Open { flags, .. } => {
                block.push(unless(IF_EQUAL, *number, 4));
                block.push(plain(LOAD, argument_at(*flags)));
                block.push(unless(IF_ANY_BIT, MAY_CHANGE, 1));
                block.push(plain(RETURN, NOTIFY));
                block.push(plain(RETURN, ALLOW));
            }
            _ => {
                block.push(unless(IF_EQUAL, *number, 1));
                block.push(plain(RETURN, NOTIFY));
            }
        }
    }
    block.push(plain(RETURN, ALLOW));
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend([0; 8]);
        data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        let filter = filter();
        let (mut at, mut value) = (0, 0);
        loop {
            let one = filter[at];
            at += 1;
            let skip = |holds: bool| usize::from(if holds { one.if_true } else { one.if_false });
            match one.code {
                LOAD => {
                    let from = one.value as usize;
                    value = u32::from_le_bytes(data[from..from + 4].try_into().unwrap());
                }
                JUMP => at += one.value as usize,
                IF_EQUAL => at += skip(value == one.value),
                IF_AT_LEAST => at += skip(value >= one.value),
                IF_ANY_BIT => at += skip(value & one.value != 0),
                RETURN => return one.value,
                other => panic!("{other:x}"),
            }
        }
    }

    #[test]
    fn every_listed_call_is_stopped_and_no_other() {
        for abi in ABIS {
            for number in 0..600 {
                let listed = call_of(abi.arch, number).is_some();
                // All flags of open(2) that change something.
                let found = verdict(abi.arch, number, [0o1101; 6]);
                let wanted = match number {
                    RINGS => NOT_IMPLEMENTED,
                    _ if listed => NOTIFY,
                    _ => ALLOW,
                };
                assert_eq!(found, wanted, "{number} of {:x}", abi.arch);
            }
        }
    }

    #[test]
    fn files_that_are_only_read_are_not_stopped() {
        for abi in ABIS {
            for (number, call) in abi.calls {
                if let Call::Open { .. } = call {
                    // O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW.
                    assert_eq!(verdict(abi.arch, *number, [0o2_600_000; 6]), ALLOW);
                }
            }
        }
    }

    #[test]
    fn other_conventions_have_no_calls() {
        for number in [0x4000_0000 + 87, 87] {
            assert_eq!(verdict(0x1234, number, [0; 6]), NOT_IMPLEMENTED);
        }
        if cfg!(target_arch = "x86_64") {
            assert_eq!(
                verdict(0xC000_003E, 0x4000_0000 + 87, [0; 6]),
                NOT_IMPLEMENTED
            );
        }
    }

    #[test]
    fn no_number_is_listed_twice() {
        for abi in ABIS {
            let mut numbers: Vec<u32> = abi
                .calls
                .iter()
                .chain(&NEWER)
                .map(|(number, _)| *number)
                .collect();
            numbers.sort_unstable();
            let before = numbers.len();
            numbers.dedup();
            assert_eq!(numbers.len(), before);
        }
    }
}
