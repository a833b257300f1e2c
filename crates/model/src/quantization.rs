//! Matrices in MLX's affine format: a few bits a value, with a scale and a bias for every group.
//!
//! A row of a matrix is cut into groups of neighbouring columns, of which each has a scale and a
//! bias in the matrix's float type: a value is `scale * q + bias`, and `q` has `bits` bits. A row
//! of `q` is packed into 32-bit words, lowest bits first (MLX 0.32.2, `mlx.core.quantize`). A
//! checkpoint has three tensors for such a matrix `m`, `m.weight`, `m.scales` and `m.biases`, and
//! its `config.json` says in `quantization` how they are packed (mlx-lm 0.32.2,
//! `mlx_lm/utils.py`).

use std::collections::BTreeMap;

use mlx_rs::{Array, Dtype, error::Result as MlxResult, ops, ops::indexing::TryIndexOp};
use serde_json::{Map, Value, json};

use crate::{
    Error, Result,
    tensors::{Role, TensorSpec, Tensors},
};

/// Bits of a value that MLX can pack.
pub const BITS: [i32; 6] = [2, 3, 4, 5, 6, 8];

/// Sizes of a group that MLX can pack.
pub const GROUP_SIZES: [i32; 3] = [32, 64, 128];

/// How one matrix is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheme {
    pub bits: i32,
    /// Columns that share a scale and a bias.
    pub group_size: i32,
}

impl Scheme {
    /// # Errors
    ///
    /// Bits or a group size that MLX does not have.
    pub fn new(bits: u64, group_size: u64) -> Result<Self, String> {
        let known = |what: &str, value: u64, all: &[i32]| {
            let found = all.iter().copied().find(|&it| it as u64 == value);
            found.ok_or_else(|| {
                let all: Vec<_> = all.iter().map(i32::to_string).collect();
                format!("{what} is {value}, and MLX has {}", all.join(", "))
            })
        };
        Ok(Self {
            bits: known("the number of bits", bits, &BITS)?,
            group_size: known("the group size", group_size, &GROUP_SIZES)?,
        })
    }

    /// Whether rows of this many columns are whole groups; mlx-lm leaves others unquantized.
    fn fits(self, columns: i32) -> bool {
        columns % self.group_size == 0
    }

    /// Shapes of the packed words and of the scales of a matrix `[rows, columns]`.
    fn shapes(self, rows: i32, columns: i32) -> (Vec<i32>, Vec<i32>) {
        let words = i64::from(columns) * i64::from(self.bits) / 32;
        (
            vec![rows, words as i32],
            vec![rows, columns / self.group_size],
        )
    }

    fn to_json(self) -> Map<String, Value> {
        let fields = json!({"group_size": self.group_size, "bits": self.bits, "mode": "affine"});
        match fields {
            Value::Object(fields) => fields,
            _ => unreachable!("an object was written above"),
        }
    }
}

/// How the matrices of a checkpoint are packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantization {
    default: Scheme,
    /// Modules that config.json names: packed in another way, or not.
    named: BTreeMap<String, Option<Scheme>>,
}

