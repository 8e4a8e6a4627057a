//! placeholder
#![allow(unused_imports)]
use super::{Connector, Framing, Options, Reader};
use crate::error::Result;
use crate::types::Position;
use arrow::datatypes::SchemaRef;
#[derive(Debug)]
pub struct KafkaConnector {}
impl KafkaConnector {
    pub fn new(_options: &Options) -> Result<KafkaConnector> {
        unimplemented!()
    }
}
impl Connector for KafkaConnector {
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
