//! placeholder
#![allow(unused_imports)]
use super::{Connector, Framing, Options, Reader};
use crate::error::Result;
use crate::types::Position;
use arrow::datatypes::SchemaRef;
#[derive(Debug)]
pub struct FilesConnector {}
impl FilesConnector {
    pub fn new(_options: &Options, _schema: &SchemaRef, _framing: Framing) -> Result<FilesConnector> {
        unimplemented!()
    }
}
impl Connector for FilesConnector {
    fn start(&self) -> Result<Position> {
        unimplemented!()
    }
    fn end(&self) -> Result<Option<Position>> {
        unimplemented!()
    }
    fn open(&self, _from: &Position, _until: Option<&Position>, _projection: &[usize]) -> Result<Box<dyn Reader>> {
        unimplemented!()
    }
}
