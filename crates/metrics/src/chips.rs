//! What makers publish of their chips: memory bandwidth and arithmetic, each with its source.
//!
//! A figure stands here only with the place it was published at. A chip that is not in the table,
//! a bin without a published figure and a machine that fits several bins with different figures
//! have none, and nothing is derived for them.

use schemars::JsonSchema;
use serde::Serialize;

/// A figure and where it is published.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Sourced {
    pub value: f64,
    pub source: &'static str,
}

/// A device as a record names it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Device<'a> {
    /// Apple's name of the chip (`Apple M3 Max`), or the GPU as MLX names it (`NVIDIA H200`).
    pub name: &'a str,
    pub gpu_cores: Option<u32>,
    /// Memory of the machine: it decides the bin of some of Apple's chips.
    pub memory_bytes: Option<u64>,
}

/// What is published of one device.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Peaks {
    /// The row of the table: the chip, and its GPU cores where they are known.
    pub row: String,
    /// Of the memory, bytes per second.
    pub bandwidth: Option<Sourced>,
    /// Of matrix products in 16-bit types, operations per second; a multiplication and its
    /// addition are two.
    pub flops_16_bit: Option<Sourced>,
    /// The same in f32.
    pub flops_f32: Option<Sourced>,
    /// What the f32 figure is one of, where that is not plain.
    pub f32_note: Option<&'static str>,
}

impl Peaks {
    /// The arithmetic that matrix products of this type (`f32`, `bf16`, `f16`) can reach.
    pub fn flops(&self, dtype: &str) -> Option<Sourced> {
        match dtype {
            "f32" => self.flops_f32,
            "bf16" | "f16" => self.flops_16_bit,
            _ => None,
        }
    }
}

/// The published figures of a GPU; `None` for one that the table does not have.
pub fn find(device: &Device) -> Option<Peaks> {
    apple(device).or_else(|| nvidia(device.name))
}

/// One of Apple's chips as it is sold: bins differ in GPU cores, and often in bandwidth.
struct Bin {
    chip: &'static str,
    /// `None` stands for every number that no other bin of the chip names.
    gpu_cores: Option<u32>,
    /// GiB of memory that this bin is sold with; empty where the source ties none to it.
    memory: &'static [u64],
    /// GB/s; `None` where no figure is published for this bin.
    bandwidth: Option<f64>,
    source: &'static str,
}

const fn bin(
    chip: &'static str,
    gpu_cores: Option<u32>,
    memory: &'static [u64],
    bandwidth: Option<f64>,
    source: &'static str,
) -> Bin {
    Bin {
        chip,
        gpu_cores,
        memory,
        bandwidth,
        source,
    }
}

const M1: &str = "Apple newsroom, \"Apple unleashes M1\" (2020-11)";
const M1_PRO: &str = "Apple newsroom, \"Introducing M1 Pro and M1 Max\" (2021-10)";
const M1_ULTRA: &str = "Apple newsroom, \"Apple unveils M1 Ultra\" (2022-03)";
const M2: &str = "Apple newsroom, \"Apple unveils M2\" (2022-06)";
const M2_PRO: &str = "Apple newsroom, \"Apple unveils M2 Pro and M2 Max\" (2023-01)";
const M2_ULTRA: &str = "Apple newsroom, \"Apple introduces M2 Ultra\" (2023-06)";
const M3_PRO: &str = "https://support.apple.com/en-us/117736";
const M3_ULTRA: &str = "Apple, Mac Studio (2025), technical specifications";
const M4: &str = "Apple newsroom, \"Apple introduces M4 Pro and M4 Max\" (2024-10)";
const M4_PRO: &str = "https://support.apple.com/en-us/121553";
const M5: &str = "https://support.apple.com/en-us/125405";
const M5_PRO: &str = "https://support.apple.com/en-us/126318";
const M6: &str = "Apple newsroom, M6 and M5 Ultra (2026-08): \"up to\"";

