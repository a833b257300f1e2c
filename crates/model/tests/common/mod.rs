//! The oracle's folders, and the measure in which everything is compared.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::path::{Path, PathBuf};

use model::{
    Array, Dtype,
    config::Shape,
    data::{Batch, Counts},
    lfm2::Lfm2,
    lora::Adapters,
    mlx::{DeviceKind, Session},
    weights,
};

pub(crate) const ORACLES: [&str; 3] = ["block-spelling", "layer-types", "conv-bias"];

/// One folder of the oracle.
pub(crate) struct Oracle {
    pub(crate) dir: PathBuf,
    pub(crate) golden: std::collections::HashMap<String, Array>,
}

/// MLX on the CPU, where the oracle's values were made and its tolerances hold. Its end, also that
/// of a failed test, waits for pending work.
pub(crate) fn cpu() -> Session {
    Session::start(Some(DeviceKind::Cpu)).unwrap().0
}

pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

impl Oracle {
    pub(crate) fn open(name: &str) -> Self {
        Self::at(fixtures().join("oracle").join(name))
    }

    pub(crate) fn at(dir: PathBuf) -> Self {
        // The reference values are whatever the oracle wrote, so the lenient loader is right here.
        let golden = Array::load_safetensors(dir.join("golden.safetensors")).unwrap();
        Self { dir, golden }
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
        let tensors = weights::load_file(&self.dir.join(file), &shape.tensors(), Dtype::Float32);
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

pub(crate) fn assert_close(what: &str, actual: &Array, expected: &Array, tolerance: f64) {
    let difference = difference(actual, expected);
    assert!(
        difference <= tolerance,
        "{what} differs by {difference:.3e}, more than {tolerance:.0e}"
    );
}
