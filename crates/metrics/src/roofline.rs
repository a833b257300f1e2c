//! What the hardware's memory and arithmetic allow, and how much of it a run used.
//!
//! Decoding reads the weights once for every token, so it is measured against the bandwidth of the
//! memory; training and reading a prompt are measured against the arithmetic of the type they
//! compute in. All costs are lower bounds, so that a share is one too:
//!
//! - a **decoded token** reads every base weight once. The key/value cache, the adapters and the
//!   activations are left out.
//! - a **prompt's token** passes through every layer, 2 operations for each parameter (a
//!   multiplication and an addition). The output projection, which for a prompt is computed at its
//!   last position alone, is counted once.
//! - a **trained token** costs 2 N forward, for N parameters of the base model; 2 for every
//!   parameter that the gradient passes on its way to the lowest adapted layer, which are the
//!   output projection and the layers from that one on; and 6 for every trainable parameter, which
//!   has a gradient of its own as well. Layers count with their mean size.
//!
//! The rule of 2 operations forward, 2 for the gradient of the activations and 2 for that of the
//! weights is Kaplan et al. 2020 (arXiv:2001.08361), section 2.1; attention to earlier tokens is
//! left out there too.
//!
//! A model whose weights fit into a cache can be read faster than the memory allows.

use schemars::JsonSchema;
use serde::Serialize;

use crate::bandwidth;
use crate::chips::{self, Peaks, Sourced};
use crate::store::Record;
use crate::summary::Summary;

/// Above this share of a specified figure, the figure or its row is wrong.
pub const LARGEST_SHARE: f64 = 1.03;

/// Fewest times between tokens from which a generation is held against the memory. The step after a
/// token runs while the token is handed out, so that part of the first time lies before it.
const FEWEST_TIMES: usize = 16;

/// What decides the cost of a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// Of the base model, a tied embedding counted once.
    pub parameters: f64,
    /// Of the output projection: vocabulary times hidden size.
    pub head_parameters: f64,
    pub layers: f64,
    /// Index of the lowest layer with an adapter, counted from 0.
    pub first_adapted: f64,
    pub trainable: f64,
    /// Bytes of the base weights.
    pub weight_bytes: f64,
}

impl Costs {
    /// Of the model of a record; `None` where it has no adapter in a numbered layer.
    pub fn of(record: &Record) -> Option<Self> {
        let model = &record.start.model;
        let first = model
            .adapters
            .iter()
            .filter_map(|it| layer(&it.name))
            .min()?;
        Some(Self {
            parameters: model.parameters as f64,
            head_parameters: f64::from(model.vocab_size) * f64::from(model.hidden_size),
            layers: f64::from(model.layers),
            first_adapted: f64::from(first),
            trainable: model.trainable_parameters as f64,
            weight_bytes: model.weight_bytes as f64,
        })
    }

    /// Operations of the training of one token.
    pub fn trained_token(&self) -> f64 {
        let per_layer = (self.parameters - self.head_parameters) / self.layers;
        let passed = self.head_parameters + (self.layers - self.first_adapted) * per_layer;
        2.0 * self.parameters + 2.0 * passed + 6.0 * self.trainable
    }

    /// Operations of reading a prompt of so many tokens.
    pub fn prompt(&self, tokens: f64) -> f64 {
        let layers = self.parameters - self.head_parameters;
        2.0 * tokens * layers + 2.0 * self.head_parameters
    }

    /// Bytes that are read for one generated token.
    pub fn decoded_token(&self) -> f64 {
        self.weight_bytes
    }
}

/// The layer in a module's name: 8 of `model.layers.8.self_attn.q_proj`.
pub(crate) fn layer(name: &str) -> Option<u32> {
    let mut parts = name.split('.').skip_while(|part| *part != "layers");
    parts.nth(1)?.parse().ok()
}

/// What was used of the device, and what it has.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Roofline {
    /// The row of the chip table; `None` for a device that it does not have.
    pub chip: Option<String>,
    /// The type that was computed in (`bf16`).
    pub dtype: String,
    /// What the specified arithmetic of that type is, where that is not plain.
    pub arithmetic_note: Option<&'static str>,
    /// Of the memory in bytes per second, where the run measured it.
    pub measured_bandwidth: Option<f64>,
    /// Training first, then reading and continuing every prompt.
    pub uses: Vec<Use>,
}

