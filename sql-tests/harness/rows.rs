//! Reading results as text, the way psql sees them.

use std::collections::BTreeMap;

use tokio_postgres::SimpleQueryMessage;

use super::{Client, TestResult};

/// All rows of a query by the simple protocol; NULL is `None`.
pub async fn rows(client: &Client, sql: &str) -> TestResult<Vec<Vec<Option<String>>>> {
    let messages = client.simple_query(sql).await.map_err(|error| format!("{error:?}\nin: {sql}"))?;
    let mut rows = vec![];
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push((0..row.len()).map(|column| row.get(column).map(str::to_string)).collect());
        }
    }
    Ok(rows)
}

/// The single value of a query, NULL as `NULL`.
pub async fn one(client: &Client, sql: &str) -> TestResult<String> {
    let mut rows = rows(client, sql).await?;
    match (rows.len(), rows.pop().unwrap_or_default().as_slice()) {
        (1, [value]) => Ok(value.clone().unwrap_or_else(|| "NULL".to_string())),
        (count, columns) => {
            Err(format!("{count} rows of {} columns instead of one value: {sql}", columns.len()).into())
        }
    }
}

/// The columns of a query's single row as whole numbers, NULL as 0.
pub async fn ints(client: &Client, sql: &str) -> TestResult<Vec<i64>> {
    let rows = rows(client, sql).await?;
    let [row] = rows.as_slice() else { return Err(format!("{} rows instead of one: {sql}", rows.len()).into()) };
    row.iter().map(|value| value.as_deref().map_or(Ok(0), |text| Ok(text.parse()?))).collect()
}

/// One row as a line: `(1,apple,NULL)`.
pub fn text(row: &[Option<String>]) -> String {
    let values: Vec<&str> = row.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    format!("({})", values.join(","))
}

/// Multisets of rows by their tag.
pub type Tagged = BTreeMap<String, BTreeMap<String, usize>>;

/// Runs a query whose first column is a tag and counts the rows under each tag: the tagged union. All branches of
/// one query are read at one epoch, so what stands under two tags can be compared.
pub async fn tagged(client: &Client, sql: &str) -> TestResult<Tagged> {
    let mut tagged = Tagged::new();
    for row in rows(client, sql).await? {
        let Some((Some(tag), rest)) = row.split_first() else { return Err("a row without a tag".into()) };
        *tagged.entry(tag.clone()).or_default().entry(text(rest)).or_default() += 1;
    }
    Ok(tagged)
}