const APPLE: &[Bin] = &[
    bin("Apple M1", Some(8), &[], Some(68.25), M1),
    bin("Apple M1", None, &[], None, ""),
    bin("Apple M1 Pro", None, &[], Some(200.0), M1_PRO),
    bin("Apple M1 Max", None, &[], Some(400.0), M1_PRO),
    bin("Apple M1 Ultra", None, &[], Some(800.0), M1_ULTRA),
    bin("Apple M2", None, &[], Some(100.0), M2),
    bin("Apple M2 Pro", None, &[], Some(200.0), M2_PRO),
    bin("Apple M2 Max", None, &[], Some(400.0), M2_PRO),
    bin("Apple M2 Ultra", None, &[], Some(800.0), M2_ULTRA),
    bin("Apple M3", None, &[], None, ""),
    bin("Apple M3 Pro", None, &[], Some(150.0), M3_PRO),
    bin("Apple M3 Max", Some(30), &[36, 96], Some(300.0), M3_PRO),
    bin(
        "Apple M3 Max",
        Some(40),
        &[48, 64, 128],
        Some(400.0),
        M3_PRO,
    ),
    bin("Apple M3 Ultra", Some(60), &[], Some(819.0), M3_ULTRA),
    bin("Apple M3 Ultra", Some(80), &[], Some(819.0), M3_ULTRA),
    bin("Apple M4", None, &[], Some(120.0), M4),
    bin("Apple M4 Pro", None, &[], Some(273.0), M4_PRO),
    bin("Apple M4 Max", Some(32), &[36], Some(410.0), M4_PRO),
    bin(
        "Apple M4 Max",
        Some(40),
        &[48, 64, 128],
        Some(546.0),
        M4_PRO,
    ),
    bin("Apple M5", Some(10), &[], Some(153.0), M5),
    bin("Apple M5", None, &[], None, ""),
    bin("Apple M5 Pro", None, &[], Some(307.0), M5_PRO),
    bin("Apple M5 Max", Some(32), &[36], Some(460.0), M5_PRO),
    bin(
        "Apple M5 Max",
        Some(40),
        &[48, 64, 128],
        Some(614.0),
        M5_PRO,
    ),
    bin("Apple M6", Some(12), &[], Some(170.0), M6),
    bin("Apple M6", None, &[], None, ""),
];

/// Every Apple GPU core to date does this many f32 multiplications with their additions in a
/// cycle (philipturner/metal-benchmarks).
const FMA_PER_CORE: f64 = 128.0;

/// Highest GPU clock in MHz. Apple publishes none; these were read from the machines. The chips
/// left out have no such source, and no arithmetic peak.
const CLOCKS: &[(&str, f64, &str)] = &[
    ("Apple M1", 1278.0, APPLEGPUINFO),
    ("Apple M1 Pro", 1296.0, APPLEGPUINFO),
    ("Apple M1 Max", 1296.0, APPLEGPUINFO),
    ("Apple M1 Ultra", 1296.0, APPLEGPUINFO),
    ("Apple M2", 1398.0, APPLEGPUINFO),
    ("Apple M2 Pro", 1398.0, APPLEGPUINFO),
    ("Apple M2 Max", 1398.0, APPLEGPUINFO),
    ("Apple M2 Ultra", 1398.0, APPLEGPUINFO),
    (
        "Apple M3",
        1338.0,
        "GPU cores x 128 x 2 x 1338 MHz: philipturner/applegpuinfo#15",
    ),
    (
        "Apple M3 Pro",
        1380.0,
        "GPU cores x 128 x 2 x 1380 MHz: philipturner/applegpuinfo#4",
    ),
    (
        "Apple M3 Max",
        1380.0,
        "GPU cores x 128 x 2 x 1380 MHz: philipturner/applegpuinfo#4",
    ),
    (
        "Apple M4 Pro",
        1578.0,
        "GPU cores x 128 x 2 x 1578 MHz: The Eclectic Light Company",
    ),
];

const APPLEGPUINFO: &str =
    "GPU cores x 128 x 2 x the clock in the source of philipturner/applegpuinfo";

