//! Products of bfloat16 on AMX: tiles of 16 x 16 sums in registers of their own, two by two of them.
//!
//! Rows lie one behind the other here, [`HEIGHT`] to a panel, each padded with zeros to whole [`STEP`]s; weights, keys and
//! values lie as for every other instruction set. Sums of even and of odd places of a step are added apart, so the bits are
//! not those of `vdpbf16ps`, but those of a row depend on nothing but that row.

/// Rows of a panel.
pub(crate) const HEIGHT: usize = 16;

/// Panels that one run of tiles takes, and their rows.
pub(crate) const PANELS: usize = 2;
pub(crate) const ROWS: usize = PANELS * HEIGHT;

/// Words of the summed dimension that one instruction takes.
pub(crate) const STEP: usize = 16;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) use here::{Tiles, is_permitted};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) use elsewhere::{Tiles, is_permitted};

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod elsewhere {
    pub(crate) fn is_permitted() -> bool {
        false
    }

    /// Nobody makes one.
    pub(crate) enum Tiles<const WIDTH: usize, const ROW: usize> {}

    impl<const WIDTH: usize, const ROW: usize> Tiles<WIDTH, ROW> {
        pub(crate) unsafe fn configure() -> Self {
            unreachable!("it is not permitted here")
        }

        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn product(
            &self,
            _: usize,
            _: [*const u32; super::PANELS],
            _: usize,
            _: [*const u32; 2],
            _: *mut f32,
            _: usize,
            _: bool,
        ) {
            match *self {}
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod here {
    use std::{
        arch::{asm, x86_64::__cpuid_count},
        marker::PhantomData,
        ptr,
        sync::LazyLock,
    };

    use super::{HEIGHT, PANELS, STEP};

    /// Whether the processor has it and the system lets this process use it: asked once, for the answer lasts.
    pub(crate) fn is_permitted() -> bool {
        const TILES: u32 = 1 << 24 | 1 << 22;
        const ARCH_PRCTL: i64 = 158;
        const REQUEST_PERMISSION: u64 = 0x1023;
        const TILE_DATA: u64 = 18;
        static PERMITTED: LazyLock<bool> = LazyLock::new(|| {
            if __cpuid_count(7, 0).edx & TILES != TILES {
                return false;
            }
            let mut answer = ARCH_PRCTL;
            // SAFETY: the call reads and writes no memory of ours.
            unsafe {
                asm!("syscall", inout("rax") answer, in("rdi") REQUEST_PERMISSION, in("rsi") TILE_DATA, out("rcx") _,
                    out("r11") _, options(nostack));
            }
            answer == 0
        });
        *PERMITTED
    }

    /// What `ldtilecfg` reads.
    #[repr(C, align(64))]
    struct Shapes([u8; 64]);

    /// Four tiles of sums, two of rows, two of columns.
    const fn shapes(width: usize) -> Shapes {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = if tile == 4 || tile == 5 { STEP * 4 } else { width * 4 } as u8;
            bytes[48 + tile] = HEIGHT as u8;
            tile += 1;
        }
        Shapes(bytes)
    }

    /// This thread's tiles of `WIDTH` columns, for panels of columns whose words lie `ROW` apart.
    pub(crate) struct Tiles<const WIDTH: usize, const ROW: usize>(PhantomData<*const ()>);

    impl<const WIDTH: usize, const ROW: usize> Tiles<WIDTH, ROW> {
        const SHAPES: Shapes = shapes(WIDTH);

        /// # Safety
        /// AMX is permitted, and this thread has no other tiles while these live.
        pub(crate) unsafe fn configure() -> Self {
            // SAFETY: 64 bytes are read; no tile is in use.
            unsafe { asm!("ldtilecfg [{}]", in(reg) &Self::SHAPES, options(nostack, readonly)) };
            Self(PhantomData)
        }

        /// `c[r][n] (+)= sum_d a[r][d] * b[d][n]` over `depth` words, for the rows of two panels and two times `WIDTH`
        /// columns, which stand beside each other in `c`.
        ///
        /// # Safety
        /// Both panels `a` hold [`HEIGHT`] rows, `width` words apart, of `depth` words rounded up to whole steps, 0
        /// beyond `depth`; both `b` hold `WIDTH` words in each of `depth` rows; `c` holds `2 * WIDTH` numbers in each of
        /// `2 * HEIGHT` rows, `stride` apart.
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn product(
            &self,
            depth: usize,
            a: [*const u32; PANELS],
            width: usize,
            b: [*const u32; 2],
            c: *mut f32,
            stride: usize,
            add: bool,
        ) {
            let (whole, rest) = (depth / STEP, depth % STEP);
            // SAFETY: the caller's promise; what is left of `b` is copied into a step with zeros behind it.
            unsafe {
                if whole > 0 {
                    self.steps(whole, a, width, b, c, stride, add);
                }
                if rest > 0 {
                    let mut last = [[[0; ROW]; STEP]; 2];
                    for (last, b) in last.iter_mut().zip(b) {
                        for (d, last) in last.iter_mut().take(rest).enumerate() {
                            ptr::copy_nonoverlapping(b.add((whole * STEP + d) * ROW), last.as_mut_ptr(), WIDTH);
                        }
                    }
                    let (a, b) = (a.map(|a| a.add(whole * STEP)), last.each_ref().map(|last| last.as_ptr().cast()));
                    self.steps(1, a, width, b, c, stride, add || whole > 0);
                }
            }
        }

        /// # Safety
        /// As [`product`](Self::product), over whole steps.
        #[allow(clippy::too_many_arguments)]
        unsafe fn steps(
            &self,
            steps: usize,
            [first, second]: [*const u32; PANELS],
            width: usize,
            [left, right]: [*const u32; 2],
            c: *mut f32,
            stride: usize,
            add: bool,
        ) {
            // SAFETY: the caller's promise on `a`, `b` and `c`; the tiles have the shapes that were configured.
            unsafe {
                asm!(
                    "test {add:e}, {add:e}",
                    "jz 2f",
                    "tileloadd tmm0, [{upper} + {c_row}]",
                    "tileloadd tmm1, [{upper} + {c_row} + {beside}]",
                    "tileloadd tmm2, [{lower} + {c_row}]",
                    "tileloadd tmm3, [{lower} + {c_row} + {beside}]",
                    "jmp 3f",
                    "2:",
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "3:",
                    "tileloadd tmm4, [{first} + {a_row}]",
                    "tileloadd tmm6, [{left} + {b_row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{right} + {b_row}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{second} + {a_row}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {first}, {a_step}",
                    "add {second}, {a_step}",
                    "add {left}, {b_step}",
                    "add {right}, {b_step}",
                    "dec {steps}",
                    "jnz 3b",
                    "tilestored [{upper} + {c_row}], tmm0",
                    "tilestored [{upper} + {c_row} + {beside}], tmm1",
                    "tilestored [{lower} + {c_row}], tmm2",
                    "tilestored [{lower} + {c_row} + {beside}], tmm3",
                    beside = const WIDTH * 4,
                    a_step = const STEP * 4,
                    b_step = const STEP * ROW * 4,
                    add = in(reg) i32::from(add),
                    first = inout(reg) first => _,
                    second = inout(reg) second => _,
                    a_row = in(reg) width * 4,
                    left = inout(reg) left => _,
                    right = inout(reg) right => _,
                    b_row = in(reg) ROW * 4,
                    upper = in(reg) c,
                    lower = in(reg) c.add(HEIGHT * stride),
                    c_row = in(reg) stride * 4,
                    steps = inout(reg) steps => _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    }

    impl<const WIDTH: usize, const ROW: usize> Drop for Tiles<WIDTH, ROW> {
        fn drop(&mut self) {
            // SAFETY: no tile is in use any more.
            unsafe { asm!("tilerelease", options(nostack, nomem)) };
        }
    }
}
