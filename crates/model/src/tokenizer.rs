//! Text to token ids and back, with the model's own chat template.

use std::{
    fs,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use minijinja::{
    Environment, Error as TemplateError, ErrorKind, context,
    syntax::SyntaxConfig,
    value::{Kwargs, Serde, Value as TemplateValue},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{
    Map, Serializer, Value,
    ser::{Formatter, PrettyFormatter},
};

use crate::{Error, Result, weights::sha256_hex};

/// A tokenizer as `tokenizer.json` and `tokenizer_config.json` describe it.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The template, or what is wrong with it.
    chat_template: Option<Result<Environment<'static>, String>>,
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

    pub fn content(&self) -> Option<&str> {
        self.0.get("content").and_then(Value::as_str)
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
        Self::parse(dir, &read("tokenizer.json")?, config.as_deref(), template)
    }

    /// Builds a tokenizer from the text of those files; `dir` is where errors say they are.
    ///
    /// # Errors
    ///
    /// A file that is not what its name says. A template that does not parse is an error only
    /// where it is used.
    pub fn parse(
        dir: &Path,
        tokenizer: &str,
        config: Option<&str>,
        template: Option<String>,
    ) -> Result<Self> {
        let path = |file: &str| dir.join(file).display().to_string();
        let invalid = |problem: String| {
            Error::tokenizer(
                &path("tokenizer.json"),
                format!("not a valid tokenizer: {problem}"),
            )
        };
        serde_json::from_str::<IgnoredAny>(tokenizer).map_err(|e| invalid(e.to_string()))?;
        let inner = guarded(|| {
            let mut inner = tokenizer.parse::<tokenizers::Tokenizer>()?;
            // Settings of whoever saved the file; transformers resets them too. Left in force,
            // they would cut and pad samples unseen.
            inner.with_padding(None);
            inner.with_truncation(None)?;
            Ok(inner)
        })
        .map_err(invalid)?;
        let file = path("tokenizer_config.json");
        let config: Config = match config {
            Some(text) => serde_json::from_str(text).map_err(|e| {
                Error::tokenizer(&file, format!("not a valid tokenizer config: {e}"))
            })?,
            None => Config::default(),
        };
        // A file of its own goes before the field, as in transformers.
        let source = match template {
            Some(template) => Some((path("chat_template.jinja"), template)),
            None => config
                .chat_template
                .and_then(Template::into_default)
                .map(|template| (file.clone(), template)),
        };
        // A model whose template cannot be used still runs without it.
        let chat_template = source.map(|(file, source)| {
            environment(&source).map_err(|e| format!("{file}: broken chat template: {e}"))
        });
        let eos_token = config.eos_token.map(Special::into_text);
        let eos_id = match &eos_token {
            Some(token) => Some(inner.token_to_id(token).ok_or_else(|| {
                Error::tokenizer(
                    &file,
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
        let environment = self.chat_template.as_ref().map(|template| {
            let broken = |problem: &String| Error::Invalid(problem.clone());
            template.as_ref().map_err(broken)
        });
        let Some(environment) = environment.transpose()? else {
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
        let text = guarded(|| self.inner.decode(ids, true));
        text.map_err(|e| Error::tokenizer("tokenizer.json", format!("cannot decode: {e}")))
    }

    /// Tokens of a prompt without a chat template. Special tokens are left away where the text
    /// begins with them, as in mlx-lm.
    ///
    /// # Errors
    ///
    /// Text that the tokenizer cannot encode.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let begun = self
            .bos_token
            .as_ref()
            .is_some_and(|bos| text.starts_with(bos));
        self.encode_with(text, !begun)
    }

    fn encode_with(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = guarded(|| self.inner.encode_fast(text, special));
        let encoding = encoding
            .map_err(|e| Error::tokenizer("tokenizer.json", format!("cannot encode: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Does what the tokenizers crate does, which panics on some files that are no tokenizers. It keeps
/// nothing by then that is used again.
fn guarded<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(told) => {
            let text = told.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| told.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("the tokenizers crate gave up").to_owned())
        }
    }
}

/// What a template may cost: steps of its program, of which one stands for 64 bytes of text too.
/// Chats of megabytes stay far below; a template that was made to run or to grow for ever ends.
const FUEL: u64 = 1 << 22;

/// Widest indentation of `tojson`.
const WIDEST_INDENT: usize = 64;

/// A template environment as Hugging Face's templates expect it.
fn environment(source: &str) -> Result<Environment<'static>, TemplateError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax?);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<String, TemplateError> {
            Err(TemplateError::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_filter("tojson", python_json);
    environment.add_template_owned(TEMPLATE, without_generation_tags(source))?;
    Ok(environment)
}

/// `tojson` as transformers defines it: Python's separators, and no escaping for HTML.
fn python_json(value: TemplateValue, options: Kwargs) -> Result<String, TemplateError> {
    let indent: Option<usize> = options.get("indent")?;
    if let Some(width) = indent.filter(|&width| width > WIDEST_INDENT) {
        let problem = format!("an indent of {width} is more than {WIDEST_INDENT}");
        return Err(TemplateError::new(ErrorKind::InvalidOperation, problem));
    }
    let invalid = |e: serde_json::Error| {
        TemplateError::new(
            ErrorKind::InvalidOperation,
            format!("cannot be written as JSON: {e}"),
        )
    };
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let spaces = b" ".repeat(width);
            let pretty = PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut Serializer::with_formatter(&mut bytes, pretty))
        }
        None => value.serialize(&mut Serializer::with_formatter(
            &mut bytes,
            PythonSeparators,
        )),
    }
    .map_err(invalid)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// JSON with a space after every comma and colon.
struct PythonSeparators;

impl Formatter for PythonSeparators {
    fn begin_array_value<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: Write + ?Sized>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Turns `{% generation %}` blocks, which only mark text for training and which minijinja does not
/// know, into blocks that are always shown. Signs of whitespace control stay.
fn without_generation_tags(source: &str) -> String {
    let mut text = source.to_owned();
    for begin in ["{% ", "{%- "] {
        for end in [" %}", " -%}"] {
            for (tag, replacement) in [("generation", "if true"), ("endgeneration", "endif")] {
                let [from, to] = [tag, replacement].map(|tag| format!("{begin}{tag}{end}"));
                text = text.replace(&from, &to);
            }
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &str = include_str!("../embedded/tokenizer.json");

    fn tokenizer(json: &str, template: &str) -> Tokenizer {
        let config = r#"{"bos_token": "<|startoftext|>", "eos_token": {"content": "<|im_end|>"}}"#;
        Tokenizer::parse(
            Path::new("m"),
            json,
            Some(config),
            Some(template.to_owned()),
        )
        .unwrap()
    }

    /// The text that a template makes of one message and these tools.
    fn rendered(template: &str, tools: Option<Value>) -> String {
        let tokenizer = tokenizer(TOKENIZER, template);
        let messages = [Message::new("user", "hello")];
        let ids = tokenizer
            .encode_chat(&messages, tools.as_ref(), true)
            .unwrap();
        tokenizer.decode(&ids).unwrap()
    }

    #[test]
    fn padding_and_truncation_stored_in_the_file_are_reset() {
        let mut json: Value = serde_json::from_str(TOKENIZER).unwrap();
        json["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
        });
        json["padding"] = serde_json::json!({
            "strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"
        });
        let text = "a text of more than four tokens, and of fewer than forty";
        let plain = tokenizer(TOKENIZER, "").encode(text).unwrap();
        assert!((5..40).contains(&plain.len()), "{}", plain.len());
        assert_eq!(
            tokenizer(&json.to_string(), "").encode(text).unwrap(),
            plain
        );
    }

    #[test]
    fn tojson_writes_what_python_writes() {
        let tools = serde_json::json!([{"b": "the user's a < b & c", "a": [1, 2.5, null, true]}]);
        assert_eq!(
            rendered("{{ tools | tojson }}", Some(tools.clone())),
            r#"[{"b": "the user's a < b & c", "a": [1, 2.5, null, true]}]"#
        );
        assert_eq!(
            rendered("{{ tools[0].a | tojson(indent=2) }}", Some(tools)),
            "[\n  1,\n  2.5,\n  null,\n  true\n]"
        );
    }

    #[test]
    fn python_methods_generation_blocks_and_missing_tools_work() {
        let template = "{% if tools %}tools{% endif %}{% for m in messages %}\
                        {%- generation -%} {{ m['content'].upper().strip() }} {%- endgeneration -%}\
                        {% endfor %}{% if add_generation_prompt %}!{% endif %}";
        assert_eq!(rendered(template, None), "HELLO!");
    }

    #[test]
    fn a_broken_template_is_an_error_only_where_it_is_used() {
        let tokenizer = tokenizer(TOKENIZER, "{% for %}");
        assert!(tokenizer.encode("plain text").is_ok());
        let error = tokenizer.encode_chat(&[Message::new("user", "x")], None, true);
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("m/chat_template.jinja: broken chat template: "),
            "{error}"
        );
    }

    #[test]
    fn a_template_that_runs_or_grows_for_ever_ends() {
        let check = |template: &str, expected: &str| {
            let tokenizer = tokenizer(TOKENIZER, template);
            let error = tokenizer.encode_chat(&[Message::new("user", "x")], None, true);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
        check(nested, "fuel");
        let doubled = "{% set n = namespace(t='x') %}{% for i in range(60) %}\
                       {% set n.t = n.t ~ n.t %}{% endfor %}";
        check(doubled, "fuel");
        check(
            "{{ [1] | tojson(indent=9999999999) }}",
            "indent of 9999999999",
        );
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_an_error() {
        let check = |text: &str| {
            let error = Tokenizer::parse(Path::new("m"), text, None, None).unwrap_err();
            let error = error.to_string();
            assert!(
                error.contains("tokenizer.json: not a valid tokenizer"),
                "{error}"
            );
        };
        check("{");
        check("{}");
        // On which the crate panics.
        let mut json: Value = serde_json::from_str(TOKENIZER).unwrap();
        json["normalizer"] =
            serde_json::json!({"type": "Precompiled", "precompiled_charsmap": "AA=="});
        check(&json.to_string());
    }

    #[test]
    fn a_template_can_refuse() {
        let tokenizer = tokenizer(TOKENIZER, "{{ raise_exception('no system message') }}");
        let error = tokenizer.encode_chat(&[Message::new("user", "x")], None, true);
        assert!(error.unwrap_err().to_string().contains("no system message"));
    }

    #[test]
    fn a_prompt_that_begins_with_the_first_token_gets_no_second_one() {
        let tokenizer = tokenizer(TOKENIZER, "");
        let once = tokenizer.encode_prompt("hi").unwrap();
        assert_eq!(tokenizer.encode_prompt("<|startoftext|>hi").unwrap(), once);
        assert_eq!(once, tokenizer.encode("hi").unwrap());
    }
}