/// One kind of work against one resource.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Use {
    pub work: Work,
    pub resource: Resource,
    /// Measured tokens per second.
    pub tokens_per_second: f64,
    /// Bytes or operations of one token.
    pub per_token: f64,
    /// Bytes or operations per second: the product of the two above.
    pub used: f64,
    pub specified: Option<Specified>,
    /// Of the measured bandwidth.
    pub measured_share: Option<f64>,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    Training,
    /// Reading prompt number n, counted from 1.
    Prefill(usize),
    /// Continuing prompt number n.
    Decode(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Of the memory, in bytes.
    Bandwidth,
    /// Of matrix products, in operations.
    Arithmetic,
}

/// A specified figure and what was used of it.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Specified {
    pub figure: Sourced,
    pub share: Share,
}

/// A share of a specified figure.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "SpecifiedShare")]
pub enum Share {
    Of(f64),
    /// More than [`LARGEST_SHARE`]: something is wrong with the row, the time or the count.
    Impossible(f64),
}

impl Share {
    /// Of `used` against `figure`, both per second.
    pub fn new(used: f64, figure: f64) -> Self {
        match used / figure {
            share if share > LARGEST_SHARE => Self::Impossible(share),
            share => Self::Of(share),
        }
    }
}

/// The use that a run made of its device.
pub fn roofline(record: &Record, summary: &Summary) -> Roofline {
    let config = &record.start.config;
    let peaks = peaks(record);
    let mut copies = record
        .states
        .iter()
        .filter_map(|state| state.copies.as_ref());
    // What processors copy says nothing of a GPU's memory.
    let measured_bandwidth = copies
        .next_back()
        .filter(|_| config.device == "cpu")
        .and_then(bandwidth::fastest);
    let mut uses = Vec::new();
    let mut add = |work, resource, rate: Option<f64>, per_token: f64| {
        let Some(tokens_per_second) = rate else {
            return;
        };
        let used = tokens_per_second * per_token;
        let figure = peaks.as_ref().and_then(|peaks| match resource {
            Resource::Bandwidth => peaks.bandwidth,
            Resource::Arithmetic => peaks.flops(&config.dtype),
        });
        uses.push(Use {
            work,
            resource,
            tokens_per_second,
            per_token,
            used,
            specified: figure.map(|figure| Specified {
                figure,
                share: Share::new(used, figure.value),
            }),
            measured_share: measured_bandwidth
                .filter(|_| resource == Resource::Bandwidth)
                .map(|bandwidth: f64| used / bandwidth),
        });
    };
    if let Some(costs) = Costs::of(record) {
        // What the device works through is the padded batch.
        let rate = summary
            .training
            .as_ref()
            .and_then(|it| it.padded_tokens.per_step_second);
        add(
            Work::Training,
            Resource::Arithmetic,
            rate,
            costs.trained_token(),
        );
        for (number, generation) in (1..).zip(&summary.generations) {
            let tokens = f64::from(generation.prompt_tokens);
            if tokens > 0.0 {
                let rate = generation.prompt_tokens_per_second;
                let cost = costs.prompt(tokens) / tokens;
                add(Work::Prefill(number), Resource::Arithmetic, rate, cost);
            }
            let times = generation.token.as_ref().map_or(0, |token| token.count);
            let rate = generation
                .tokens_per_second
                .filter(|_| times >= FEWEST_TIMES);
            add(
                Work::Decode(number),
                Resource::Bandwidth,
                rate,
                costs.decoded_token(),
            );
        }
    }
    Roofline {
        chip: peaks.as_ref().map(|peaks| peaks.row.clone()),
        dtype: config.dtype.clone(),
        arithmetic_note: peaks
            .as_ref()
            .and_then(|peaks| peaks.f32_note.filter(|_| config.dtype == "f32")),
        measured_bandwidth,
        uses,
    }
}