impl Quantization {
    /// Reads `quantization` of `config.json`, as mlx-lm writes it. `other` is
    /// `quantization_config`: mlx-lm's own copy of it, or the mark of another format.
    ///
    /// # Errors
    ///
    /// Another format than MLX's affine one, or bits and group sizes that MLX does not have.
    pub(crate) fn from_config(
        value: Option<&Value>,
        other: Option<&Value>,
    ) -> Result<Option<Self>, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return match other.filter(|other| !other.is_null()) {
                None => Ok(None),
                Some(other) => Err(format!(
                    "the weights are quantized in the format `{}`, and only MLX's own is \
                     supported; use an MLX copy of the model, or an unquantized one",
                    other["quant_method"].as_str().unwrap_or("unknown")
                )),
            };
        };
        let fields = value
            .as_object()
            .ok_or("quantization is not an object with bits and group_size")?;
        let default = scheme("quantization", fields)?;
        let mut named = BTreeMap::new();
        for (module, value) in fields {
            let scheme = match value {
                Value::Bool(quantized) => quantized.then_some(default),
                Value::Object(fields) => {
                    Some(scheme(&format!("quantization of {module}"), fields)?)
                }
                _ => continue,
            };
            named.insert(module.clone(), scheme);
        }
        Ok(Some(Self { default, named }))
    }

    /// The tensors of a checkpoint that is packed in this way, in place of those of plain floats.
    ///
    /// As in mlx-lm, a matrix that is not named is packed where the checkpoint has scales for it.
    pub(crate) fn stored(
        &self,
        plain: &[TensorSpec],
        has: impl Fn(&str) -> bool,
    ) -> Vec<TensorSpec> {
        let expand = |spec: &TensorSpec| {
            let module = spec.name.strip_suffix(".weight");
            let (Role::Matrix, Some(module)) = (spec.role, module) else {
                return vec![spec.clone()];
            };
            let unnamed = || has(&format!("{module}.scales")).then_some(self.default);
            let scheme = self.named.get(module).copied().unwrap_or_else(unnamed);
            match (scheme, spec.shape.as_slice()) {
                (Some(scheme), &[rows, columns]) => {
                    let (words, groups) = scheme.shapes(rows, columns);
                    let tensor = |part: &str, shape: &[i32], role| TensorSpec {
                        name: format!("{module}.{part}"),
                        shape: shape.to_vec(),
                        role,
                    };
                    vec![
                        tensor("weight", &words, Role::Packed),
                        tensor("scales", &groups, Role::Scale),
                        tensor("biases", &groups, Role::Scale),
                    ]
                }
                _ => vec![spec.clone()],
            }
        };
        plain.iter().flat_map(expand).collect()
    }
}

fn scheme(what: &str, fields: &Map<String, Value>) -> Result<Scheme, String> {
    let number = |key: &str| {
        let value = fields.get(key).and_then(Value::as_u64);
        value.ok_or_else(|| format!("{what}: {key} is missing or no whole number"))
    };
    match fields.get("mode").map(|mode| mode.as_str()) {
        None | Some(Some("affine")) => {}
        Some(mode) => {
            return Err(format!(
                "{what}: mode is `{}`, and only `affine` is supported; quantize the original \
                 model again in that mode, or use it unquantized",
                mode.unwrap_or("not a text")
            ));
        }
    }
    Scheme::new(number("bits")?, number("group_size")?)
        .map_err(|problem| format!("{what}: {problem}"))
}

/// Puts a tensor into `tensors`, packed where it is a matrix that can be.
///
/// # Errors
///
/// Those of MLX.
pub(crate) fn store(
    tensors: &mut Tensors,
    spec: &TensorSpec,
    array: Array,
    scheme: Option<Scheme>,
) -> Result<()> {
    match (spec.role, spec.name.strip_suffix(".weight")) {
        (Role::Matrix, Some(module)) => insert(tensors, module, array, scheme),
        _ => {
            // At once, so that what it was made from does not outlive this turn.
            array.eval()?;
            tensors.insert(spec.name.clone(), array);
            Ok(())
        }
    }
}

/// Puts the matrix `[rows, columns]` of a module into `tensors`, packed where whole groups fit.
///
/// # Errors
///
/// Those of MLX.
pub(crate) fn insert(
    tensors: &mut Tensors,
    module: &str,
    matrix: Array,
    scheme: Option<Scheme>,
) -> Result<()> {
    match scheme.filter(|it| it.fits(matrix.dim(-1))) {
        Some(scheme) => {
            let (words, scales, biases) = ops::quantize(&matrix, scheme.group_size, scheme.bits)?;
            for (part, array) in [("weight", words), ("scales", scales), ("biases", biases)] {
                // At once, so that the plain matrix is not kept for it.
                array.eval()?;
                tensors.insert(format!("{module}.{part}"), array);
            }
        }
        None => {
            matrix.eval()?;
            tensors.insert(format!("{module}.weight"), matrix);
        }
    }
    Ok(())
}

/// Packs every matrix among `plain` that can be.
///
/// # Errors
///
/// Those of MLX.
pub(crate) fn pack(tensors: &mut Tensors, plain: &[TensorSpec], scheme: Scheme) -> Result<()> {
    for spec in plain.iter().filter(|spec| spec.role == Role::Matrix) {
        if let Some(matrix) = tensors.remove(&spec.name) {
            store(tensors, spec, matrix, Some(scheme))?;
        }
    }
    Ok(())
}

