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

/// What is found too often or not often enough, a row a line.
pub fn difference(found: &BTreeMap<String, usize>, expected: &BTreeMap<String, usize>) -> String {
    let mut lines = vec![];
    for row in found.keys().chain(expected.keys().filter(|row| !found.contains_key(*row))) {
        let (have, want) = (found.get(row).copied().unwrap_or(0), expected.get(row).copied().unwrap_or(0));
        if have != want {
            lines.push(format!("{row}: {have} times instead of {want}"));
        }
    }
    lines.truncate(30);
    lines.join("\n")
}

/// Digits behind the point that are compared with PostgreSQL.
const DIGITS_COMPARED: usize = 4;

/// A number with a point rounded half away from zero and without trailing zeros, `12.50001` as `12.5`; any other text as it
/// is. PostgreSQL shows more digits of a quotient than we keep. Two quotients of small whole numbers that differ beyond the
/// digits kept cannot round apart: a half is itself a quotient that both show exactly.
pub fn rounded(text: &str) -> String {
    let (sign, number) = match text.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", text),
    };
    let Some((whole, fraction)) = number.split_once('.') else { return text.to_string() };
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || whole.len() > 30 {
        return text.to_string();
    }
    let up = fraction.as_bytes().get(DIGITS_COMPARED).is_some_and(|digit| *digit >= b'5');
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(DIGITS_COMPARED).collect();
    let Ok(scaled) = format!("{whole}{kept}").parse::<u128>() else { return text.to_string() };
    let scaled = scaled + u128::from(up);
    let (unit, mut fraction) = (10u128.pow(DIGITS_COMPARED as u32), String::new());
    if scaled % unit != 0 {
        fraction = format!(".{:04}", scaled % unit).trim_end_matches('0').to_string();
    }
    let sign = if scaled == 0 { "" } else { sign };
    format!("{sign}{}{fraction}", scaled / unit)
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn numbers_are_rounded_and_texts_are_not() {
        let cases = [
            ("12.50", "12.5"),
            ("-0.00001", "0"),
            ("0.33333333333", "0.3333"),
            ("-2.99995", "-3"),
            ("7", "7"),
            ("1.2.3", "1.2.3"),
            ("a.5", "a.5"),
            ("2024-01-01 00:00:00.5", "2024-01-01 00:00:00.5"),
        ];
        for (text, expected) in cases {
            assert_eq!(rounded(text), expected, "{text}");
        }
    }
}
