//! The oracle's folders, and the measure in which everything is compared.

#![allow(dead_code, reason = "each test program uses a part of this")]
#![expect(clippy::print_stdout, reason = "shown by --nocapture")]

use std::{
    fmt,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use model::{
    Array, Dtype, Error,
    config::Shape,
    data::{Batch, Counts},
    lfm2::Lfm2,
    lora::Adapters,
    mlx::{DeviceKind, Session},
    weights,
};

pub(crate) const ORACLES: [&str; 3] = ["block-spelling", "layer-types", "conv-bias"];

/// Where MLX computes, in which type, and what that costs in accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Setting {
    device: DeviceKind,
    pub(crate) dtype: Dtype,
    /// A check's own tolerance is that of f32 on the CPU. None of a loss is smaller than this,
    loss: f64,
    /// and none of a tensor than this.
    tensor: f64,
}

/// MLX on the CPU, where the oracle's values were made and its tolerances hold.
pub(crate) const CPU: Setting = Setting {
    device: DeviceKind::Cpu,
    dtype: Dtype::Float32,
    loss: 0.0,
    tensor: 0.0,
};

/// That of `lfmark versus` for losses. What rounding after every operation does to the tensors of
/// models as small as the oracle's is up to two thirds of this.
const CPU_BF16: Setting = Setting {
    dtype: Dtype::Bfloat16,
    loss: 0.015625,
    tensor: 0.125,
    ..CPU
};

const GPU: Setting = Setting {
    device: DeviceKind::Gpu,
    loss: 1e-3,
    tensor: 1e-3,
    ..CPU
};

const GPU_BF16: Setting = Setting {
    device: DeviceKind::Gpu,
    ..CPU_BF16
};

pub(crate) const F32: [Setting; 2] = [CPU, GPU];
pub(crate) const BF16: [Setting; 2] = [CPU_BF16, GPU_BF16];
pub(crate) const ALL: [Setting; 4] = [CPU, GPU, CPU_BF16, GPU_BF16];

/// MLX on a device. Its end, also that of a failed test, waits for pending work.
pub(crate) struct Running {
    _session: Session,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Whether MLX has a GPU here; says so once where it has none.
fn has_gpu() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        // A matrix product of f32 would be one of TF32 on NVIDIA's and on Apple's newest GPUs, whose
        // 10 bits are not enough for the tolerance of f32.
        #[expect(
            unsafe_code,
            reason = "MLX takes this setting from the environment alone"
        )]
        // SAFETY: MLX, the one that reads it, has not started: every test comes here first.
        unsafe {
            std::env::set_var("MLX_ENABLE_TF32", "0");
        }
        match Session::start(Some(DeviceKind::Gpu)) {
            Ok(_) => true,
            Err(Error::Device(_)) => {
                // Not captured, unlike what a macro prints.
                let note = "note: skipped on the GPU, since MLX has none here\n";
                std::io::stderr().write_all(note.as_bytes()).unwrap();
                false
            }
            Err(error) => panic!("{error}"),
        }
    })
}

impl Setting {
    /// Starts MLX so, if it can be.
    pub(crate) fn start(self) -> Option<Running> {
        // The default device is one for all threads.
        static TURN: Mutex<()> = Mutex::new(());
        let gpu = has_gpu();
        if self.device == DeviceKind::Gpu && !gpu {
            return None;
        }
        let turn = gpu.then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
        let (session, _) = Session::start(Some(self.device)).unwrap();
        Some(Running {
            _session: session,
            _turn: turn,
        })
    }

    pub(crate) fn is_f32(self) -> bool {
        self.dtype == Dtype::Float32
    }

    /// Losses that agree. The tolerance is that of f32 on the CPU.
    pub(crate) fn close_losses(self, what: &str, actual: &[f32], expected: &[f32], tolerance: f64) {
        let difference = difference_of(actual, expected);
        self.within(what, difference, tolerance.max(self.loss));
    }

    /// A tensor that agrees.
    pub(crate) fn close(self, what: &str, actual: &Array, expected: &Array, tolerance: f64) {
        self.close_tensors(what, [(actual, expected)], tolerance);
    }

    /// Tensors that agree, each by its largest difference. In 16 bits that would be chance: there
    /// they are one vector, and its length counts.
    pub(crate) fn close_tensors<'a>(
        self,
        what: &str,
        pairs: impl IntoIterator<Item = (&'a Array, &'a Array)>,
        tolerance: f64,
    ) {
        let difference = match self.is_f32() {
            true => pairs
                .into_iter()
                .map(|(actual, expected)| difference(actual, expected))
                .fold(0.0, f64::max),
            false => distance(pairs),
        };
        self.within(what, difference, tolerance.max(self.tensor));
    }

    /// `--nocapture` shows every difference beside its tolerance.
    pub(crate) fn within(self, what: &str, difference: f64, tolerance: f64) {
        let line = format!("{self}, {what}: {difference:.1e} of {tolerance:.1e}");
        assert!(difference <= tolerance, "{line}");
        println!("{line}");
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let device = match self.device {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
        };
        let dtype = if self.is_f32() { "f32" } else { "bf16" };
        write!(f, "{device} {dtype}")
    }
}