/// Turns every packed matrix among `plain` into plain floats, in the type of its scales.
///
/// # Errors
///
/// Those of MLX.
pub(crate) fn unpack(tensors: &mut Tensors, plain: &[TensorSpec]) -> Result<()> {
    for (module, _, spec) in packed_modules(plain, tensors) {
        let matrix = Matrix::remove(tensors, module, spec.shape[1])?.dense()?;
        insert(tensors, module, matrix, None)?;
    }
    Ok(())
}

/// One matrix, `[outputs, inputs]`, packed or not.
pub(crate) enum Matrix {
    Plain {
        weight: Array,
        /// The same values, transposed once here instead of at every call.
        transposed: Array,
    },
    Packed {
        words: Array,
        scales: Array,
        biases: Array,
        scheme: Scheme,
    },
}

impl Matrix {
    /// Takes the matrix of a module with `inputs` columns out of tensors.
    ///
    /// # Errors
    ///
    /// A tensor that is missing, which the loaders have already ruled out.
    pub(crate) fn remove(tensors: &mut Tensors, module: &str, inputs: i32) -> Result<Self> {
        let mut take = |part: &str| tensors.remove(&format!("{module}.{part}"));
        let missing = || Error::Invalid(format!("the matrix of {module} is missing"));
        let weight = take("weight").ok_or_else(missing)?;
        let Some(scales) = take("scales") else {
            return Self::plain(weight);
        };
        Ok(Self::Packed {
            scheme: Scheme {
                bits: (i64::from(weight.dim(-1)) * 32 / i64::from(inputs)) as i32,
                group_size: inputs / scales.dim(-1).max(1),
            },
            words: weight,
            scales,
            biases: take("biases").ok_or_else(missing)?,
        })
    }

    fn plain(weight: Array) -> Result<Self> {
        let transposed = weight.transpose()?;
        Ok(Self::Plain { weight, transposed })
    }

    /// How it is packed; `None` for plain floats.
    pub(crate) fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::Plain { .. } => None,
            Self::Packed { scheme, .. } => Some(*scheme),
        }
    }

    /// Type of its values.
    pub(crate) fn dtype(&self) -> Dtype {
        match self {
            Self::Plain { weight, .. } => weight.dtype(),
            Self::Packed { scales, .. } => scales.dtype(),
        }
    }

    /// Matrices of the same inputs and scheme, one below the other; `traced` inside a function that
    /// MLX transforms, where nothing can be evaluated.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub(crate) fn join(mut parts: Vec<Self>, traced: bool) -> Result<Self> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let join = |part: fn(&Self) -> Option<&Array>| -> Result<Array> {
            let parts: Vec<_> = parts.iter().filter_map(part).collect();
            let joined = ops::concatenate(&parts, 0)?;
            if !traced {
                // The parts are no longer needed, and would double the memory.
                joined.eval()?;
            }
            Ok(joined)
        };
        let weight = join(|it| Some(it.parts().0))?;
        match parts[0].scheme() {
            None => Self::plain(weight),
            Some(scheme) => Ok(Self::Packed {
                words: weight,
                scales: join(|it| it.parts().1.map(|(scales, _)| scales))?,
                biases: join(|it| it.parts().1.map(|(_, biases)| biases))?,
                scheme,
            }),
        }
    }

    /// The weight as stored, and scales and biases of a packed one.
    fn parts(&self) -> (&Array, Option<(&Array, &Array)>) {
        match self {
            Self::Plain { weight, .. } => (weight, None),
            Self::Packed {
                words,
                scales,
                biases,
                ..
            } => (words, Some((scales, biases))),
        }
    }

    /// The tensors of some of its rows, under the names of a checkpoint.
    ///
    /// # Errors
    ///
    /// Those of MLX.
    pub(crate) fn rows(
        &self,
        module: &str,
        rows: std::ops::Range<i32>,
    ) -> Result<Vec<(String, Array)>> {
        let (weight, packing) = self.parts();
        let mut parts = vec![("weight", weight)];
        if let Some((scales, biases)) = packing {
            parts.extend([("scales", scales), ("biases", biases)]);
        }
        let row = |(part, array): (&str, &Array)| {
            Ok((format!("{module}.{part}"), array.try_index(rows.clone())?))
        };
        parts.into_iter().map(row).collect()
    }

    /// `x W^T` `[.., outputs]` of `x` `[.., inputs]`, and the bias `[outputs]` where there is one.
    pub(crate) fn product(&self, x: &Array, bias: Option<&Array>) -> MlxResult<Array> {
        match self {
            Self::Plain { transposed, .. } => match bias {
                Some(bias) => ops::addmm(bias, x, transposed, None, None),
                None => x.matmul(transposed),
            },
            Self::Packed {
                words,
                scales,
                biases,
                scheme,
            } => {
                let Scheme { bits, group_size } = *scheme;
                let y = ops::quantized_matmul(x, words, scales, biases, true, group_size, bits)?;
                match bias {
                    Some(bias) => y.add(bias),
                    None => Ok(y),
                }
            }
        }
    }

    /// Its rows by index: `[.., inputs]` of indices `[..]`.
    pub(crate) fn gather(&self, indices: &Array) -> MlxResult<Array> {
        match self {
            Self::Plain { weight, .. } => weight.take_axis(indices, 0),
            Self::Packed {
                words,
                scales,
                biases,
                scheme,
            } => ops::dequantize(
                words.take_axis(indices, 0)?,
                scales.take_axis(indices, 0)?,
                &biases.take_axis(indices, 0)?,
                scheme.group_size,
                scheme.bits,
            ),
        }
    }

    /// All of it as plain floats `[outputs, inputs]`.
    pub(crate) fn dense(&self) -> MlxResult<Array> {
        match self {
            Self::Plain { weight, .. } => Ok(weight.clone()),
            Self::Packed {
                words,
                scales,
                biases,
                scheme,
            } => ops::dequantize(words, scales, biases, scheme.group_size, scheme.bits),
        }
    }
}

