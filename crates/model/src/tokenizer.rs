//! Text to token ids and back, with the model's own chat template.

use std::{fs, path::Path};

use minijinja::{
    Environment, Error as TemplateError, ErrorKind, context, syntax::SyntaxConfig, value::Serde,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Error, Result, weights::sha256_hex};

/// A tokenizer as `tokenizer.json` and `tokenizer_config.json` describe it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    chat_template: Option<Environment<'static>>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    eos_id: Option<u32>,
    sha256: String,
}

/// One message of a chat. Fields beyond role and content are the template's business.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Value>);

impl Message {
    pub fn new(role: &str, content: &str) -> Self {
        let field = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
        Self(
            [field("role", role), field("content", content)]
                .into_iter()
                .collect(),
        )
    }

    pub fn role(&self) -> Option<&str> {
        self.0.get("role").and_then(Value::as_str)
    }
}

const TEMPLATE: &str = "chat_template";

impl Tokenizer {
    /// Reads `tokenizer.json`, and `tokenizer_config.json` and `chat_template.jinja` where they
    /// exist, from a model folder.
    ///
    /// # Errors
    ///
    /// A missing or invalid file.
    pub fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).map_err(Error::io("read", path))
        };
        let optional = |name: &str| match dir.join(name).is_file() {
            true => read(name).map(Some),
            false => Ok(None),
        };
        let config = optional("tokenizer_config.json")?;
        let template = optional("chat_template.jinja")?;
        Self::parse(&read("tokenizer.json")?, config.as_deref(), template).map_err(|error| {
            match error {
                Error::Tokenizer { file, problem } => Error::Tokenizer {
                    file: dir.join(file).display().to_string(),
                    problem,
                },
                other => other,
            }
        })
    }

    /// Builds a tokenizer from the text of those files.
    ///
    /// # Errors
    ///
    /// A file that is not what its name says, or a template that does not parse.
    pub fn parse(tokenizer: &str, config: Option<&str>, template: Option<String>) -> Result<Self> {
        let inner = tokenizer.parse::<tokenizers::Tokenizer>().map_err(|e| {
            Error::tokenizer("tokenizer.json", format!("not a valid tokenizer: {e}"))
        })?;
        let file = "tokenizer_config.json";
        let config: Config = match config {
            Some(text) => serde_json::from_str(text).map_err(|e| {
                Error::tokenizer(file, format!("not a valid tokenizer config: {e}"))
            })?,
            None => Config::default(),
        };
        // A file of its own goes before the field, as in transformers.
        let source = match template {
            Some(template) => Some(("chat_template.jinja", template)),
            None => config
                .chat_template
                .and_then(Template::into_default)
                .map(|template| (file, template)),
        };
        let chat_template = source
            .map(|(file, source)| environment(file, source))
            .transpose()?;
        let eos_token = config.eos_token.map(Special::into_text);
        let eos_id = match &eos_token {
            Some(token) => Some(inner.token_to_id(token).ok_or_else(|| {
                Error::tokenizer(
                    file,
                    format!("eos_token `{token}` is not in tokenizer.json"),
                )
            })?),
            None => None,
        };
        Ok(Self {
            inner,
            chat_template,
            bos_token: config.bos_token.map(Special::into_text),
            eos_token,
            eos_id,
            sha256: sha256_hex(tokenizer.as_bytes()),
        })
    }

    /// SHA-256 of `tokenizer.json`.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    pub fn has_chat_template(&self) -> bool {
        self.chat_template.is_some()
    }

    /// The token that ends a text.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos_id
    }

    /// Tokens of plain text, with the tokenizer's own special tokens around it.
    ///
    /// # Errors
    ///
    /// Text that the tokenizer cannot encode.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    /// Tokens of a chat, through the template.
    ///
    /// # Errors
    ///
    /// No chat template, or one that fails on these messages.
    pub fn encode_chat(
        &self,
        messages: &[Message],
        tools: Option<&Value>,
        generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let Some(environment) = &self.chat_template else {
            return Err(Error::tokenizer(
                "tokenizer_config.json",
                "has no chat_template, which prompts and chats need; \
                 use `text` samples and --no-chat-template instead",
            ));
        };
        let text = environment
            .get_template(TEMPLATE)
            .and_then(|template| {
                template.render(context! {
                    messages => Serde(messages),
                    tools => Serde(tools),
                    add_generation_prompt => generation_prompt,
                    bos_token => &self.bos_token,
                    eos_token => &self.eos_token,
                })
            })
            .map_err(|e| Error::tokenizer("the model's chat template", e.to_string()))?;
        // The template has put the special tokens in already.
        self.encode_with(&text, false)
    }

    /// Text of the tokens, without special ones.
    ///
    /// # Errors
    ///
    /// Tokens that the tokenizer cannot decode.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let text = self.inner.decode(ids, true);
        text.map_err(|e| Error::tokenizer("tokenizer.json", format!("cannot decode: {e}")))
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, special);
        let encoding = encoding
            .map_err(|e| Error::tokenizer("tokenizer.json", format!("cannot encode: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// A template environment as Hugging Face's templates expect it.
fn environment(file: &str, source: String) -> Result<Environment<'static>> {
    let broken = |e: TemplateError| Error::tokenizer(file, format!("broken chat template: {e}"));
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.map_err(broken)?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, TemplateError> {
            Err(TemplateError::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment
        .add_template_owned(TEMPLATE, source)
        .map_err(broken)?;
    Ok(environment)
}

#[derive(Default, Deserialize)]
struct Config {
    bos_token: Option<Special>,
    eos_token: Option<Special>,
    chat_template: Option<Template>,
}

/// A special token: its text, or an object that holds it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Special {
    Text(String),
    Object { content: String },
}

impl Special {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { content: text } => text,
        }
    }
}

/// One template, or several by name of which `default` is meant.
#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

impl Template {
    fn into_default(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(list) => list
                .into_iter()
                .find(|t| t.name == "default")
                .map(|t| t.template),
        }
    }
}
