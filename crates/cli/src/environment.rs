//! What a record says about the build, the library, the machine and the model.

use std::{fs, path::Path};

use metrics::{machine::Reader, metallib, record};
use model::{
    load::{Loaded, Source},
    lora::Adapters,
    mlx,
    quantization::Packed,
    weights::sha256_hex,
};
use serde::Deserialize;

/// The build of this program.
pub(crate) fn build() -> record::Build {
    let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    record::Build {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: known(env!("LFMARK_COMMIT")),
        dirty: env!("LFMARK_DIRTY").parse().ok(),
        profile: match cfg!(debug_assertions) {
            true => "debug".to_owned(),
            false => "release".to_owned(),
        },
        rustc: known(env!("LFMARK_RUSTC")),
        native_setup: native_setup(),
    }
}

/// What the set-up of native MLX measured, where this program still stands on the machine that
/// was set up.
fn native_setup() -> Option<record::NativeSetup> {
    #[derive(Deserialize)]
    struct Setup {
        wall_ms: u64,
        installed_bytes: u64,
    }
    let folder = option_env!("LFMARK_NATIVE_DIR")?;
    let text = fs::read_to_string(Path::new(folder).join("setup.json")).ok()?;
    let setup: Setup = serde_json::from_str(&text).ok()?;
    Some(record::NativeSetup {
        wall_ms: setup.wall_ms,
        installed_bytes: setup.installed_bytes,
    })
}

/// The MLX library that is loaded.
pub(crate) fn mlx() -> anyhow::Result<record::Mlx> {
    let info = mlx::info()?;
    let path = mlx::library_path();
    // Metal looks for it beside the library.
    let kernels = path
        .as_deref()
        .filter(|_| info.backend == "metal")
        .and_then(|path| metallib::read(&path.with_file_name(metallib::FILE_NAME)).ok());
    let library = path.and_then(|path| fs::read(path).ok());
    Ok(record::Mlx {
        version: info.version,
        backend: info.backend.to_owned(),
        device_name: info.device_name,
        architecture: info.architecture,
        device_memory_bytes: info.memory_bytes,
        working_set_bytes: info.working_set_bytes,
        library_sha256: library.map(|bytes| sha256_hex(&bytes)),
        blas: (info.backend == "cpu").then(mlx::blas).flatten(),
        variables: mlx::variables(),
        metallib: kernels,
    })
}

/// The machine, with what MLX says of its GPU.
pub(crate) fn machine(reader: &Reader, mlx: &record::Mlx) -> record::Machine {
    let on_gpu = mlx.backend != "cpu";
    record::Machine {
        gpu: mlx.device_name.clone().filter(|_| on_gpu),
        ..reader.machine()
    }
}

/// CUDA's name of the GPU that is worked on; `None` on other back ends.
pub(crate) fn gpu_uuid() -> anyhow::Result<Option<String>> {
    Ok(mlx::info()?.uuid)
}

/// The model as built, with its adapters.
pub(crate) fn model(loaded: &Loaded, adapters: &Adapters) -> record::Model {
    let shape = loaded.model.shape();
    let adapter = |spec: &model::lora::AdapterSpec| record::AdapterShape {
        name: spec.name.clone(),
        inputs: spec.inputs as u32,
        outputs: spec.outputs as u32,
    };
    record::Model {
        name: loaded.name.clone(),
        revision: loaded.revision.clone(),
        quantization: quantization(loaded),
        weights: match loaded.source.clone() {
            Source::Embedded { sha256 } => record::Weights::Embedded { sha256 },
            Source::Files { sha256 } => record::Weights::Files { sha256 },
            Source::Random { seed } => record::Weights::Random { seed },
        },
        layers: shape.layers.len() as u32,
        attention_layers: shape.attention_layers() as u32,
        hidden_size: shape.hidden_size as u32,
        ffn_size: shape.ffn_size as u32,
        vocab_size: shape.vocab_size as u32,
        parameters: shape.parameters(),
        weight_bytes: loaded.weight_bytes,
        trainable_parameters: adapters.trainable_parameters(),
        adapters: adapters.specs().iter().map(adapter).collect(),
        config_sha256: Some(loaded.config_sha256.clone()),
        tokenizer_sha256: Some(loaded.tokenizer.sha256().to_owned()),
    }
}

fn quantization(loaded: &Loaded) -> Option<record::Quantization> {
    let packed = |it: &Packed| record::Packed {
        bits: it.scheme.bits as u32,
        group_size: it.scheme.group_size as u32,
        matrices: it.matrices,
        parameters: it.parameters,
    };
    (!loaded.packed.is_empty()).then(|| record::Quantization {
        on_load: loaded.quantized_here,
        packed: loaded.packed.iter().map(packed).collect(),
    })
}
