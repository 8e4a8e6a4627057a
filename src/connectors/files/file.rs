//! One file as a stream of decompressed bytes that can be opened at any offset.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub fn by_extension(path: &Path) -> Compression {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz" | "gzip") => Compression::Gzip,
            Some("zst" | "zstd") => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// 58030: `could not open file "x": No such file or directory`.
pub fn failure(what: &str, path: &Path, error: std::io::Error) -> Error {
    let file = if what.ends_with("directory") { "" } else { " file" };
    let error = error.to_string();
    let error = error.split(" (os error").next().unwrap_or(&error);
    Error::new(SqlState::IO_ERROR, format!("could not {what}{file} \"{}\": {}", path.display(), lower(error)))
}

fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// 58030: the file is shorter than what was read of it.
pub fn shrunk(path: &Path, offset: u64) -> Error {
    let message = format!("file \"{}\" has shrunk: {offset} bytes of it were read before", path.display());
    Error::new(SqlState::IO_ERROR, message)
        .with_hint("files may only grow; put it back, or drop the source and create it again")
}

const BUFFER_BYTES: usize = 256 << 10;

/// The decompressed bytes from `offset` on. 58030 if there are not that many.
pub fn open_at(path: &Path, compression: Compression, offset: u64) -> Result<Box<dyn Read + Send>> {
    let mut file = File::open(path).map_err(|e| failure("open", path, e))?;
    let read = |e| failure("read", path, e);
    if compression == Compression::None {
        if file.metadata().map_err(read)?.len() < offset {
            return Err(shrunk(path, offset));
        }
        file.seek(SeekFrom::Start(offset)).map_err(read)?;
        return Ok(Box::new(file));
    }
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let mut stream: Box<dyn Read + Send> = match compression {
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        _ => Box::new(zstd::stream::read::Decoder::with_buffer(file).map_err(read)?),
    };
    let skipped = std::io::copy(&mut (&mut stream).take(offset), &mut std::io::sink()).map_err(read)?;
    if skipped < offset { Err(shrunk(path, offset)) } else { Ok(stream) }
}