/// Matrices that are packed in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    pub scheme: Scheme,
    pub matrices: u32,
    /// Values of all of them.
    pub parameters: u64,
}

/// How the matrices among `plain` are packed in `tensors`, by scheme; empty where none is.
pub(crate) fn packed(plain: &[TensorSpec], tensors: &Tensors) -> Vec<Packed> {
    let mut found: BTreeMap<Scheme, Packed> = BTreeMap::new();
    for (_, scheme, spec) in packed_modules(plain, tensors) {
        let packed = found.entry(scheme).or_insert(Packed {
            scheme,
            matrices: 0,
            parameters: 0,
        });
        packed.matrices += 1;
        packed.parameters += spec.shape.iter().map(|&d| d as u64).product::<u64>();
    }
    found.into_values().collect()
}

/// `quantization` of `config.json` for these tensors, as mlx-lm reads it back; `None` where no
/// matrix is packed.
pub(crate) fn to_config(plain: &[TensorSpec], tensors: &Tensors) -> Option<Value> {
    let most = packed(plain, tensors).into_iter();
    let default = most.max_by_key(|it| it.parameters)?.scheme;
    let mut fields = default.to_json();
    for (module, scheme, _) in packed_modules(plain, tensors) {
        if scheme != default {
            fields.insert(module.to_owned(), Value::Object(scheme.to_json()));
        }
    }
    Some(Value::Object(fields))
}

fn packed_modules<'a>(
    plain: &'a [TensorSpec],
    tensors: &Tensors,
) -> Vec<(&'a str, Scheme, &'a TensorSpec)> {
    let scheme = |spec: &'a TensorSpec| {
        let module = spec.name.strip_suffix(".weight")?;
        let scales = tensors.get(&format!("{module}.scales"))?;
        let &[_, columns] = spec.shape.as_slice() else {
            return None;
        };
        let words = tensors.get(&spec.name)?.dim(-1);
        let scheme = Scheme {
            bits: (i64::from(words) * 32 / i64::from(columns)) as i32,
            group_size: columns / scales.dim(-1).max(1),
        };
        Some((module, scheme, spec))
    };
    plain.iter().filter_map(scheme).collect()
}
