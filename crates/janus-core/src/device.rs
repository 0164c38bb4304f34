//! Which backend computes, chosen once at run time. No other module knows that there are several.

use std::{fmt, str::FromStr};

use burn::tensor::Device;
use janus_data::{UnknownName, by_name};

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
    /// When this build lacks the backend, or the machine has no adapter for it.
    pub fn init(self) -> Result<Device> {
        match self {
            Self::Flex => Ok(Device::flex()),
            Self::Ndarray => ndarray(),
            Self::Wgpu => wgpu(),
        }
    }

    #[cfg(not(all(feature = "ndarray", feature = "wgpu")))]
    fn not_built(self) -> Error {
        let reason = format!("this build lacks it; build with `--features {}`, or use `--device flex`", self.name());
        Error::Device { device: self.name().to_owned(), reason }
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
