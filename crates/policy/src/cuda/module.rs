//! Kernels: compiled once for a device, driver and source, then kept on disk.

use std::ffi::CString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cudarc::driver::{CudaFunction, CudaModule, sys as driver};
use cudarc::nvrtc::{Ptx, result, sys};
use sha2::{Digest, Sha256};

use super::Gpu;
use super::gpu::failed;
use crate::PolicyFailure;
use crate::checkpoint::hex;

/// Compiled kernels on a device.
pub(crate) struct Module {
    module: Arc<CudaModule>,
}

impl Module {
    /// Kernels from CUDA C++ with `defines` such as `TILES=2`. `name` appears in errors.
    ///
    /// # Errors
    /// What the compiler says, or that there is none.
    pub fn compile(gpu: &Gpu, name: &str, source: &str, defines: &[String]) -> Result<Self, PolicyFailure> {
        let mut options = vec![
            format!(
                "--gpu-architecture=sm_{}{}",
                gpu.capability,
                if gpu.capability == 90 { "a" } else { "" }
            ),
            "--std=c++17".to_owned(),
        ];
        options.extend(defines.iter().map(|define| format!("--define-macro={define}")));
        let mut version = 0;
        // SAFETY: writes one integer.
        unsafe { driver::cuDriverGetVersion(&raw mut version) }
            .result()
            .map_err(failed("its driver's version"))?;
        let key =
            Sha256::new().chain_update(format!("{}\n{version}\n{options:?}\n{source}", gpu.name)).finalize();
        let path = cache_folder().map(|folder| folder.join(format!("{name}-{}.cubin", hex(&key[..12]))));
        let kept = path.as_deref().and_then(kept);
        let binary = match kept {
            Some(binary) => binary,
            None => {
                let binary = compile(name, source, &options)?;
                if let Some(path) = &path {
                    // A cache that cannot be written costs time at the next start, and nothing else.
                    let _ = keep(path, &binary);
                }
                binary
            }
        };
        let module = gpu.context.load_module(Ptx::from_binary(binary)).map_err(failed("loading kernels"))?;
        Ok(Self { module })
    }

    /// The kernel of this name, allowed `shared_bytes` of shared memory.
    ///
    /// # Errors
    /// When there is none, or the device has less.
    pub fn function(&self, name: &str, shared_bytes: usize) -> Result<CudaFunction, PolicyFailure> {
        let function = self.module.load_function(name).map_err(failed(name))?;
        let attribute = driver::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, shared_bytes as i32).map_err(failed(name))?;
        let attribute =
            driver::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED;
        function.set_attribute(attribute, 1).map_err(failed(name))?;
        Ok(function)
    }
}

/// `$XDG_CACHE_HOME/nudge/kernels`, or under the home folder.
fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("nudge").join("kernels"))
}

/// Kernels that were kept, if they are whole: the file begins with the checksum of the rest.
fn kept(path: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::read(path).ok()?;
    let (sum, binary) = bytes.split_at_checked(32)?;
    (Sha256::digest(binary)[..] == *sum).then(|| binary.to_vec())
}

/// Written beside and moved into place, so that no other process reads half of it.
fn keep(path: &Path, binary: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&Sha256::digest(binary))?;
    file.write_all(binary)?;
    drop(file);
    std::fs::rename(&temporary, path)
}

fn compile(name: &str, source: &str, options: &[String]) -> Result<Vec<u8>, PolicyFailure> {
    // SAFETY: looks for the compiler's library and loads it.
    if !unsafe { sys::is_culib_present() } {
        let problem = "the CUDA compiler library NVRTC was not found, and the kernels are not in the cache yet: install \
                       it (package libnvrtc, or `pip install nvidia-cuda-nvrtc` and its folder in LD_LIBRARY_PATH)";
        return Err(PolicyFailure::Device(problem.into()));
    }
    let failure =
        |problem: String| PolicyFailure::Device(format!("kernels `{name}` do not compile: {problem}"));
    let text = |text: &str| CString::new(text).map_err(|error| failure(error.to_string()));
    let program = result::create_program(&text(source)?, Some(&text(&format!("{name}.cu"))?))
        .map_err(|error| failure(format!("{error:?}")))?;
    // SAFETY: a program that was created above and is destroyed below.
    let compiled = unsafe { result::compile_program(program, options) };
    let binary = match compiled {
        Ok(()) => binary_of(program).map_err(|error| failure(format!("{error:?}"))),
        Err(_) => {
            // SAFETY: the log of the same program, ended by a zero.
            let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
            let log: Vec<u8> =
                log.into_iter().map(|letter| letter as u8).take_while(|byte| *byte != 0).collect();
            Err(failure(String::from_utf8_lossy(&log).into_owned()))
        }
    };
    // SAFETY: not used after this.
    unsafe { result::destroy_program(program) }.map_err(|error| failure(format!("{error:?}")))?;
    binary
}

fn binary_of(program: sys::nvrtcProgram) -> Result<Vec<u8>, result::NvrtcError> {
    let mut size = 0;
    // SAFETY: the first call writes the size that the second one fills.
    unsafe {
        sys::nvrtcGetCUBINSize(program, &raw mut size).result()?;
        let mut binary = vec![0u8; size];
        sys::nvrtcGetCUBIN(program, binary.as_mut_ptr().cast()).result()?;
        Ok(binary)
    }
}
