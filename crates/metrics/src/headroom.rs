//! What else might fit into the memory of the machine, by what one run measured.
//!
//! The highest memory of training is the base weights and an overhead: adapters, their optimizer
//! and the activations. An estimate takes both in proportion to the size of the model, and the
//! overhead in proportion to the tokens of a batch as well:
//!
//! `scale x (weights + overhead x tokens / measured tokens)`
//!
//! It is no measurement. Memory of attention that grows with the square of a sequence's length is
//! not in it, and the part of the overhead that does not depend on the tokens is in it too often.

use schemars::JsonSchema;
use serde::Serialize;

use crate::record::{Machine, Mlx};
use crate::store::Record;

/// What was measured, and what there is.
#[derive(Clone, Copy, Debug, PartialEq, JsonSchema, Serialize)]
pub struct Headroom {
    pub capacity_bytes: u64,
    pub capacity: Capacity,
    pub weight_bytes: u64,
    /// Highest memory of training less the weights.
    pub overhead_bytes: u64,
    /// Rows of the batch with the most tokens.
    pub rows: u32,
    /// Its tokens as fed to the model.
    pub tokens: u32,
}

/// Where the capacity is read from: the first of these that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Capacity {
    WorkingSet,
    DeviceMemory,
    MachineMemory,
}

impl Headroom {
    /// Of a run; `None` where no iteration, no memory or no overhead was measured.
    pub fn of(record: &Record) -> Option<Self> {
        let (capacity, capacity_bytes) = capacity(&record.start.mlx, &record.start.machine)?;
        let iterations = record.iterations.iter();
        let peak = iterations.clone().map(|it| it.highest_bytes());
        let widest = iterations.max_by_key(|it| it.padded_tokens)?;
        let weight_bytes = record.start.model.weight_bytes;
        let headroom = Self {
            capacity_bytes,
            capacity,
            weight_bytes,
            overhead_bytes: peak.max()?.checked_sub(weight_bytes)?,
            rows: widest.rows,
            tokens: widest.padded_tokens,
        };
        (headroom.overhead_bytes > 0 && weight_bytes > 0 && widest.padded_tokens > 0)
            .then_some(headroom)
    }

    /// Estimated bytes of training a model of `scale` times the parameters, with batches of so
    /// many tokens.
    pub fn estimate(&self, scale: f64, tokens: f64) -> f64 {
        let overhead = self.overhead_bytes as f64 * tokens / f64::from(self.tokens);
        scale * (self.weight_bytes as f64 + overhead)
    }

    /// Tokens of the batch whose estimate is the capacity, for a model of `scale` times the
    /// parameters; 0 where the weights alone are more.
    pub fn largest_tokens(&self, scale: f64) -> f64 {
        let overhead = self.capacity_bytes as f64 / scale - self.weight_bytes as f64;
        (overhead / self.overhead_bytes as f64 * f64::from(self.tokens)).max(0.0)
    }

    /// The scale whose estimate is the capacity.
    pub fn largest_scale(&self, tokens: f64) -> f64 {
        self.capacity_bytes as f64 / self.estimate(1.0, tokens)
    }
}

/// The memory that there is, and where that is read from.
pub fn capacity(mlx: &Mlx, machine: &Machine) -> Option<(Capacity, u64)> {
    let sources = [
        (Capacity::WorkingSet, mlx.working_set_bytes),
        (Capacity::DeviceMemory, mlx.device_memory_bytes),
        (Capacity::MachineMemory, machine.memory_bytes),
    ];
    sources
        .into_iter()
        .find_map(|(source, bytes)| Some((source, bytes?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Event;
    use crate::{store, testing};

    #[test]
    fn weights_and_overhead_are_scaled_up_to_the_working_set() {
        let mut start = testing::start();
        start.model.weight_bytes = 1500;
        start.mlx.working_set_bytes = None;
        start.mlx.device_memory_bytes = Some(20_000);
        start.machine.memory_bytes = Some(99_000);
        let mut widest = testing::iteration(2);
        (widest.rows, widest.padded_tokens) = (2, 200);
        let record = |start: &_| {
            let events = [
                Event::Start(Box::new(Clone::clone(start))),
                Event::Iteration(testing::iteration(1)),
                Event::Iteration(widest),
            ];
            store::parse(&testing::text(&events)).unwrap()
        };
        let headroom = Headroom::of(&record(&start)).unwrap();
        assert_eq!(
            headroom,
            Headroom {
                capacity_bytes: 20_000,
                capacity: Capacity::DeviceMemory,
                weight_bytes: 1500,
                // The peak is 2,000 bytes.
                overhead_bytes: 500,
                rows: 2,
                tokens: 200,
            }
        );
        assert_eq!(headroom.estimate(1.0, 200.0), 2000.0);
        assert_eq!(headroom.estimate(3.0, 400.0), 7500.0);
        assert_eq!(headroom.largest_scale(200.0), 10.0);
        assert_eq!(headroom.largest_tokens(3.0), 2_066.666_666_666_667);
        assert_eq!(headroom.largest_tokens(20.0), 0.0);
        start.model.weight_bytes = 2000;
        assert_eq!(Headroom::of(&record(&start)), None);
    }
}
