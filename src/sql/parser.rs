//! Text to [`Statement`]s.

use super::Statement;
use crate::error::Result;

/// All statements of a message, in order. 42601 with a position where the grammar ends; 0A000 with a hint for what the
/// grammar knows and we do not.
pub fn parse(text: &str) -> Result<Vec<Statement>> {
    let _ = text;
    unimplemented!()
}