fn apple(device: &Device) -> Option<Peaks> {
    let of_chip = |bin: &&Bin| bin.chip == device.name;
    let named = |cores| {
        APPLE
            .iter()
            .filter(of_chip)
            .any(|bin| bin.gpu_cores == Some(cores))
    };
    let fits = |bin: &&Bin| {
        let cores = match (device.gpu_cores, bin.gpu_cores) {
            (Some(has), Some(of_bin)) => has == of_bin,
            (Some(has), None) => !named(has),
            (None, _) => true,
        };
        // Memory is sold in whole GiB.
        let memory = device.memory_bytes.is_none_or(|bytes| {
            bin.memory.is_empty() || bin.memory.iter().any(|gib| bytes == gib << 30)
        });
        cores && memory
    };
    let bins: Vec<&Bin> = APPLE.iter().filter(of_chip).filter(fits).collect();
    let first = bins.first()?;
    let bandwidth = first
        .bandwidth
        .filter(|_| bins.iter().all(|bin| bin.bandwidth == first.bandwidth));
    let only = bins.len() == 1;
    let cores = device.gpu_cores.or(first.gpu_cores.filter(|_| only));
    let clock = CLOCKS.iter().find(|(chip, ..)| *chip == first.chip);
    let flops = clock.zip(cores).map(|(&(_, mhz, source), cores)| Sourced {
        value: f64::from(cores) * FMA_PER_CORE * 2.0 * mhz * 1e6,
        source,
    });
    Some(Peaks {
        row: match cores {
            Some(cores) => format!("{}, {cores} GPU cores", first.chip),
            None => first.chip.to_owned(),
        },
        bandwidth: bandwidth.map(|gb_s| Sourced {
            value: gb_s * 1e9,
            source: first.source,
        }),
        // The chips with a clock above have no matrix unit: every type runs on the same lanes, one
        // multiplication and addition a cycle.
        flops_16_bit: flops,
        flops_f32: flops,
        f32_note: None,
    })
}

/// By the device's name as CUDA gives it. A partition of a GPU has another name.
struct Nvidia {
    name: &'static str,
    /// GB/s.
    bandwidth: f64,
    /// Dense, TFLOP/s.
    tf32: f64,
    bf16: f64,
    source: &'static str,
}

const A100: &str = "NVIDIA A100 Tensor Core GPU, data sheet";
const H100: &str =
    "NVIDIA H100 Tensor Core GPU, data sheet (SXM; without sparsity, half of what it lists)";
const H200: &str =
    "NVIDIA H200 Tensor Core GPU, data sheet (SXM; without sparsity, half of what it lists)";

const NVIDIA: &[Nvidia] = &[
    Nvidia {
        name: "NVIDIA A100-SXM4-40GB",
        bandwidth: 1555.0,
        tf32: 156.0,
        bf16: 312.0,
        source: A100,
    },
    Nvidia {
        name: "NVIDIA A100-SXM4-80GB",
        bandwidth: 2039.0,
        tf32: 156.0,
        bf16: 312.0,
        source: A100,
    },
    Nvidia {
        name: "NVIDIA H100 80GB HBM3",
        bandwidth: 3350.0,
        tf32: 494.5,
        bf16: 989.5,
        source: H100,
    },
    Nvidia {
        name: "NVIDIA H200",
        bandwidth: 4800.0,
        tf32: 494.5,
        bf16: 989.5,
        source: H200,
    },
];