/// The published figures of the device that a run used; none for a CPU.
pub(crate) fn peaks(record: &Record) -> Option<Peaks> {
    let (machine, config) = (&record.start.machine, &record.start.config);
    if config.device != "gpu" {
        return None;
    }
    let names = [&machine.chip, &record.start.mlx.device_name, &machine.gpu];
    names.into_iter().flatten().find_map(|name| {
        chips::find(&chips::Device {
            name,
            gpu_cores: machine.gpu_cores,
            memory_bytes: machine.memory_bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{AdapterShape, Event};
    use crate::summary::summarize;
    use crate::{store, testing};

    /// LFM2-1.2B with adapters from layer 8 of 16 on.
    fn costs() -> Costs {
        Costs {
            parameters: 1_170_340_608.0,
            head_parameters: 65_536.0 * 2048.0,
            layers: 16.0,
            first_adapted: 8.0,
            trainable: 425_984.0,
            weight_bytes: 2_340_681_216.0,
        }
    }

    #[test]
    fn a_trained_token_costs_the_forward_pass_and_the_way_back_to_the_lowest_adapter() {
        // 2 x 1,170,340,608 forward; 2 x (134,217,728 + 8 x 64,757,680) back; 6 x 425,984.
        let expected = 2_340_681_216.0 + 1_304_558_336.0 + 2_555_904.0;
        assert_eq!(costs().trained_token(), expected);
        let every_layer = Costs {
            first_adapted: 0.0,
            trainable: 0.0,
            ..costs()
        };
        assert_eq!(every_layer.trained_token(), 4.0 * every_layer.parameters);
    }

    #[test]
    fn a_prompt_projects_its_last_position_only() {
        let (layers, head) = (1_036_122_880.0, 134_217_728.0);
        assert_eq!(costs().prompt(1.0), 2.0 * (layers + head));
        assert_eq!(costs().prompt(512.0), 1024.0 * layers + 2.0 * head);
    }

    #[test]
    fn the_layer_is_in_the_name() {
        for (name, expected) in [
            ("model.layers.8.self_attn.q_proj", Some(8)),
            ("layers.0.conv", Some(0)),
            ("model.layers", None),
            ("model.layers.x.q_proj", None),
            ("model.8.q_proj", None),
        ] {
            assert_eq!(layer(name), expected, "{name}");
        }
    }

    #[test]
    fn more_than_the_hardware_has_is_impossible() {
        for (used, expected) in [
            (90.0, Share::Of(0.9)),
            (103.0, Share::Of(1.03)),
            (104.0, Share::Impossible(1.04)),
        ] {
            assert_eq!(Share::new(used, 100.0), expected);
        }
    }

    fn record(device_name: &str, device: &str) -> store::Record {
        let mut start = testing::start();
        start.config.device = device.to_owned();
        start.config.dtype = "bf16".to_owned();
        start.mlx.device_name = Some(device_name.to_owned());
        start.model.adapters = vec![AdapterShape {
            name: "model.layers.1.self_attn.q_proj".to_owned(),
            inputs: 64,
            outputs: 64,
        }];
        let events = [
            Event::Start(Box::new(start)),
            Event::Iteration(testing::iteration(1)),
            Event::Generation(testing::generation(400, &[100, 110, 90])),
            Event::Generation(testing::generation(400, &[100; 16])),
        ];
        store::parse(&testing::text(&events)).unwrap()
    }

    #[test]
    fn each_kind_of_work_is_held_against_its_resource() {
        let record = record("NVIDIA H200", "gpu");
        let roofline = roofline(&record, &summarize(&record));
        assert_eq!(roofline.chip.as_deref(), Some("NVIDIA H200"));
        let uses: Vec<_> = roofline
            .uses
            .iter()
            .map(|it| (it.work, it.resource))
            .collect();
        assert_eq!(
            uses,
            [
                (Work::Training, Resource::Arithmetic),
                (Work::Prefill(1), Resource::Arithmetic),
                (Work::Prefill(2), Resource::Arithmetic),
                (Work::Decode(2), Resource::Bandwidth),
            ]
        );
        // 400,000 bytes in 100 ns are 4 TB/s of 4.8. Three times between tokens are too few.
        let decode = &roofline.uses[3];
        assert!((decode.used / 4e12 - 1.0).abs() < 1e-12);
        let specified = decode.specified.unwrap();
        assert_eq!(specified.figure.value, 4.8e12);
        assert_eq!(specified.share, Share::Of(decode.used / 4.8e12));
        assert_eq!(decode.measured_share, None);
        assert_eq!(roofline.uses[0].specified.unwrap().figure.value, 989.5e12);
    }

    #[test]
    fn an_unknown_device_and_a_cpu_have_no_share() {
        for (name, device) in [("Some GPU", "gpu"), ("NVIDIA H200", "cpu")] {
            let record = record(name, device);
            let roofline = roofline(&record, &summarize(&record));
            assert_eq!(roofline.chip, None);
            assert_eq!(roofline.uses.len(), 4);
            assert!(roofline.uses.iter().all(|it| it.specified.is_none()));
        }
    }
}
