//! How much memory Metal is told to keep resident.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Info;
use crate::{Error, Result};

/// A choice of the wired limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Wired {
    /// MLX's own limit, which is none.
    #[default]
    Off,
    /// Metal's recommended working set, as mlx-lm does.
    Recommended,
    Bytes(u64),
}

impl Wired {
    /// The limit to set; `None` for none.
    pub(super) fn limit(self, info: &Info) -> Result<Option<u64>> {
        if self == Self::Off {
            return Ok(None);
        }
        let recommended = info.working_set_bytes.filter(|_| info.backend == "metal");
        let Some(recommended) = recommended else {
            return Err(Error::Device(format!(
                "wired {self} has an effect on Metal alone, and this is the {} back end; leave it \
                 out, or say off",
                info.backend
            )));
        };
        match self {
            Self::Bytes(bytes) if bytes > recommended => Err(Error::Device(format!(
                "wired {bytes} is more than Metal's recommended working set; it can be {recommended} \
                 at most"
            ))),
            Self::Bytes(bytes) => Ok(Some(bytes)),
            _ => Ok(Some(recommended)),
        }
    }
}

impl fmt::Display for Wired {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Recommended => formatter.write_str("recommended"),
            Self::Bytes(bytes) => bytes.fmt(formatter),
        }
    }
}

impl FromStr for Wired {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "recommended" => Ok(Self::Recommended),
            _ => text.parse().map_err(|_| text.to_owned()).and_then(bytes),
        }
        .map_err(|given| format!("`{given}` is not off, recommended or a number of bytes above 0"))
    }
}

fn bytes(bytes: u64) -> Result<Wired, String> {
    match bytes {
        0 => Err(bytes.to_string()),
        _ => Ok(Wired::Bytes(bytes)),
    }
}

/// As a file of settings may have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes(u64),
}

impl TryFrom<Written> for Wired {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Bytes(bytes) => bytes.to_string().parse(),
        }
    }
}

impl From<Wired> for String {
    fn from(wired: Wired) -> Self {
        wired.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for (text, wired) in [
            ("off", Wired::Off),
            ("recommended", Wired::Recommended),
            ("25769803776", Wired::Bytes(24 << 30)),
        ] {
            assert_eq!(text.parse(), Ok(wired));
            assert_eq!(wired.to_string(), text);
        }
        for text in ["", "on", "0", "-1", "24GB", "Off"] {
            let problem = text.parse::<Wired>().unwrap_err();
            assert!(
                problem.starts_with(&format!("`{text}` is not")),
                "{problem}"
            );
        }
        let read = |value: serde_json::Value| serde_json::from_value::<Wired>(value).ok();
        assert_eq!(read(7.into()), Some(Wired::Bytes(7)));
        assert_eq!(read("off".into()), Some(Wired::Off));
        assert_eq!((read(0.into()), read(true.into())), (None, None));
        assert_eq!(serde_json::to_value(Wired::Bytes(7)).unwrap(), "7");
    }

    #[test]
    fn only_metal_has_a_limit_and_none_above_its_working_set() {
        let metal = Info {
            backend: "metal",
            working_set_bytes: Some(100),
            ..Info::default()
        };
        let limit = |wired: Wired| wired.limit(&metal).ok();
        assert_eq!(limit(Wired::Off), Some(None));
        assert_eq!(limit(Wired::Recommended), Some(Some(100)));
        assert_eq!(limit(Wired::Bytes(100)), Some(Some(100)));
        assert_eq!(limit(Wired::Bytes(101)), None);
        let cuda = Info {
            backend: "cuda",
            working_set_bytes: Some(100),
            ..Info::default()
        };
        assert_eq!(Wired::Off.limit(&cuda).unwrap(), None);
        let problem = Wired::Recommended.limit(&cuda).unwrap_err().to_string();
        assert!(
            problem.contains("on Metal alone, and this is the cuda back end"),
            "{problem}"
        );
    }
}