fn nvidia(name: &str) -> Option<Peaks> {
    let chip = NVIDIA.iter().find(|chip| chip.name == name)?;
    let sourced = |value| {
        Some(Sourced {
            value,
            source: chip.source,
        })
    };
    Some(Peaks {
        row: chip.name.to_owned(),
        bandwidth: sourced(chip.bandwidth * 1e9),
        flops_16_bit: sourced(chip.bf16 * 1e12),
        flops_f32: sourced(chip.tf32 * 1e12),
        f32_note: Some("TF32, in which MLX multiplies f32 on CUDA by default"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bandwidth in GB/s and f32 arithmetic in GFLOP/s, rounded.
    fn check(
        name: &str,
        gpu_cores: Option<u32>,
        gib: Option<u64>,
        expected: Option<(Option<f64>, Option<f64>)>,
    ) {
        let found = find(&Device {
            name,
            gpu_cores,
            memory_bytes: gib.map(|gib| gib << 30),
        });
        let actual = found.map(|peaks| {
            let of = |figure: Option<Sourced>, scale: f64| {
                figure.map(|figure| {
                    assert!(!figure.source.is_empty());
                    (figure.value / scale).round()
                })
            };
            (of(peaks.bandwidth, 1e9), of(peaks.flops_f32, 1e9))
        });
        assert_eq!(actual, expected, "{name} {gpu_cores:?} {gib:?}");
    }

    #[test]
    fn memory_or_cores_decide_the_bin() {
        let small = Some((Some(300.0), Some(10_598.0)));
        let large = Some((Some(400.0), Some(14_131.0)));
        check("Apple M3 Max", None, Some(36), small);
        check("Apple M3 Max", Some(30), None, small);
        check("Apple M3 Max", Some(30), Some(96), small);
        check("Apple M3 Max", Some(40), Some(64), large);
        check("Apple M3 Max", None, Some(128), large);
    }

    #[test]
    fn a_machine_that_fits_several_bins_has_only_what_they_share() {
        check("Apple M3 Max", None, None, Some((None, None)));
        check("Apple M3 Ultra", None, Some(96), Some((Some(819.0), None)));
        check("Apple M2 Max", None, Some(64), Some((Some(400.0), None)));
        check("Apple M1", None, Some(16), Some((None, None)));
    }

    #[test]
    fn a_bin_without_a_source_has_no_figure() {
        check("Apple M1", Some(8), None, Some((Some(68.0), Some(2617.0))));
        check("Apple M1", Some(7), None, Some((None, Some(2290.0))));
        check("Apple M5", Some(10), None, Some((Some(153.0), None)));
        check("Apple M5", Some(8), None, Some((None, None)));
        check("Apple M4", Some(10), None, Some((Some(120.0), None)));
        check("Apple M6", Some(12), None, Some((Some(170.0), None)));
        check("Apple M6", None, None, Some((None, None)));
    }

    #[test]
    fn an_unknown_chip_has_no_row() {
        check("Apple M5 Ultra", Some(80), None, None);
        check("Apple M1 (Virtual)", None, Some(7), None);
        check("NVIDIA H200 MIG 1g.18gb", None, None, None);
        check("NVIDIA H200 NVL", None, None, None);
        check("", None, None, None);
        // Forty cores are not sold with 36 GiB.
        check("Apple M3 Max", Some(40), Some(36), None);
    }

    #[test]
    fn the_type_decides_which_arithmetic_counts() {
        check(
            "NVIDIA H200",
            None,
            Some(126),
            Some((Some(4800.0), Some(494_500.0))),
        );
        let peaks = find(&Device {
            name: "NVIDIA A100-SXM4-80GB",
            ..Device::default()
        })
        .unwrap();
        let tera = |dtype| peaks.flops(dtype).map(|figure| figure.value / 1e12);
        let of = ["f32", "bf16", "f16", "int8"].map(tera);
        assert_eq!(of, [Some(156.0), Some(312.0), Some(312.0), None]);
    }

    #[test]
    fn every_figure_of_the_table_has_a_source() {
        for bin in APPLE {
            assert_eq!(
                bin.bandwidth.is_some(),
                !bin.source.is_empty(),
                "{}",
                bin.chip
            );
            assert!(bin.chip.starts_with("Apple M"));
        }
        assert!(NVIDIA.iter().all(|chip| !chip.source.is_empty()));
        for (chip, ..) in CLOCKS {
            assert!(APPLE.iter().any(|bin| bin.chip == *chip), "{chip}");
        }
    }
}
