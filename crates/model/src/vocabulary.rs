//! A tokenizer from text: byte-level BPE with the special tokens and the chat format of LFM2.

use std::path::Path;

use serde_json::json;
use tokenizers::{
    AddedToken, Tokenizer as Trained,
    decoders::byte_level::ByteLevel as Decoder,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainer},
    },
    pre_tokenizers::byte_level::ByteLevel,
    processors::template::TemplateProcessing,
};

use crate::{Error, Result, tokenizer::Tokenizer};

/// Special tokens, in the order of their ids: the first eight of the published LFM2 tokenizers.
const SPECIAL: [&str; 8] = [
    "<|pad|>",
    BOS,
    "<|endoftext|>",
    "<|fim_pre|>",
    "<|fim_mid|>",
    "<|fim_suf|>",
    "<|im_start|>",
    EOS,
];
const BOS: &str = "<|startoftext|>";
const BOS_ID: u32 = 1;
const EOS: &str = "<|im_end|>";

const CHAT_TEMPLATE: &str = r#"{{- bos_token -}}
{%- for message in messages -%}
{{- "<|im_start|>" + message["role"] + "\n" + message["content"] + "<|im_end|>\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- "<|im_start|>assistant\n" -}}
{%- endif -%}
"#;

/// The files of a tokenizer.
pub struct Files {
    /// Text of `tokenizer.json`.
    pub tokenizer: String,
    /// Text of `tokenizer_config.json`.
    pub config: String,
}

impl Files {
    /// The tokenizer that they describe.
    ///
    /// # Errors
    ///
    /// None for files that [`train`] made.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        Tokenizer::parse(Path::new(""), &self.tokenizer, Some(&self.config), None)
    }
}

/// Trains a vocabulary of `size` tokens, special ones and all bytes included (Sennrich et al. 2016,
/// arXiv:1508.07909). `length` is what the model is made for, in tokens. The same texts give the
/// same files.
///
/// # Errors
///
/// Texts that are too few for a vocabulary of this size.
pub fn train<'a>(
    texts: impl Iterator<Item = &'a str> + Send,
    size: usize,
    length: i32,
) -> Result<Files> {
    let invalid = |e: tokenizers::Error| Error::tokenizer("tokenizer.json", e.to_string());
    let mut tokenizer = Trained::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_decoder(Some(Decoder::new(true, true, true)));
    let special = SPECIAL.map(|token| AddedToken::from(token, true));
    let trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .show_progress(false)
        .build();
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    tokenizer.train(&mut trainer, texts).map_err(invalid)?;
    let found = tokenizer.get_vocab_size(true);
    if found != size {
        return Err(Error::Invalid(format!(
            "the text suffices for a vocabulary of {found} tokens, and {size} are asked for; give \
             more text, or a smaller vocab_size"
        )));
    }
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))
        .and_then(|it| it.try_pair(format!("{BOS} $A {BOS} $B")))
        .map(|it| it.special_tokens(vec![(BOS, BOS_ID)]).build());
    let template = template.map_err(|e| Error::tokenizer("tokenizer.json", e))?;
    let template = template.map_err(|e| Error::tokenizer("tokenizer.json", e.to_string()))?;
    tokenizer.with_post_processor(Some(template));
    let config = json!({
        "add_bos_token": true,
        "add_eos_token": false,
        "bos_token": BOS,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": false,
        "eos_token": EOS,
        "model_max_length": length,
        "pad_token": SPECIAL[0],
        "tokenizer_class": "PreTrainedTokenizerFast",
    });
    Ok(Files {
        tokenizer: tokenizer.to_string(true).map_err(invalid)? + "\n",
        config: format!("{config:#}\n"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::Message;

    fn text() -> Vec<String> {
        let line = |i: u32| format!("the {} of the {} is here", i % 17, i % 23);
        (0..300).map(line).collect()
    }

    fn files(size: usize) -> Result<Files> {
        train(text().iter().map(String::as_str), size, 64)
    }

    #[test]
    fn a_vocabulary_holds_the_special_tokens_first_and_every_byte() {
        let tokenizer = files(290).unwrap().tokenizer().unwrap();
        assert_eq!(tokenizer.eos_id(), Some(7));
        let tokens = tokenizer.encode("the").unwrap();
        assert_eq!((tokens[0], tokens.len()), (BOS_ID, 2), "{tokens:?}");
        let odd = "zażółć \u{1f40b}\t\n";
        let tokens = tokenizer.encode(odd).unwrap();
        assert_eq!(tokenizer.decode(&tokens).unwrap(), odd);
    }

    #[test]
    fn a_chat_is_framed_by_special_tokens() {
        let tokenizer = files(290).unwrap().tokenizer().unwrap();
        let chat = [Message::new("user", "the")];
        let tokens = tokenizer.encode_chat(&chat, None, true).unwrap();
        let special: Vec<u32> = tokens.into_iter().filter(|&id| id < 8).collect();
        assert_eq!(special, [1, 6, 7, 6]);
    }

    #[test]
    fn the_same_texts_give_the_same_files() {
        assert_eq!(files(285).unwrap().tokenizer, files(285).unwrap().tokenizer);
    }

    #[test]
    fn too_little_text_is_an_error() {
        let error = files(5000).err().unwrap().to_string();
        assert!(error.contains("and 5000 are asked for"), "{error}");
    }
}
