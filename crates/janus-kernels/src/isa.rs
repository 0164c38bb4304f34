//! Which instruction set computes, decided once.

use std::{fmt, str::FromStr, sync::OnceLock};

use crate::amx;

/// An instruction set that this machine has: a value of this type is the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    vectors: Set,
    has_amx: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    Scalar,
    Avx2,
    Avx512,
    Avx512Bf16,
}

const ALL: [(Isa, &str); 5] = [
    (Isa::SCALAR, "scalar"),
    (Isa::of(Set::Avx2), "avx2"),
    (Isa::of(Set::Avx512), "avx512"),
    (Isa::of(Set::Avx512Bf16), "avx512bf16"),
    (Isa { vectors: Set::Avx512Bf16, has_amx: true }, "amx"),
];

impl Isa {
    /// Plain Rust: what every other instruction set is compared with.
    pub const SCALAR: Self = Self::of(Set::Scalar);

    const fn of(vectors: Set) -> Self {
        Self { vectors, has_amx: false }
    }

    /// The best one of this machine, or the one that the environment variable `JANUS_ISA` names (`scalar`, `avx2`,
    /// `avx512`, `avx512bf16`, `amx`).
    ///
    /// # Panics
    /// When `JANUS_ISA` names one that does not exist or that this machine lacks.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| match std::env::var("JANUS_ISA") {
            Ok(name) => name.parse().unwrap_or_else(|error| panic!("JANUS_ISA: {error}")),
            Err(_) => Self::available().pop().expect("plain Rust is always there"),
        })
    }

    /// All of this machine, the best one last.
    pub fn available() -> Vec<Self> {
        ALL.iter().map(|(isa, _)| *isa).filter(|isa| isa.is_present()).collect()
    }

    /// Whether it computes several numbers at once.
    pub fn has_vectors(self) -> bool {
        self.vectors != Set::Scalar
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(isa, _)| *isa == self).map_or("", |(_, name)| name)
    }

    /// What it computes with but for products on AMX.
    pub(crate) fn set(self) -> Set {
        self.vectors
    }

    /// Whether products of bfloat16 go to AMX.
    pub(crate) fn has_amx(self) -> bool {
        self.has_amx
    }

    fn is_present(self) -> bool {
        is_present(self.vectors) && (!self.has_amx || amx::is_permitted())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// An instruction set that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownIsa(String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has: Vec<&str> = Isa::available().into_iter().map(Isa::name).collect();
        write!(f, "no instruction set {:?} here; this machine has {}", self.0, has.join(", "))
    }
}

impl std::error::Error for UnknownIsa {}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        Self::available().into_iter().find(|isa| isa.name() == name).ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

#[cfg(target_arch = "x86_64")]
fn is_present(set: Set) -> bool {
    match set {
        Set::Scalar => true,
        // Every processor with the first has the others.
        Set::Avx2 => {
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
        }
        Set::Avx512 => {
            is_present(Set::Avx2)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
        // Every processor with the one has the other.
        Set::Avx512Bf16 => {
            is_present(Set::Avx512) && is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni")
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_present(set: Set) -> bool {
    set == Set::Scalar
}

/// Defines a function whose body is compiled once for each instruction set, so that the compiler vectorises it with
/// what there is. Loops are written with `for`: a closure handed to an iterator is compiled apart, without it.
/// `vectorized! { pub fn name(a: A) -> R { body } }` becomes `name(isa: Isa, a: A) -> R`.
macro_rules! vectorized {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::isa::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[allow(clippy::too_many_arguments)]
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            #[cfg(target_arch = "x86_64")]
            #[allow(clippy::too_many_arguments)]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }

            match isa.set() {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: the value `isa` exists only where its instruction set does.
                $crate::isa::Set::Avx512 | $crate::isa::Set::Avx512Bf16 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::isa::Set::Avx2 => unsafe { avx2($($arg),*) },
                _ => body($($arg),*),
            }
        }
    };
}
pub(crate) use vectorized;
