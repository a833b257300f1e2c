//! The tensors of a checkpoint: what each is, and their arrays by name.

use std::collections::BTreeMap;

use mlx_rs::Array;

/// Arrays by checkpoint name.
pub type Tensors = BTreeMap<String, Array>;

/// One tensor of the checkpoint, in MLX's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub shape: Vec<i32>,
    pub role: Role,
}

/// What a tensor is, as far as its initialisation and its layout on disk depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Matrix,
    /// A matrix of a quantized checkpoint: several values in each 32-bit word.
    Packed,
    /// The scales or the biases of one.
    Scale,
    Norm,
    Bias,
    /// `[channels, kernel, 1]`; PyTorch stores `[channels, 1, kernel]`, the same bytes.
    ConvKernel,
}
