//! Files on disk, read whole, in pieces, and while they grow.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int32Type, Schema, SchemaRef};

use super::*;
use crate::connectors::{Chunk, Payload, Polled};
use crate::types::{BadRecord, PgType};

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

const CSV: Framing = Framing::QuotedLines { header: true, delimiter: b',', quote: b'"', escape: b'"' };

fn connector(path: &Path, more: &[(&str, &str)], framing: Framing, schema: &SchemaRef) -> Result<FilesConnector> {
    let mut values = BTreeMap::from([("path".to_string(), path.display().to_string())]);
    values.extend(more.iter().map(|(key, value)| (key.to_string(), value.to_string())));
    FilesConnector::new(&Options::new(values), schema, framing)
}

fn none() -> SchemaRef {
    Arc::new(Schema::empty())
}

/// Records as `partition:position:text`, until there is nothing to read for a moment.
fn drain(reader: &mut dyn Reader) -> Result<(Vec<String>, Position, Vec<BadRecord>)> {
    let (mut texts, mut position, mut bad) = (vec![], Position::default(), vec![]);
    loop {
        match reader.poll(Duration::from_millis(60))? {
            Polled::Chunk(Chunk {
                partition, payload: Payload::Records(records), bad_records, next_offset, ..
            }) => {
                for index in 0..records.len() {
                    let text = String::from_utf8_lossy(records.get(index)).into_owned();
                    texts.push(format!("{partition}:{}:{text}", records.positions[index]));
                }
                position.0.insert(partition, next_offset);
                bad.extend(bad_records);
            }
            Polled::Chunk(_) => return Err(Error::internal("rows of a text file")),
            Polled::Idle | Polled::Finished => return Ok((texts, position, bad)),
        }
    }
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[test]
fn a_directory_is_read_by_name_whatever_its_compression() -> Outcome {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("b.csv.gz"), gzip(b"h\n1\r\n\r\n\"x\ny\",2\n3")?)?;
    fs::write(dir.path().join("a.csv"), "\u{feff}h\n\"q\n")?;
    fs::write(dir.path().join("c.csv.zst"), zstd::encode_all(&b"h\nz\n"[..], 1)?)?;
    fs::write(dir.path().join("d.csv"), "")?;
    let files = connector(dir.path(), &[], CSV, &none())?;
    let start = files.start()?;
    assert_eq!(start.0.len(), 4);
    let (texts, position, _) = drain(files.open(&start, None, &[])?.as_mut())?;
    assert_eq!(texts, ["a.csv:5:\"q\n", "b.csv.gz:2:1", "b.csv.gz:7:\"x\ny\",2", "b.csv.gz:15:3", "c.csv.zst:2:z"]);
    assert_eq!(position.get("b.csv.gz"), Some(16));
    let (again, ..) = drain(files.open(&start, files.end()?.as_ref(), &[])?.as_mut())?;
    assert_eq!(again, texts);
    Ok(())
}

#[test]
fn any_span_can_be_read_again() -> Outcome {
    let dir = tempfile::tempdir()?;
    let lines: String = (0..30_000).map(|n| format!("line {n}{}\n", "x".repeat(n % 100))).collect();
    fs::write(dir.path().join("plain"), &lines)?;
    fs::write(dir.path().join("zipped.gz"), gzip(lines.as_bytes())?)?;
    let files = connector(dir.path(), &[], Framing::Lines, &none())?;
    let start = files.start()?;
    let (whole, end, _) = drain(files.open(&start, None, &[])?.as_mut())?;
    assert_eq!(whole.len(), 60_000);
    assert_eq!(end.get("plain"), Some(lines.len() as u64));
    for cut in [0, 1, 7, 1_000_000, lines.len() - 1, lines.len()] {
        // Only ends of records are offsets: go back to the last one.
        let cut = lines[..cut].rfind('\n').map_or(0, |at| at + 1) as u64;
        let middle = Position(start.0.keys().map(|name| (name.clone(), cut)).collect());
        let (mut texts, ..) = drain(files.open(&start, Some(&middle), &[])?.as_mut())?;
        texts.extend(drain(files.open(&middle, None, &[])?.as_mut())?.0);
        texts.sort();
        let mut expected = whole.clone();
        expected.sort();
        assert!(texts == expected, "cut at {cut}");
    }
    Ok(())
}

#[test]
fn followed_files_grow_and_new_ones_come() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.json");
    fs::write(&path, "1\n2\n3 is not")?;
    let files = connector(dir.path(), &[("follow", "true")], Framing::Lines, &none())?;
    let mut reader = files.open(&files.start()?, None, &[])?;
    let (texts, position, _) = drain(reader.as_mut())?;
    assert_eq!((texts, position.get("a.json")), (vec!["a.json:0:1".to_string(), "a.json:2:2".to_string()], Some(4)));
    let mut file = fs::OpenOptions::new().append(true).open(&path)?;
    file.write_all(b" complete\n4")?;
    assert_eq!(drain(reader.as_mut())?.0, ["a.json:4:3 is not complete"]);
    fs::write(dir.path().join("b.json"), "5\n")?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut texts = vec![];
    while texts.is_empty() && Instant::now() < deadline {
        texts = drain(reader.as_mut())?.0;
    }
    assert_eq!(texts, ["b.json:0:5"]);
    assert_eq!(reader.partitions(), ["a.json", "b.json"]);
    fs::write(&path, "")?;
    let error = (0..50).find_map(|_| drain(reader.as_mut()).err()).ok_or("a shrunk file is trouble")?;
    assert!(error.message.contains("has shrunk"), "{error}");
    Ok(())
}

