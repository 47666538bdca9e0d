//! Kernels on the CPU, for tests: compiled by the host's C++ compiler, each thread of a block a fiber of its own. What they
//! compute, where they read and write, and whether they wait for their copies is what runs on a GPU; only their speed and
//! their races are not.

use std::alloc::{Layout, alloc_zeroed};
use std::ffi::{CString, c_char, c_int, c_void};
use std::process::Command;

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// What every emulation begins with.
pub(crate) const FIBERS: &str = include_str!("fibers.cpp");

/// Zeroed memory in lines of 256 bytes, as a device has it; it is never freed.
pub(super) fn allocate(bytes: usize) -> u64 {
    let layout = Layout::from_size_align(bytes, 256).unwrap();
    // SAFETY: not of size 0.
    unsafe { alloc_zeroed(layout) as u64 }
}

/// The function `name` of a library of C++ with `defines` such as `TILES=2`; its file is removed at once, and the library
/// stays in memory. `None`, aloud, where there is no compiler, or on machines whose fibers `fibers.cpp` does not know.
///
/// # Panics
/// When it does not compile.
pub(crate) fn compile(source: &str, defines: &[String], name: &str) -> Option<*mut c_void> {
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        eprintln!("SKIPPED: kernels are emulated on x86-64 with Linux alone");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, library) = (folder.path().join("emulated.cpp"), folder.path().join("emulated.so"));
    std::fs::write(&file, source).unwrap();
    let compiler = Command::new("c++")
        .args(["-O2", "-std=c++17", "-shared", "-fPIC", "-w"])
        .args(defines.iter().map(|define| format!("-D{define}")))
        .arg("-o")
        .args([&library, &file])
        .output();
    let Ok(output) = compiler else {
        eprintln!("SKIPPED: there is no C++ compiler called c++");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (path, name) = (CString::new(library.to_str().unwrap()).unwrap(), CString::new(name).unwrap());
    // SAFETY: a library without constructors that do anything; it is never unloaded.
    unsafe {
        let library = dlopen(path.as_ptr(), 2);
        assert!(!library.is_null(), "the emulator cannot be loaded");
        let function = dlsym(library, name.as_ptr());
        assert!(!function.is_null(), "the emulator lacks its function");
        Some(function)
    }
}
