//! Which backend computes, and how exactly, chosen once at run time. No other module knows that there are several.

use std::{fmt, str::FromStr};

use burn::tensor::Device;
use janus_data::{UnknownName, by_name};

#[cfg(feature = "kernels")]
use crate::formats::StoredMatrix;
use crate::{Error, Result};

/// A backend to compute on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// burn's pure-Rust CPU backend, which burn names as the successor of ndarray. Always there.
    #[default]
    Flex,
    /// burn's older CPU backend, kept for cross-checks (feature `ndarray`).
    Ndarray,
    /// A GPU through wgpu (feature `wgpu`).
    Wgpu,
}

impl DeviceChoice {
    /// Every choice, built in or not.
    pub const ALL: [Self; 3] = [Self::Flex, Self::Ndarray, Self::Wgpu];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// When this build lacks the backend, the machine has no adapter for it, or it has no such precision.
    pub fn init(self, precision: Precision) -> Result<Compute> {
        let device = match self {
            Self::Flex => Device::flex(),
            Self::Ndarray => ndarray()?,
            Self::Wgpu => wgpu()?,
        };
        #[cfg(feature = "kernels")]
        if self == Self::Flex {
            let kernels = match precision {
                Precision::F32 => janus_kernels::Precision::F32,
                Precision::Bf16 | Precision::Int8 => janus_kernels::Precision::Bf16,
                Precision::Auto if janus_kernels::Isa::best().has_vectors() => janus_kernels::Precision::Bf16,
                Precision::Auto => janus_kernels::Precision::F32,
            };
            return Ok(Compute { choice: self, device, kernels: Some(kernels), int8: precision == Precision::Int8 });
        }
        if matches!(precision, Precision::Bf16 | Precision::Int8) {
            let reason = "it computes in float32 only; bf16 and int8 need `--device flex` and the feature `kernels`";
            return Err(Error::Device { device: self.name().to_owned(), reason: reason.to_owned() });
        }
        Ok(Compute {
            choice: self,
            device,
            #[cfg(feature = "kernels")]
            kernels: None,
            #[cfg(feature = "kernels")]
            int8: false,
        })
    }

    #[cfg(not(all(feature = "ndarray", feature = "wgpu")))]
    fn not_built(self) -> Error {
        let reason = format!("this build lacks it; build with `--features {}`, or use `--device flex`", self.name());
        Error::Device { device: self.name().to_owned(), reason }
    }
}

/// How exactly products are computed. Sums are float32 always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// bfloat16 where our kernels compute on a processor with AVX2 or more, float32 elsewhere.
    #[default]
    Auto,
    /// float32.
    F32,
    /// bfloat16 weights and inputs of products. Of weights that a file stores in blocks of 4 or 8 bits an answer is written
    /// with the blocks themselves and inputs rounded to 8 bits.
    Bf16,
    /// Weights in blocks of 4 or 8 bits, inputs of products rounded to 8 bits, for prompts too, which are read in groups of 64
    /// numbers with one scale. Training reads the same weights in bfloat16.
    Int8,
}

impl Precision {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Auto, Self::F32, Self::Bf16, Self::Int8];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}

/// Where and how a model computes.
#[derive(Debug, Clone)]
pub struct Compute {
    choice: DeviceChoice,
    device: Device,
    #[cfg(feature = "kernels")]
    kernels: Option<janus_kernels::Precision>,
    #[cfg(feature = "kernels")]
    int8: bool,
}

/// Everything that decides the bits of a result: the device, whether our kernels compute and with what, the precision.
impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(feature = "kernels")]
        let by = if self.is_fused() { janus_kernels::Isa::best().name() } else { "primitives" };
        #[cfg(not(feature = "kernels"))]
        let by = "primitives";
        write!(f, "{}, {by}, {}", self.choice.name(), self.precision())
    }
}

impl Compute {
    /// The device that tensors live on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What products are computed in; never [`Precision::Auto`].
    pub fn precision(&self) -> Precision {
        #[cfg(feature = "kernels")]
        if self.kernels == Some(janus_kernels::Precision::Bf16) {
            return if self.int8 { Precision::Int8 } else { Precision::Bf16 };
        }
        Precision::F32
    }

    /// Whether our kernels compute.
    pub(crate) fn is_fused(&self) -> bool {
        #[cfg(feature = "kernels")]
        return self.kernels.is_some();
        #[cfg(not(feature = "kernels"))]
        false
    }

    /// Runs `work`, in which our kernels, where they compute, have threads of their own that stay awake: for loops that write token
    /// after token, each of which asks for hundreds of small pieces of parallel work, and for steps of training.
    /// [`Session`](crate::Session) does so itself.
    /// Between two pieces these threads wait awake for some milliseconds before they sleep, so `work` is no place for long waits.
    pub fn with_team<R>(&self, work: impl FnOnce() -> R) -> R {
        #[cfg(feature = "kernels")]
        if self.is_fused() {
            return janus_kernels::with_team(work);
        }
        work()
    }

    /// A weight in blocks, where it is held so: in bfloat16 those of the file, in int8 any.
    #[cfg(feature = "kernels")]
    pub(crate) fn blocks(&self, stored: &StoredMatrix, shape: [usize; 2]) -> Result<Option<janus_kernels::Blocks>> {
        match self.precision() {
            Precision::Int8 | Precision::Bf16 => stored.blocks(shape),
            _ => Ok(None),
        }
    }

    /// What our kernels compute in; `None` where burn's primitives compute.
    #[cfg(feature = "kernels")]
    pub(crate) fn kernels(&self) -> Option<janus_kernels::Precision> {
        self.kernels
    }
}

#[cfg(feature = "ndarray")]
fn ndarray() -> Result<Device> {
    #[allow(deprecated, reason = "burn deprecates ndarray in favour of flex; we keep it as a second opinion")]
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn ndarray() -> Result<Device> {
    Err(DeviceChoice::Ndarray.not_built())
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device> {
    use burn::tensor::DeviceKind;

    // `Device::wgpu` is lazy and panics at the first operation where there is no adapter. Initialising says so now; it
    // can be done once a process, so the answer is kept. A software adapter is better than none.
    static DEVICE: std::sync::OnceLock<std::result::Result<Device, String>> = std::sync::OnceLock::new();
    let init = |kind| Device::wgpu_options().device_kind(kind).init();
    DEVICE
        .get_or_init(|| {
            init(DeviceKind::DefaultDevice).or_else(|_| init(DeviceKind::Cpu)).map_err(|error| error.to_string())
        })
        .clone()
        .map_err(|error| Error::Device {
            device: "wgpu".to_owned(),
            reason: format!("no adapter could be opened ({error}); install a GPU driver, or use `--device flex`"),
        })
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Device> {
    Err(DeviceChoice::Wgpu.not_built())
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DeviceChoice {
    type Err = UnknownName;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownName> {
        by_name(name, &Self::ALL, Self::name)
    }
}
