//! One prompt, generated for and measured.

use metrics::{
    clock::{Clock, SystemClock},
    footprint::FootprintReader,
    record::{Finish, Generation, GenerationConfig},
};
use model::{
    generate::{Decoder, Forward, Sampling},
    load::Loaded,
    mlx::Memory,
    tokenizer::Message,
};

/// What to generate with.
pub(crate) struct Generator<'a> {
    pub(crate) loaded: &'a Loaded,
    pub(crate) forward: Forward,
    pub(crate) config: GenerationConfig,
    pub(crate) sampling: Sampling,
    pub(crate) clock: SystemClock,
    /// Asked before every token.
    pub(crate) stop: fn() -> bool,
}

/// Text, or token ids as they are.
pub(crate) enum Prompt<'a> {
    Text(&'a str),
    Ids(&'a [u32]),
}

impl Generator<'_> {
    /// Generates for one prompt. The clock runs from before tokenizing until the text is decoded;
    /// the first token's time and those between tokens exclude both.
    pub(crate) fn generate(
        &mut self,
        prompt: &Prompt,
        footprint: &mut FootprintReader,
    ) -> anyhow::Result<Generation> {
        Memory::reset_peak()?;
        let start_ns = self.clock.now_ns();
        let ids = tokenize(self.loaded, &self.config, prompt)?;

        let before_ns = self.clock.now_ns();
        let (mut decoder, first) = Decoder::start(&self.forward, &ids, self.sampling)?;
        let mut last_ns = self.clock.now_ns();
        let first_token_ns = last_ns - before_ns;

        let mut token_ids = vec![first];
        let mut token_ns = Vec::new();
        let finish = loop {
            let stopped = token_ids
                .last()
                .is_some_and(|id| self.loaded.eos_ids.contains(id));
            if stopped && !self.config.ignore_eos {
                break Finish::Stop;
            }
            if token_ids.len() >= self.config.max_tokens as usize {
                break Finish::Length;
            }
            if (self.stop)() {
                break Finish::Interrupted;
            }
            token_ids.push(decoder.next_token()?);
            let now_ns = self.clock.now_ns();
            token_ns.push(now_ns - last_ns);
            last_ns = now_ns;
        };
        // Waits for the step that was queued ahead.
        drop(decoder);
        let memory = Memory::read()?;
        let text = self.loaded.tokenizer.decode(&token_ids)?;
        let wall_ns = self.clock.now_ns() - start_ns;
        Ok(Generation {
            start_ns,
            prompt: match prompt {
                Prompt::Text(text) => (*text).to_owned(),
                Prompt::Ids(_) => self.loaded.tokenizer.decode(&ids)?,
            },
            prompt_tokens: ids.len() as u32,
            first_token_ns,
            token_ns,
            token_ids,
            text,
            finish,
            wall_ns,
            active_bytes: memory.active_bytes,
            cache_bytes: memory.cache_bytes,
            peak_bytes: memory.peak_bytes,
            footprint_bytes: footprint.read().footprint_bytes,
        })
    }

    /// Runs a prompt of every length that occurs and a few tokens after it, and forgets them:
    /// MLX compiles kernels for a length when it first meets it, which would be counted as the
    /// time to the first token.
    pub(crate) fn warm_up(&self, prompts: &[Prompt]) -> anyhow::Result<()> {
        let mut lengths = Vec::new();
        for prompt in prompts {
            let ids = tokenize(self.loaded, &self.config, prompt)?;
            if lengths.contains(&ids.len()) || (self.stop)() {
                continue;
            }
            lengths.push(ids.len());
            let (mut decoder, _) = Decoder::start(&self.forward, &ids, self.sampling)?;
            for _ in 0..2 {
                decoder.next_token()?;
            }
        }
        Ok(())
    }
}

/// The token ids of a prompt, with the chat template around it where that is wanted and there.
pub(crate) fn tokenize(
    loaded: &Loaded,
    config: &GenerationConfig,
    prompt: &Prompt,
) -> anyhow::Result<Vec<u32>> {
    let tokenizer = &loaded.tokenizer;
    Ok(match prompt {
        Prompt::Ids(ids) => ids.to_vec(),
        Prompt::Text(text) if config.chat_template && tokenizer.has_chat_template() => {
            tokenizer.encode_chat(&[Message::new("user", text)], None, true)?
        }
        Prompt::Text(text) => tokenizer.encode_prompt(text)?,
    })
}