#[test]
fn a_compressed_file_that_breaks_off_is_trouble() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.gz");
    let whole = gzip("line\n".repeat(100_000).as_bytes())?;
    fs::write(&path, &whole[..whole.len() - 4])?;
    let once = connector(&path, &[], Framing::Lines, &none())?;
    let error = drain(once.open(&once.start()?, None, &[])?.as_mut()).expect_err("it breaks off");
    assert_eq!(error.code, SqlState::IO_ERROR);
    let following = connector(&path, &[("follow", "true")], Framing::Lines, &none())?;
    let mut reader = following.open(&following.start()?, None, &[])?;
    let before = drain(reader.as_mut())?.0.len();
    fs::write(&path, &whole)?;
    assert_eq!(before + drain(reader.as_mut())?.0.len(), 100_000);
    Ok(())
}

#[test]
fn a_record_beyond_the_limit_is_told_and_passed_over() -> Outcome {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a.gz");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&path)?, flate2::Compression::fast());
    encoder.write_all(b"first\n")?;
    let block = vec![b'x'; 1 << 20];
    for _ in 0..258 {
        encoder.write_all(&block)?;
    }
    encoder.write_all(b"\nlast\n")?;
    encoder.finish()?;
    let files = connector(&path, &[], Framing::Lines, &none())?;
    let (texts, _, bad) = drain(files.open(&files.start()?, None, &[])?.as_mut())?;
    assert_eq!(texts, ["a.gz:0:first".to_string(), format!("a.gz:{}:last", 7 + (258 << 20))]);
    assert_eq!((bad.len(), bad[0].position, bad[0].reason.as_str()), (1, 6, "record is longer than 256 MiB"));
    Ok(())
}

fn write_parquet(path: &Path, ids: std::ops::Range<i64>) -> Outcome {
    let names: Vec<String> = ids.clone().map(|id| format!("n{id}")).collect();
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("ID", Arc::new(Int64Array::from_iter_values(ids))),
        ("name", Arc::new(StringArray::from(names))),
        ("other", Arc::new(Int64Array::from(vec![0; 0]))),
    ];
    let batch = RecordBatch::try_from_iter(columns.into_iter().take(2))?;
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(fs::File::create(path)?, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(())
}

#[test]
fn parquet_columns_are_found_by_name_and_cast() -> Outcome {
    let dir = tempfile::tempdir()?;
    write_parquet(&dir.path().join("a.parquet"), 0..10_000)?;
    write_parquet(&dir.path().join("b.parquet"), (1 << 40)..(1 << 40) + 1)?;
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![PgType::Text.field("name", false), PgType::Int4.field("id", false)]));
    let files = connector(dir.path(), &[], Framing::Parquet, &schema)?;
    let from = Position(BTreeMap::from([("a.parquet".to_string(), 9_998)]));
    let mut reader = files.open(&from, files.end()?.as_ref(), &[0, 1])?;
    let (mut rows, mut bad) = (vec![], vec![]);
    while let Polled::Chunk(Chunk { payload: Payload::Rows(batch), bad_records, .. }) = reader.poll(Duration::ZERO)? {
        for row in 0..batch.num_rows() {
            let (name, id) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int32Type>());
            rows.push(format!("{} {}", name.value(row), id.value(row)));
        }
        bad.extend(bad_records);
    }
    assert_eq!(rows, ["n9998 9998", "n9999 9999"]);
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].reason, "column \"id\": 1099511627776 is out of range for integer");
    // Without columns, rows can still be counted.
    let mut counting = files.open(&files.start()?, None, &[])?;
    let mut count = 0;
    while let Polled::Chunk(Chunk { payload: Payload::Rows(batch), .. }) = counting.poll(Duration::ZERO)? {
        count += batch.num_rows();
    }
    assert_eq!(count, 10_001);
    let code = |name: &str, pg_type: PgType| -> Result<&str> {
        let schema: SchemaRef = Arc::new(Schema::new(vec![pg_type.field(name, true)]));
        Ok(connector(dir.path(), &[], Framing::Parquet, &schema)?.start().expect_err("it does not fit").code.0)
    };
    assert_eq!(code("price", PgType::Int4)?, "42703");
    assert_eq!(code("id", PgType::Record(vec![("a".into(), PgType::Bool)]))?, "42804");
    fs::write(dir.path().join("c.parquet"), "PAR")?;
    assert_eq!(code("name", PgType::Text)?, "58030");
    Ok(())
}

#[test]
fn options_and_missing_files() -> Outcome {
    let path = Path::new("/nowhere/to/be/found.csv");
    let files = connector(path, &[], Framing::Lines, &none())?;
    assert_eq!(files.start().expect_err("it is not there").message, "no file matches \"/nowhere/to/be/found.csv\"");
    assert_eq!(files.open(&Position::default(), None, &[]).err().expect("still not there").code.0, "58030");
    let wrong = connector(path, &[("compression", "lzma")], Framing::Lines, &none()).expect_err("unknown");
    assert_eq!(wrong.hint.as_deref(), Some("it takes gzip, zstd or none"));
    Ok(())
}

#[test]
fn a_file_that_vanishes_before_it_was_read_is_trouble() -> Outcome {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("a"), "1\n")?;
    fs::write(dir.path().join("b"), "2\n")?;
    let files = connector(dir.path(), &[], Framing::Lines, &none())?;
    let start = files.start()?;
    fs::remove_file(dir.path().join("b"))?;
    let error = files.open(&start, None, &[]).err().ok_or("b was to be read")?;
    assert!(error.message.starts_with("file \"b\" under"), "{error}");
    let read = Position(BTreeMap::from([("a".to_string(), 0), ("b".to_string(), 2)]));
    assert_eq!(drain(files.open(&read, None, &[])?.as_mut())?.0, ["a:0:1"]);
    Ok(())
}
