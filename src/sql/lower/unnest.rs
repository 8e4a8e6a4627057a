//! Rows to many: lists that DataFusion planned to be unnested.

use std::collections::HashMap;

use datafusion::common::NullHandling;
use datafusion::logical_expr::Unnest;

use super::Lowering;
use crate::error::{Error, Result};
use crate::plan::{EmptyLists, StreamNode, StreamPlan, UnnestColumn};

impl Lowering<'_> {
    pub(super) fn unnest(&self, unnest: &Unnest) -> Result<StreamPlan> {
        let input = self.node(&unnest.input)?;
        if unnest.list_type_columns.iter().any(|(_, list)| list.depth != 1) {
            return Err(Error::unsupported(
                "unnest of unnest in a maintained view",
                "unnest goes through all dimensions of an array at once",
            ));
        }
        let mut fields_seen: HashMap<usize, usize> = HashMap::new();
        let column = |&source: &usize| {
            if unnest.list_type_columns.iter().any(|(list, _)| *list == source) {
                UnnestColumn::Element(source)
            } else if unnest.struct_type_columns.contains(&source) {
                let field = fields_seen.entry(source).or_default();
                *field += 1;
                UnnestColumn::Field(source, *field - 1)
            } else {
                UnnestColumn::Copy(source)
            }
        };
        let columns: Vec<UnnestColumn> = unnest.dependency_indices.iter().map(column).collect();
        let empty = match unnest.options.null_handling {
            NullHandling::Drop => EmptyLists::Drop,
            NullHandling::Preserve => EmptyLists::KeepNull,
            NullHandling::PreserveAndExpandEmpty => EmptyLists::Keep,
        };
        let sources = columns.iter().map(|column| match column {
            UnnestColumn::Copy(source) => Some(*source),
            _ => None,
        });
        let mut properties = input.properties.project(&sources.collect::<Vec<_>>());
        // A row comes out any number of times; only one that cannot multiply keeps its key.
        if !unnest.list_type_columns.is_empty() {
            properties.key = None;
        }
        let schema = unnest.schema.inner().clone();
        Ok(StreamPlan { node: StreamNode::Unnest { input: Box::new(input), columns, empty }, schema, properties })
    }
}