/// Runs a check in those of the settings that this machine has.
pub(crate) fn for_each_setting(settings: &[Setting], check: impl Fn(Setting)) {
    for setting in settings {
        if let Some(_running) = setting.start() {
            check(*setting);
        }
    }
}

/// Runs a check on every shape of the oracle, in every setting.
pub(crate) fn for_each(settings: &[Setting], check: impl Fn(&str, &Oracle)) {
    for_each_setting(settings, |setting| {
        for name in ORACLES {
            check(name, &Oracle::open(name, setting));
        }
    });
}

pub(crate) fn cpu() -> Running {
    CPU.start().unwrap()
}

/// One folder of the oracle, and the setting in which its models are.
pub(crate) struct Oracle {
    pub(crate) dir: PathBuf,
    pub(crate) golden: std::collections::HashMap<String, Array>,
    pub(crate) setting: Setting,
}

/// Cargo says where they are when it runs a test, which may be elsewhere than where it was built.
pub(crate) fn fixtures() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR");
    let manifest = manifest.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&manifest).join("../../fixtures")
}

impl Oracle {
    pub(crate) fn open(name: &str, setting: Setting) -> Self {
        Self::at(fixtures().join("oracle").join(name), setting)
    }

    pub(crate) fn at(dir: PathBuf, setting: Setting) -> Self {
        // The reference values are whatever the oracle wrote, so the lenient loader is right here.
        let golden = Array::load_safetensors(dir.join("golden.safetensors")).unwrap();
        Self {
            dir,
            golden,
            setting,
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        let text = std::fs::read_to_string(self.dir.join("config.json")).unwrap();
        Shape::from_json(&text, "config.json").unwrap()
    }

    pub(crate) fn model(&self) -> Lfm2 {
        self.model_from("model.safetensors")
    }

    pub(crate) fn model_from(&self, file: &str) -> Lfm2 {
        let shape = self.shape();
        let tensors =
            weights::load_file(&self.dir.join(file), &shape.tensors(), self.setting.dtype);
        Lfm2::new(shape, tensors.unwrap()).unwrap()
    }

    pub(crate) fn adapters(&self) -> Adapters {
        Adapters::load(&self.shape(), &self.dir.join("adapters")).unwrap()
    }

    pub(crate) fn batch(&self) -> Batch {
        let counts = Counts {
            rows: 2,
            real_tokens: 0,
            padded_tokens: 0,
            loss_tokens: 0,
        };
        let values = |name: &str| self.golden[name].to_vec_cast::<i32>().unwrap();
        Batch::new(&values("tokens"), &values("lengths"), counts)
    }

    /// These tensors agree with all golden ones whose names begin so.
    pub(crate) fn close_tensors(
        &self,
        what: &str,
        prefix: &str,
        names: &[String],
        actual: &[Array],
    ) {
        let golden = self.golden.keys().filter(|key| key.starts_with(prefix));
        assert_eq!((names.len(), actual.len()), (golden.count(), names.len()));
        let expected = names
            .iter()
            .map(|name| &self.golden[&format!("{prefix}{name}")]);
        let pairs = actual.iter().zip(expected);
        self.setting.close_tensors(what, pairs, 1e-4);
    }

    /// Token ids under this name.
    pub(crate) fn ids(&self, name: &str) -> Vec<u32> {
        self.golden[name].to_vec_cast::<u32>().unwrap()
    }
}

/// Largest difference over the largest reference value.
pub(crate) fn difference(actual: &Array, expected: &Array) -> f64 {
    assert_eq!(actual.shape(), expected.shape());
    let values = |array: &Array| array.to_vec_cast::<f32>().unwrap();
    difference_of(&values(actual), &values(expected))
}

pub(crate) fn difference_of(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let mut largest = 0.0_f64;
    let mut reference = 0.0_f64;
    for (&a, &e) in actual.iter().zip(expected) {
        assert!(a.is_finite() && e.is_finite(), "{a} against {e}");
        largest = largest.max((f64::from(a) - f64::from(e)).abs());
        reference = reference.max(f64::from(e).abs());
    }
    largest / reference.max(f64::MIN_POSITIVE)
}

/// Length of the difference over that of the reference, of all these together.
fn distance<'a>(pairs: impl IntoIterator<Item = (&'a Array, &'a Array)>) -> f64 {
    let (mut difference, mut reference) = (0.0, 0.0);
    for (actual, expected) in pairs {
        assert_eq!(actual.shape(), expected.shape());
        let values = |array: &Array| array.to_vec_cast::<f32>().unwrap();
        for (actual, expected) in values(actual).into_iter().zip(values(expected)) {
            let (actual, expected) = (f64::from(actual), f64::from(expected));
            assert!(actual.is_finite(), "{actual} against {expected}");
            difference += (actual - expected).powi(2);
            reference += expected.powi(2);
        }
    }
    (difference / reference.max(f64::MIN_POSITIVE)).sqrt()
}
