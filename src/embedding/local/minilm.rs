//! The encoder: token states of all-MiniLM-L6-v2, their mean, scaled to length one. As sentence-transformers does it.

use std::path::Path;

use rten::{LoadError, Model, NodeId, RunError, TryFromValueError, Value};

use super::wordpiece::WordPiece;

/// Numbers in a vector.
pub(super) const DIMENSIONS: usize = 384;

/// Longer texts are cut here (`max_seq_length` of the model).
const MAX_TOKENS: usize = 256;

/// Texts run through the model at once.
const BATCH: usize = 32;

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub(super) enum MiniLmError {
    #[error("the model can not be loaded")]
    Load(#[from] LoadError),
    #[error("the vocabulary lacks the special token {0}")]
    Vocabulary(&'static str),
    #[error("the model failed")]
    Run(#[from] RunError),
    #[error("the model gave another output than expected")]
    Output(#[from] TryFromValueError),
    #[error("the model gave an output of shape {0:?}")]
    Shape([usize; 3]),
    #[error("the model's input can not be built")]
    Input(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A loaded encoder. Share it: embedding takes `&self`, and it holds some 100 MB.
pub(super) struct MiniLm {
    tokenizer: WordPiece,
    model: Model,
    /// `input_ids`, `attention_mask`, `token_type_ids`.
    inputs: [NodeId; 3],
    output: NodeId,
}

impl MiniLm {
    /// Loads an ONNX file.
    pub(super) fn load(file: &Path) -> Result<Self, MiniLmError> {
        let tokenizer = WordPiece::new().map_err(MiniLmError::Vocabulary)?;
        let model = Model::load_file(file)?;
        let node = |name| model.node_id(name);
        let inputs = [node("input_ids")?, node("attention_mask")?, node("token_type_ids")?];
        let output = node("last_hidden_state")?;
        Ok(Self { tokenizer, model, inputs, output })
    }

    /// The vectors of texts, in their order, and how many tokens were read. Blocks.
    pub(super) fn embed(&self, texts: &[String]) -> Result<(Vec<Vec<f32>>, u64), MiniLmError> {
        let encode = |text: &String| self.tokenizer.encode(text, MAX_TOKENS);
        let mut rows: Vec<_> = texts.iter().map(encode).enumerate().collect();
        let tokens = rows.iter().map(|(_, ids)| ids.len() as u64).sum();
        // Similar lengths share a batch, so that little of it is padding.
        rows.sort_by_key(|(_, ids)| ids.len());
        let mut placed = Vec::with_capacity(rows.len());
        for batch in rows.chunks(BATCH) {
            let vectors = self.run(batch)?;
            placed.extend(batch.iter().map(|(place, _)| *place).zip(vectors));
        }
        placed.sort_by_key(|(place, _)| *place);
        Ok((placed.into_iter().map(|(_, vector)| vector.to_vec()).collect(), tokens))
    }

    fn run(&self, batch: &[(usize, Vec<i32>)]) -> Result<Vec<[f32; DIMENSIONS]>, MiniLmError> {
        let width = batch.iter().map(|(_, ids)| ids.len()).max().unwrap_or_default();
        let mut tokens = Vec::with_capacity(batch.len() * width);
        let mut mask = Vec::with_capacity(batch.len() * width);
        for (end, (_, ids)) in (1..).map(|row| row * width).zip(batch) {
            tokens.extend_from_slice(ids);
            mask.resize(tokens.len(), 1);
            tokens.resize(end, 0);
            mask.resize(end, 0);
        }
        let types = vec![0; tokens.len()];
        let mut inputs = Vec::with_capacity(self.inputs.len());
        for (node, data) in self.inputs.into_iter().zip([tokens, mask, types]) {
            let value = Value::from_shape([batch.len(), width], data);
            inputs.push((node, value.map_err(|e| MiniLmError::Input(e.into()))?.into()));
        }
        let [states] = self.model.run_n(inputs, [self.output], None)?;
        let (shape, states) = states.into_shape_vec::<f32, 3>()?;
        if shape != [batch.len(), width, DIMENSIONS] {
            return Err(MiniLmError::Shape(shape));
        }
        let texts = states.chunks_exact(width * DIMENSIONS).zip(batch);
        Ok(texts.map(|(states, (_, ids))| pool(states, ids.len())).collect())
    }
}

/// The direction of the mean of the first `count` states; the rest are padding.
fn pool(states: &[f32], count: usize) -> [f32; DIMENSIONS] {
    let mut sum = [0.0_f32; DIMENSIONS];
    for state in states.chunks_exact(DIMENSIONS).take(count) {
        sum.iter_mut().zip(state).for_each(|(total, x)| *total += x);
    }
    // Scaling to length 1 makes dividing by `count` superfluous.
    let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.map(|x| x / norm)
}
