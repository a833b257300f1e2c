//! From the options of a command to its model.

use std::ops::ControlFlow;

use model::{
    hub,
    load::{self, Place},
    mlx::DeviceKind,
    quantization::Scheme,
};

use crate::{options::ModelOptions, progress::Fetching};

/// Finds the model, and shows what has to be fetched for it; `stop` says whether to give up.
pub(crate) fn find(
    options: &ModelOptions,
    quiet: bool,
    stop: fn() -> bool,
) -> anyhow::Result<Place> {
    let fetching = Fetching::new(quiet);
    let mut watch = |progress: hub::Progress| {
        fetching.show(progress);
        match stop() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    };
    let revision = options.revision.as_deref();
    Ok(Place::find(options.name(), revision, &mut watch)?)
}

/// How to read the model.
pub(crate) fn how(
    options: &ModelOptions,
    quantize: Option<Scheme>,
    device: DeviceKind,
    seed: u64,
) -> load::Options {
    load::Options {
        dtype: options.dtype(device).mlx(),
        seed,
        quantize,
    }
}
