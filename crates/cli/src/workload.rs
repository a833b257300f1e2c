//! Training as the measured loop sees it.

use metrics::measure::{Memory, Stages, StepOutput, Workload};
use model::{
    data::{Batch, Batches},
    mlx,
    train::{Stage, Trainer},
};

/// Batches of the data set, and the production step over them.
pub(crate) struct Training {
    pub(crate) trainer: Trainer,
    pub(crate) batches: Batches,
}

impl Workload for Training {
    type Batch = Batch;
    type Error = anyhow::Error;

    fn next_batch(&mut self) -> anyhow::Result<Batch> {
        Ok(self.batches.next_batch())
    }

    fn step(&mut self, batch: &Batch, stages: &mut Stages<'_>) -> anyhow::Result<StepOutput> {
        let loss = self
            .trainer
            .step_in_stages(batch, &mut |stage| match stage {
                Stage::Built => stages.built(),
                Stage::Dispatched => stages.dispatched(),
            })?;
        let counts = batch.counts;
        Ok(StepOutput {
            rows: counts.rows,
            real_tokens: counts.real_tokens,
            padded_tokens: counts.padded_tokens,
            loss_tokens: counts.loss_tokens,
            loss,
        })
    }

    fn memory(&self) -> anyhow::Result<Memory> {
        let memory = mlx::Memory::read()?;
        Ok(Memory {
            active_bytes: memory.active_bytes,
            cache_bytes: memory.cache_bytes,
            peak_bytes: memory.peak_bytes,
        })
    }

    fn reset_peak(&mut self) -> anyhow::Result<()> {
        Ok(mlx::Memory::reset_peak()?)
    }
}
