//! Asking the views: what the demo knows at one moment, by the same protocol as everybody else.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::error::{Error, Result, SqlState};

/// How long the demo waits for its own write to become visible before it says so.
const FRESHNESS_LIMIT: Duration = Duration::from_secs(5);

/// A result as text; NULL is `None`.
pub type Rows = Vec<Vec<Option<String>>>;

/// What the views say, with how fast they get to know it.
pub struct Picture {
    /// State, row count, bad records, watermark of the flights.
    pub flights: Option<Flights>,
    pub rows_per_s: f64,
    /// From the acknowledgement of a write in one session until a view over it shows it in another.
    pub freshness: Duration,
    /// Sections: a title, column names, rows.
    pub sections: Vec<Section>,
    /// (source, number of bad records, a reason).
    pub bad_records: Rows,
}

pub struct Flights {
    pub state: String,
    pub row_count: u64,
    pub watermark: Option<String>,
}

pub struct Section {
    pub title: &'static str,
    pub columns: &'static [&'static str],
    pub rows: Rows,
}

impl Picture {
    pub fn is_finished(&self) -> bool {
        self.flights.as_ref().is_some_and(|flights| flights.state == "finished")
    }
}

/// Title, columns, query.
const SECTIONS: &[(&str, &[&str], &str)] = &[
    (
        "departures by airport, the last hours",
        &["hour (UTC)", "airport", "scheduled", "departed", "mean delay", "longest"],
        "SELECT window_start, origin, scheduled, departed, round(CAST(mean_delay_min AS numeric(12,4)), 1), delay_min_max
         FROM departures ORDER BY window_start DESC, origin LIMIT 6",
    ),
    (
        "worst routes by mean delay on arrival",
        &["from", "to", "flights", "mean delay"],
        "SELECT r.origin, r.dest, r.flights, round(CAST(r.mean_delay_min AS numeric(12,4)), 1)
         FROM routes r WHERE r.flights >= 20 ORDER BY r.mean_delay_min DESC, r.dest LIMIT 5",
    ),
    (
        "airlines, with the seats of their planes",
        &["airline", "flights", "seats", "mean delay"],
        "SELECT airline, flights, seats, round(CAST(mean_delay_min AS numeric(12,4)), 1)
         FROM by_airline ORDER BY flights DESC, airline LIMIT 5",
    ),
    (
        "delay by how far one can see",
        &["airport", "sight", "flights", "mean delay"],
        "SELECT origin, sight, flights, round(CAST(mean_delay_min AS numeric(12,4)), 1) FROM by_sight ORDER BY origin, sight",
    ),
    ("cancelled (dep_time is NA, so NULL)", &["airport", "flights"], "SELECT origin, flights FROM cancelled ORDER BY origin"),
];

const FLIGHTS: &str = "SELECT state, row_count, watermark FROM hw_catalog.sources WHERE name = 'flights'";

const BAD_RECORDS: &str = "SELECT s.name, s.bad_record_count, min(e.reason)
    FROM hw_catalog.sources s JOIN hw_catalog.source_errors e ON e.source = s.name
    GROUP BY s.name, s.bad_record_count ORDER BY s.name";

/// Looks again and again, and remembers the last time for the rate.
pub struct Watch {
    reader: Client,
    writer: Client,
    heartbeat: i64,
    last: Option<(Instant, u64)>,
}

impl Watch {
    pub async fn start(reader: Client, writer: Client) -> Result<Watch> {
        Ok(Watch { reader, writer, heartbeat: 0, last: None })
    }

    pub async fn look(&mut self) -> Result<Picture> {
        let freshness = self.measure_freshness().await?;
        let mut flights = None;
        if let Some(row) = rows(&self.reader, FLIGHTS).await?.into_iter().next()
            && let [Some(state), Some(row_count), watermark] = row.as_slice()
        {
            let row_count = row_count.parse().map_err(|_| Error::internal("row_count is a whole number"))?;
            flights = Some(Flights { state: state.clone(), row_count, watermark: watermark.clone() });
        }
        let rows_per_s = self.rate(flights.as_ref().map_or(0, |flights| flights.row_count));
        let mut sections = vec![];
        for (title, columns, query) in SECTIONS {
            sections.push(Section { title, columns, rows: rows(&self.reader, query).await? });
        }
        let bad_records = rows(&self.reader, BAD_RECORDS).await?;
        Ok(Picture { flights, rows_per_s, freshness, sections, bad_records })
    }

    fn rate(&mut self, row_count: u64) -> f64 {
        let now = Instant::now();
        let rate = match self.last {
            Some((then, before)) => row_count.saturating_sub(before) as f64 / (now - then).as_secs_f64().max(1e-3),
            None => 0.0,
        };
        self.last = Some((now, row_count));
        rate
    }

    /// Writes in one session, and reads a view over it in the other until it is there.
    async fn measure_freshness(&mut self) -> Result<Duration> {
        self.heartbeat += 1;
        let write = format!("UPDATE heartbeats SET n = {} WHERE id = 1", self.heartbeat);
        self.writer.batch_execute(&write).await.map_err(client_error)?;
        let acknowledged = Instant::now();
        let expected = self.heartbeat.to_string();
        loop {
            let seen = rows(&self.reader, "SELECT n FROM last_heartbeat").await?;
            let elapsed = acknowledged.elapsed();
            if seen.first().and_then(|row| row.first()).and_then(Option::as_deref) == Some(expected.as_str()) {
                return Ok(elapsed);
            }
            if elapsed > FRESHNESS_LIMIT {
                return Err(Error::internal(format!("a write was acknowledged and is not visible after {elapsed:?}")));
            }
        }
    }
}

/// A session of the demo's own. 08006 if the server cannot be reached.
pub async fn connect(address: SocketAddr) -> Result<Client> {
    let (client, connection) = tokio_postgres::Config::new()
        .host(address.ip().to_string())
        .port(address.port())
        .user("root")
        .dbname("dev")
        .application_name("highwater demo")
        .connect(NoTls)
        .await
        .map_err(client_error)?;
    tokio::spawn(async move {
        // When the connection breaks, the client's next query says so.
        let _ = connection.await;
    });
    Ok(client)
}

async fn rows(client: &Client, query: &str) -> Result<Rows> {
    let messages = client.simple_query(query).await.map_err(client_error)?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_string)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}

/// What the server said, or that it could not be reached.
pub fn client_error(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(db) => {
            let told = Error::internal(format!("{} (SQLSTATE {})", db.message(), db.code().code()));
            match db.hint() {
                Some(hint) => told.with_hint(hint),
                None => told,
            }
        }
        None => Error::new(SqlState::CONNECTION_FAILURE, format!("lost the connection to the server: {error}")),
    }
}
