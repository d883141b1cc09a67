//! What libsanlock_client's headers declare, as far as it is used here.
//!
//! The layouts are those of `sanlock.h`, `sanlock_admin.h` and `sanlock_resource.h`;
//! they are part of that library's ABI, and checked below.

use std::ffi::{c_char, c_int};
use std::mem::{offset_of, size_of};

pub(crate) const NAME_LENGTH: usize = 48;
pub(crate) const PATH_LENGTH: usize = 1024;
pub(crate) const HELPER_LENGTH: usize = 128;

pub(crate) const RESOURCE_SHARED: u32 = 0x4;
pub(crate) const RESTRICT_ALL: u32 = 0x1;
pub(crate) const KILLPATH_PID: u32 = 0x1;
pub(crate) const ACQUIRE_OWNER_NOWAIT: u32 = 0x8;
pub(crate) const INQUIRE_WAIT: u32 = 0x1;

/// `struct sanlk_disk`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Disk {
    pub(crate) path: [u8; PATH_LENGTH],
    pub(crate) offset: u64,
    pub(crate) pad: [u32; 2],
}

/// `struct sanlk_resource`, with one disk behind it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Resource {
    pub(crate) lockspace_name: [u8; NAME_LENGTH],
    pub(crate) name: [u8; NAME_LENGTH],
    pub(crate) lver: u64,
    pub(crate) data64: u64,
    pub(crate) data32: u32,
    pub(crate) unused: u32,
    pub(crate) flags: u32,
    pub(crate) num_disks: u32,
    pub(crate) disks: [Disk; 1],
}

/// `struct sanlk_lockspace`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Lockspace {
    pub(crate) name: [u8; NAME_LENGTH],
    pub(crate) host_id: u64,
    pub(crate) flags: u32,
    pub(crate) host_id_disk: Disk,
}

/// `struct sanlk_options`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) owner_name: [u8; NAME_LENGTH],
    pub(crate) flags: u32,
    pub(crate) len: u32,
}

/// `struct sanlk_host`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Host {
    pub(crate) host_id: u64,
    pub(crate) generation: u64,
    pub(crate) timestamp: u64,
    pub(crate) io_timeout: u32,
    pub(crate) flags: u32,
}

const _: () = {
    assert!(size_of::<Disk>() == 1040 && offset_of!(Disk, offset) == 1024);
    assert!(size_of::<Resource>() == 128 + 1040 && offset_of!(Resource, name) == 48);
    assert!(offset_of!(Resource, lver) == 96 && offset_of!(Resource, data64) == 104);
    assert!(offset_of!(Resource, data32) == 112 && offset_of!(Resource, flags) == 120);
    assert!(offset_of!(Resource, num_disks) == 124 && offset_of!(Resource, disks) == 128);
    assert!(size_of::<Lockspace>() == 1104 && offset_of!(Lockspace, host_id) == 48);
    assert!(offset_of!(Lockspace, flags) == 56 && offset_of!(Lockspace, host_id_disk) == 64);
    // Its last member is an empty array.
    assert!(size_of::<Options>() == 56 && offset_of!(Options, flags) == 48);
    assert!(offset_of!(Options, len) == 52);
    assert!(size_of::<Host>() == 32 && offset_of!(Host, io_timeout) == 24);
};

pub(crate) type Register = unsafe extern "C" fn() -> c_int;
pub(crate) type Restrict = unsafe extern "C" fn(c_int, u32) -> c_int;
pub(crate) type Killpath = unsafe extern "C" fn(c_int, u32, *const c_char, *mut c_char) -> c_int;
pub(crate) type Acquire =
    unsafe extern "C" fn(c_int, c_int, u32, c_int, *mut *mut Resource, *mut Options) -> c_int;
pub(crate) type Release = unsafe extern "C" fn(c_int, c_int, u32, c_int, *mut *mut Resource) -> c_int;
pub(crate) type Inquire = unsafe extern "C" fn(c_int, c_int, u32, *mut c_int, *mut *mut c_char) -> c_int;
pub(crate) type AddLockspace = unsafe extern "C" fn(*mut Lockspace, u32) -> c_int;
pub(crate) type AddLockspaceTimeout = unsafe extern "C" fn(*mut Lockspace, u32, u32) -> c_int;
pub(crate) type GetLockspaces = unsafe extern "C" fn(*mut *mut Lockspace, *mut c_int, u32) -> c_int;
pub(crate) type Init = unsafe extern "C" fn(*mut Lockspace, *mut Resource, c_int, c_int) -> c_int;
pub(crate) type WriteLockspace = unsafe extern "C" fn(*mut Lockspace, c_int, u32, u32) -> c_int;
pub(crate) type Align = unsafe extern "C" fn(*mut Disk) -> c_int;
pub(crate) type ReadOwners = unsafe extern "C" fn(*mut Resource, u32, *mut *mut Host, *mut c_int) -> c_int;
pub(crate) type Version = unsafe extern "C" fn(u32, *mut u32, *mut u32) -> c_int;
